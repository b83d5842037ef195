"""Checkpoints: damaged ones, replaced ones, and disks that are full."""

import errno
import gc
import os
import pathlib
import shutil
import sys
import threading

import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.training import loop

LIKE = {
  'params': {'a': jnp.zeros((3, 2)), 'b': jnp.zeros(4)},
  'step': jnp.int32(0),
}


def state(value, step=None):
  params = {'a': jnp.full((3, 2), value + 0.5), 'b': jnp.arange(4.0) + value}
  return {
    'params': params,
    'step': jnp.int32(value if step is None else step),
  }


def value(found):
  return float(found['params']['a'][0, 0]) - 0.5


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """A directory with checkpoints of steps 10 and 20."""
  workdir = tmp_path_factory.mktemp('written')
  with checkpoints.Checkpoints(str(workdir), 2) as saved:
    saved.save(10, state(10))
    saved.save(20, state(20))
  return workdir


@pytest.fixture
def workdir(written, tmp_path):
  """A copy of it, to damage."""
  return pathlib.Path(shutil.copytree(written, tmp_path / 'run'))


def resume(workdir):
  with checkpoints.Checkpoints(str(workdir), 2) as saved:
    return saved.restore_newest(LIKE)


def remove(path):
  shutil.rmtree(path) if path.is_dir() else path.unlink()


def truncate_data(step):
  files = [p for p in step.rglob('*') if p.parent.name == 'd']
  assert files
  for path in files:
    os.truncate(path, 10)


DAMAGES = {
  'an empty directory': lambda step: (remove(step), step.mkdir()),
  'a file': lambda step: (remove(step), step.touch()),
  'no item': lambda step: remove(step / 'default'),
  'a file as item': lambda step: (
    remove(step / 'default'),
    (step / 'default').touch(),
  ),
  'no metadata': lambda step: remove(step / 'default' / '_METADATA'),
  'half the metadata': lambda step: os.truncate(
    step / 'default' / '_METADATA', 50
  ),
  'no manifest': lambda step: remove(step / 'default' / 'manifest.ocdbt'),
  'truncated data': truncate_data,
}


class TestDamage:
  @pytest.mark.parametrize('damage', DAMAGES.values(), ids=DAMAGES.keys())
  def test_resuming_takes_the_newest_whole_one(self, damage, workdir, capfd):
    damage(workdir / 'checkpoints' / '20')
    with checkpoints.Checkpoints(str(workdir), 2) as saved:
      step, found = saved.restore_newest(LIKE)
      assert step == 10 and value(found) == 10
      saved.save(20, state(21, 20))
      saved.save(30, state(30))
    assert value(checkpoints.read(str(workdir), 30)) == 30
    assert 'Traceback' not in capfd.readouterr().err

  def test_resuming_says_so_and_keeps_the_damaged_one(self, workdir, caplog):
    remove(workdir / 'checkpoints' / '20' / 'default' / '_METADATA')
    assert resume(workdir)[0] == 10
    assert 'step 20 is damaged' in caplog.text
    assert (workdir / 'checkpoints.damaged' / '20' / 'default').is_dir()

  def test_all(self, workdir):
    for step in ('10', '20'):
      remove(workdir / 'checkpoints' / step / 'default')
    with pytest.raises(errors.UserError, match='All checkpoints.*20.*10'):
      resume(workdir)

  @pytest.mark.parametrize('number', [errno.EACCES, errno.EIO])
  def test_what_the_system_refuses_is_not_damaged(
    self, number, workdir, monkeypatch
  ):
    remove(workdir / 'checkpoints' / '20' / 'default' / '_METADATA')

    def refuse(path, mode):
      raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(files, 'open', refuse, raising=False)
    message = f'Cannot read .*checkpoints/20: {os.strerror(number)}'
    with pytest.raises(errors.UserError, match=message):
      resume(workdir)
    with pytest.raises(errors.UserError, match=message):
      loading._read_checkpoint(str(workdir), None)
    assert {p.name for p in workdir.iterdir()} == {'checkpoints'}
    assert checkpoints.stored_steps(str(workdir)) == [10, 20]

  def test_one_that_cannot_be_moved(self, workdir, monkeypatch):
    remove(workdir / 'checkpoints' / '20' / 'default' / '_METADATA')

    def refuse(old, new):
      raise PermissionError(errno.EACCES, 'Permission denied', old)

    monkeypatch.setattr(os, 'rename', refuse)
    with pytest.raises(errors.UserError, match='20 is damaged.*cannot be mov'):
      resume(workdir)
    assert {p.name for p in workdir.iterdir()} == {'checkpoints'}

  def test_a_folder_that_cannot_be_listed(self, workdir, monkeypatch):
    def refuse(path):
      raise PermissionError(errno.EACCES, 'Permission denied', path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(errors.UserError, match='Cannot read .*checkpoints: P'):
      checkpoints.stored_steps(str(workdir))

  def test_evaluation_names_the_other_one(self, workdir):
    truncate_data(workdir / 'checkpoints' / '20')
    with pytest.raises(errors.UserError, match='20 is damaged.*--step=10'):
      loading._read_checkpoint(str(workdir), None)
    assert loading._read_checkpoint(str(workdir), 10)[0] == 10

  def test_evaluation_without_another_one(self, workdir):
    remove(workdir / 'checkpoints' / '10')
    truncate_data(workdir / 'checkpoints' / '20')
    with pytest.raises(errors.UserError, match='20 is damaged.*train again'):
      loading._read_checkpoint(str(workdir), None)

  def test_other_names_are_no_checkpoints(self, workdir):
    for name in ('007', 'notes', '30.orbax-checkpoint-tmp'):
      (workdir / 'checkpoints' / name).mkdir()
    (workdir / 'checkpoints' / '40').touch()
    assert checkpoints.stored_steps(str(workdir)) == [10, 20]
    assert resume(workdir)[0] == 20

  def test_a_file_in_the_place_of_all(self, tmp_path):
    (tmp_path / 'checkpoints').touch()
    with pytest.raises(errors.UserError, match='Cannot write a checkpoint'):
      checkpoints.Checkpoints(str(tmp_path))


class TestContentOfAnotherPlace:
  """Whole checkpoints that lie where they do not belong."""

  def test_of_another_step(self, workdir, caplog):
    places = workdir / 'checkpoints'
    os.rename(places / '20', places / '15')
    with pytest.raises(checkpoints.Damaged, match='the state of step 20'):
      checkpoints.read(str(workdir), 15)
    assert resume(workdir)[0] == 10
    assert 'step 15 is damaged (it holds the state of step 20)' in caplog.text
    assert (workdir / 'checkpoints.damaged' / '15').is_dir()

  def test_of_another_step_alone(self, workdir):
    places = workdir / 'checkpoints'
    remove(places / '10')
    os.rename(places / '20', places / '25')
    with pytest.raises(errors.UserError, match='step 25: .* state of step 20'):
      resume(workdir)

  def test_of_another_seed(self, small, tmp_path):
    for seed in (0, 1):
      workdir = str(tmp_path / str(seed))
      loop.train_and_evaluate(small(steps=2, seed=seed), workdir)
    remove(tmp_path / '0' / 'checkpoints')
    shutil.copytree(tmp_path / '1' / 'checkpoints', tmp_path / '0/checkpoints')
    told = 'of a run with seed 1, .* config.seed=0.*another --workdir'
    with pytest.raises(errors.UserError, match=told):
      loop.train_and_evaluate(small(steps=4), str(tmp_path / '0'))
    with pytest.raises(errors.UserError, match=told):
      loading.load_run(str(tmp_path / '0'))


class TestReading:
  def test_changes_nothing(self, workdir):
    def times():
      return {p: p.stat().st_mtime_ns for p in sorted(workdir.rglob('*'))}

    before = times()
    assert checkpoints.stored_steps(str(workdir)) == [10, 20]
    checkpoints.read(str(workdir), 20)
    assert times() == before

  def test_of_an_unknown_kind_of_array(self, workdir, monkeypatch):
    """Orbax leaves coroutines behind, about which Python warns."""
    told = []
    monkeypatch.setattr(sys, 'unraisablehook', told.append)
    path = workdir / 'checkpoints' / '20' / 'default' / '_METADATA'
    before, kind, after = path.read_text().rpartition('jax.Array')
    assert kind
    path.write_text(f'{before}array{after}')
    with pytest.raises(checkpoints.Damaged, match='Unknown type: "array"'):
      checkpoints.read(str(workdir), 20)
    gc.collect()
    assert not told

  def test_looks_again_when_a_training_removes_it(self, workdir, monkeypatch):
    read, places = checkpoints.read, workdir / 'checkpoints'

    def read_while_training(workdir, step):
      if (places / '20').exists():
        with checkpoints.Checkpoints(workdir, 1) as saved:
          saved.save(30, state(30))
        assert not (places / '20').exists()
        raise checkpoints.Damaged('gone')
      return read(workdir, step)

    monkeypatch.setattr(checkpoints, 'read', read_while_training)
    assert loading._read_checkpoint(str(workdir), None)[0] == 30

  def test_other_precision(self, workdir, x64):
    like = {**LIKE, 'params': {**LIKE['params'], 'b': jnp.zeros(4)}}
    stored = checkpoints.read(str(workdir), 20)
    with pytest.raises(errors.UserError, match='float32 4.*float64 4'):
      checkpoints.fit(stored, like, 'here')


class TestReplacing:
  def test_keeps_the_new_one(self, workdir):
    with checkpoints.Checkpoints(str(workdir), 2) as saved:
      saved.save(20, state(99, 20), replace=True)
      saved.save(20, state(5, 20))
    assert value(checkpoints.read(str(workdir), 20)) == 99
    assert sorted(os.listdir(workdir)) == ['checkpoints']

  @pytest.mark.parametrize('stage', ['aside', 'writing', 'written'])
  def test_a_process_killed_in_between_loses_nothing(self, stage, workdir):
    replaced = workdir / 'checkpoints.replaced'
    places = workdir / 'checkpoints'
    replaced.mkdir()
    if stage == 'written':
      shutil.copytree(places / '10', replaced / '20')
    else:
      os.rename(places / '20', replaced / '20')
    if stage == 'writing':
      (places / '20.orbax-checkpoint-tmp').mkdir()
    # A reader finds it before any training has put it back.
    assert checkpoints.stored_steps(str(workdir)) == [10, 20]
    assert value(checkpoints.read(str(workdir), 20)) == 20
    step, found = resume(workdir)
    assert step == 20 and value(found) == 20
    assert sorted(os.listdir(workdir)) == ['checkpoints']
    assert sorted(os.listdir(places)) == ['10', '20']

  @pytest.mark.parametrize('failing', ['save', 'wait_until_finished'])
  def test_a_failure_puts_the_old_one_back(self, failing, workdir, monkeypatch):
    with pytest.raises(errors.UserError, match='No space left'):
      with checkpoints.Checkpoints(str(workdir), 2) as saved:

        def fail(*_, **__):
          # Once: then the error has been told.
          monkeypatch.undo()
          raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        if failing == 'save':
          monkeypatch.setattr(saved._manager, 'save', fail)
        else:
          monkeypatch.setattr(saved._manager, 'save', lambda *_, **__: None)
          monkeypatch.setattr(saved, 'wait', lambda: fail())
        try:
          saved.save(20, state(99, 20), replace=True)
        except OSError as e:
          raise saved._cannot_save(e) from e
    assert value(checkpoints.read(str(workdir), 20)) == 20
    assert sorted(os.listdir(workdir)) == ['checkpoints']


def test_a_failure_leaves_no_thread_behind(tmp_path, monkeypatch):
  """One that waits on warns of its coroutine when it ends, much later."""
  before = set(threading.enumerate())
  mkdir = os.mkdir

  def full(path, *args, **kwargs):
    if 'checkpoints' in os.fspath(path):
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return mkdir(path, *args, **kwargs)

  with pytest.raises(errors.UserError, match='No space left'):
    with checkpoints.Checkpoints(str(tmp_path), 2) as saved:
      with monkeypatch.context() as patched:
        patched.setattr(os, 'mkdir', full)
        saved.save(10, state(10))
        saved.wait()
  for thread in set(threading.enumerate()) - before:
    thread.join(10)
    assert not thread.is_alive(), thread


def test_the_reason_is_the_system_s():
  e = ValueError(
    'RESOURCE_EXHAUSTED: Error writing "a/b": Failed to write 9 bytes to file '
    "17: No space left on device [os_error_code='28']"
  )
  assert checkpoints._reason(e) == 'No space left on device'
  assert checkpoints._reason(ValueError('odd\n thing')) == (
    'ValueError: odd thing'
  )
  assert np.all(len(checkpoints._reason(ValueError('x' * 999))) <= 200)
