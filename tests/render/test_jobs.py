"""Jobs in this process and in others."""

import os

import pytest

from idspn_jax.render import jobs


def write_threads(path):
  """Writes down how many threads JAX may use; a job of one unit."""
  with open(path, 'w') as f:
    f.write(os.environ.get('NPROC', 'all'))
  return 1


def read(path):
  with open(path) as f:
    return f.read()


@pytest.fixture
def paths(tmp_path, monkeypatch):
  monkeypatch.delenv('NPROC', raising=False)
  return [str(tmp_path / name) for name in 'ab']


def test_this_process_stays_as_it_is(paths):
  jobs.run_all(write_threads, paths, 1, 2, 'files')
  assert [read(path) for path in paths] == ['all', 'all']


def test_other_processes_use_one_thread_each(paths):
  jobs.run_all(write_threads, paths, 2, 2, 'files')
  assert [read(path) for path in paths] == ['1', '1']
  assert 'NPROC' not in os.environ


def test_a_choice_is_kept(paths, monkeypatch):
  monkeypatch.setenv('NPROC', '3')
  jobs.run_all(write_threads, paths, 2, 2, 'files')
  assert [read(path) for path in paths] == ['3', '3']


def test_no_processes_are_refused(paths):
  with pytest.raises(ValueError, match='0 processes'):
    jobs.run_all(write_threads, paths, 0, 2, 'files')
