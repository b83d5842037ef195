"""Runs on shared storage, here a bucket in memory."""

import json
import os
import signal

import chex
from etils import epath
from etils.epath import backend
from fsspec.implementations import memory
import pytest

from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import loading
from idspn_jax.runs import remote
from idspn_jax.training import loop
from idspn_jax.training import reproduction
from tests.training import fakes
from tests.training import toy

ADDRESS = 'gs://bucket/some/run'


class Bucket(memory.MemoryFileSystem):
  """Holds `gs://` addresses; may refuse to write.

  Attributes:
    writes_left: how many files can still be written; None for any number.
  """

  protocol = ('gcs', 'gs')
  cachable = False
  store = {}
  pseudo_dirs = ['']
  writes_left = None

  @classmethod
  def _strip_protocol(cls, path):
    path = os.fspath(path).removeprefix('gs://').removeprefix('gcs://')
    return '/' + path.strip('/') if path.strip('/') else ''

  def open(self, path, mode='rb', **options):
    if 'w' in mode and Bucket.writes_left is not None:
      if not Bucket.writes_left:
        raise OSError('quota exceeded')
      Bucket.writes_left -= 1
    return super().open(path, mode, **options)


def use(monkeypatch, file_system):
  """Lets `epath` reach addresses through this."""
  kind = type(backend.fsspec_backend)
  monkeypatch.setattr(kind, 'fs', file_system)


@pytest.fixture
def bucket(monkeypatch):
  """An empty bucket behind `epath`."""
  monkeypatch.setattr(Bucket, 'store', {})
  monkeypatch.setattr(Bucket, 'pseudo_dirs', [''])
  monkeypatch.setattr(Bucket, 'writes_left', None)
  monkeypatch.setenv('EPATH_USE_TF', 'false')
  use(monkeypatch, lambda self, path: Bucket())
  return Bucket


@pytest.fixture(scope='module')
def local(tmp_path_factory):
  """The same run in a local directory."""
  workdir = tmp_path_factory.mktemp('local')
  return workdir, train(str(workdir))


def config_of(**changes):
  return toy.get_config(
    toy__selection='score', eval_every=2, checkpoint_every=1, **changes
  )


def train(place, **changes):
  return loop.train_and_evaluate(config_of(**changes), place, task=toy.build)


def rows(text):
  found = [json.loads(line) for line in text.splitlines()]
  for row in found:
    row.pop('train/steps_per_second', None)
  return found


def check_same(local, result):
  """The remote run holds what the local one does."""
  workdir, expected = local
  place = epath.Path(ADDRESS)
  assert result['metrics'] == expected['metrics']
  assert json.loads((place / 'result.json').read_text())['step'] == 6
  there = rows((place / 'scalars.jsonl').read_text())
  assert there == rows((workdir / 'scalars.jsonl').read_text('utf-8'))
  folder = place / 'checkpoints'
  stored = {child.name.partition('.')[0] for child in folder.iterdir()}
  assert stored == {'5', '6'} and len(list(folder.iterdir())) == 2
  assert not (place / 'owner.json').exists()
  run = loading.load_run(ADDRESS, task=toy.build)
  assert run.workdir == ADDRESS
  chex.assert_trees_all_equal(
    run.variables, loading.load_run(str(workdir), task=toy.build).variables
  )


def test_a_run_is_what_it_is_locally(bucket, local):
  check_same(local, train(ADDRESS))
  # Nothing is left to do.
  assert train(ADDRESS)['step'] == 6


def test_is_continued_after_a_signal(bucket, local, monkeypatch):
  with monkeypatch.context() as patch:
    fakes.interrupt(patch, signal.SIGTERM, at=4)
    with pytest.raises(loop.Interrupted):
      train(ADDRESS)
  names = {child.name for child in epath.Path(ADDRESS).iterdir()}
  assert names == {
    'checkpoints',
    'config.json',
    'environment.json',
    'scalars.jsonl',
    'tensorboard',
  }
  check_same(local, train(ADDRESS))


@pytest.mark.parametrize('writes', [0, 1, 5, 9, 13, 17, 30, 45])
def test_storage_that_fails_loses_nothing(bucket, local, writes, capfd):
  bucket.writes_left = writes
  with pytest.raises(errors.UserError, match=f'{ADDRESS}.*quota exceeded'):
    train(ADDRESS)
  bucket.writes_left = None
  complete = remote._newest(epath.Path(ADDRESS))
  check_same(local, train(ADDRESS))
  # How many writes come before the first checkpoint depends on the time.
  assert writes < 45 or complete
  assert 'Traceback' not in capfd.readouterr().err


def test_a_checkpoint_is_whole_or_not_there(bucket):
  train(ADDRESS, steps=3)
  newest = remote._newest(epath.Path(ADDRESS))
  (newest[3] / 'UPLOADED').unlink()
  with remote.fetched(ADDRESS) as copy:
    assert checkpoints.stored_steps(copy) == [2]
  assert not os.path.exists(copy)


def test_a_reproduction_is_fetched(bucket, monkeypatch):
  def changed(data, step, batch):
    return {**batch, 'x': batch['x'] * float('nan')} if step == 3 else batch

  fakes.change_batches(monkeypatch, changed)
  result = train(ADDRESS)
  assert result['diverged'] and result['reproduction'] == 'reproduction'
  stored = json.loads((epath.Path(ADDRESS) / 'result.json').read_text())
  assert stored['reproduction'] == 'reproduction'
  for place in (ADDRESS, f'{ADDRESS}/', f'{ADDRESS}/reproduction'):
    with reproduction.opened(place) as folder:
      assert reproduction.replay(folder, toy.build).batch == 3
    assert not os.path.exists(folder)
  # A call that ends otherwise removes it.
  assert not train(ADDRESS, on_nonfinite='skip')['diverged']
  assert not (epath.Path(ADDRESS) / 'reproduction').exists()
  with pytest.raises(errors.UserError, match=f'{ADDRESS} holds no reprod'):
    with reproduction.opened(ADDRESS):
      pass


def test_who_comes_second_goes_on(bucket):
  with pytest.raises(errors.UserError, match='now trained by process'):
    with remote.Mirror(ADDRESS) as first:
      with remote.Mirror(ADDRESS):
        first.send_later()
        first.wait()


class TestAddresses:
  def test_a_missing_package_is_named(self, monkeypatch, tmp_path):
    def missing(self, path):
      raise ImportError(f'Please install what opens {path}')

    use(monkeypatch, missing)
    monkeypatch.setenv('EPATH_USE_TF', 'false')
    for scheme, package in (('gs', 'gcsfs'), ('s3', 's3fs'), ('az', 'adlfs')):
      with pytest.raises(errors.UserError, match=f'pip install {package}'):
        train(f'{scheme}://bucket/run')
      with pytest.raises(errors.UserError, match=f'pip install {package}'):
        loading.load_run(f'{scheme}://bucket/run')

  def test_that_hold_no_runs(self):
    with pytest.raises(errors.UserError, match='https:// is no shared storage'):
      train('https://host/run')

  def test_without_a_run(self, bucket):
    with pytest.raises(errors.UserError, match='holds no run'):
      loading.load_run(ADDRESS)
