"""Checkpoints of training states, by Orbax.

States are read back as plain trees and fitted to the state that is wanted, so
that checkpoints without what came later can still be read.
"""

import asyncio
import contextlib
import os
import shutil
from typing import Any

from absl import logging
from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from idspn_jax import errors

_FOLDER = 'checkpoints'
# Where the old checkpoint of a step stays until its replacement is complete.
_REPLACED = 'checkpoints.replaced'


class Damaged(Exception):
  """A checkpoint cannot be read, or lacks parts."""


def _folder(workdir):
  return os.path.abspath(os.path.join(workdir, _FOLDER))


def stored_steps(workdir: str) -> list[int]:
  """Steps of all complete checkpoints of a run, ascending; opens nothing."""
  folder = _folder(workdir)
  names = os.listdir(folder) if os.path.isdir(folder) else []
  return sorted(int(name) for name in names if name.isdigit())


class _DrainingLoop(asyncio.SelectorEventLoop):
  """Waits for all array reads before it closes.

  After a read that fails, Orbax closes its event loop while the others go on,
  and each of them then prints a traceback.
  """

  def close(self):
    if not self.is_closed():
      pending = asyncio.all_tasks(self)
      if pending:
        self.run_until_complete(
          asyncio.gather(*pending, return_exceptions=True)
        )
    super().close()


class _DrainingPolicy(asyncio.DefaultEventLoopPolicy):
  def new_event_loop(self):
    return _DrainingLoop()


@contextlib.contextmanager
def _draining_event_loops():
  before = asyncio.get_event_loop_policy()
  asyncio.set_event_loop_policy(_DrainingPolicy())
  try:
    yield
  finally:
    asyncio.set_event_loop_policy(before)


def read(workdir: str, step: int) -> dict[str, Any]:
  """Reads a checkpoint as nested dictionaries of NumPy arrays.

  Raises:
    Damaged: if it cannot be read; says why.
  """
  path = epath.Path(_folder(workdir)) / str(step) / 'default'
  handler = ocp.PyTreeCheckpointHandler()
  try:
    with _draining_event_loops():
      metadata = handler.metadata(path)
      arguments = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.tree
      )
      found = handler.restore(
        path, args=ocp.args.PyTreeRestore(restore_args=arguments)
      )
  except Exception as e:  # Orbax and TensorStore raise all kinds.
    raise Damaged(' '.join(f'{type(e).__name__}: {e}'.split())[:200]) from e
  if not isinstance(found, dict) or 'params' not in found:
    raise Damaged('it holds no parameters')
  return found


def fit(stored: Any, like: Any, where: str) -> Any:
  """Puts stored arrays into the structure of `like`.

  Args:
    stored: nested dictionaries of arrays.
    like: a tree of arrays of the expected shapes and precision.
    where: the checkpoint, for errors.

  Returns:
    A tree like `like`.

  Raises:
    UserError: if arrays are missing, left over, or of other shapes or
      precision.
  """
  have = _flat(stored)
  want = _flat(like)
  differing = [
    f'{name} is {_describe(have.get(name))} in the checkpoint and '
    f'{_describe(want.get(name))} in this model'
    for name in sorted({*want, *have})
    if _describe(want.get(name)) != _describe(have.get(name))
  ]
  if differing:
    raise errors.UserError(
      f'The checkpoint {where} is of another model: {differing[0]} '
      f'({len(differing)} arrays differ). Use the config that it was trained '
      'with (and JAX_ENABLE_X64 as then), or another --workdir.'
    )
  return jax.tree_util.tree_map_with_path(
    lambda path, _: jnp.asarray(have[_name(path)]), like
  )


def _flat(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {_name(path): leaf for path, leaf in leaves}


def _name(path):
  return '/'.join(_key(key) for key in path)


def _key(key):
  for name in ('name', 'key', 'idx'):
    if hasattr(key, name):
      return str(getattr(key, name))
  return str(key)


def _describe(leaf):
  if leaf is None:
    return 'missing'
  shape = ' x '.join(map(str, np.shape(leaf))) or 'scalar'
  return f'{leaf.dtype} {shape}'


class Checkpoints:
  """The checkpoints in a run's directory, for its training to write.

  Usable as a context manager.
  """

  def __init__(self, workdir: str, keep: int = 2):
    """Opens (and creates) `workdir/checkpoints`.

    Args:
      workdir: the run's directory.
      keep: how many of the latest to keep.
    """
    self._workdir = workdir
    self._path = _folder(workdir)
    self._recover()
    self._manager = ocp.CheckpointManager(
      self._path,
      options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
      # Lets a fresh process read the shapes of what is stored.
      item_handlers=ocp.StandardCheckpointHandler(),
    )

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    try:
      self.wait()
    except errors.UserError:
      if kind is None:
        raise
    finally:
      self._manager.close()

  def _replaced(self, step=None):
    folder = os.path.join(os.path.dirname(self._path), _REPLACED)
    return folder if step is None else os.path.join(folder, str(step))

  def _recover(self):
    """Puts back what a replacement that never completed had set aside."""
    folder = self._replaced()
    if not os.path.isdir(folder):
      return
    for name in os.listdir(folder):
      place = os.path.join(self._path, name)
      if not os.path.exists(place):
        os.rename(os.path.join(folder, name), place)
    shutil.rmtree(folder)

  def wait(self) -> None:
    """Waits until all checkpoints are written.

    Raises:
      UserError: if one could not be written.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as e:  # Orbax and TensorStore raise all kinds.
      raise self._cannot_save(e) from e
    shutil.rmtree(self._replaced(), ignore_errors=True)

  def _cannot_save(self, e):
    reason = ' '.join(str(e).split())[:200]
    return errors.UserError(
      f'Cannot write a checkpoint to {self._path}: {reason}. Earlier ones '
      'are still there; the same command continues from them.'
    )

  def latest(self) -> int | None:
    """The step of the newest checkpoint, or None."""
    return self._manager.latest_step()

  def save(self, step: int, state: Any, replace: bool = False) -> None:
    """Saves a state in the background.

    Args:
      step: its step.
      state: what to save.
      replace: an existing checkpoint of this step, which is kept aside until
        the new one is complete; else an existing one is left alone.

    Raises:
      UserError: if it, or the one before it, cannot be written.
    """
    exists = step in self._manager.all_steps()
    if exists and not replace:
      return
    try:
      if exists:
        self._manager.wait_until_finished()
        os.makedirs(self._replaced(), exist_ok=True)
        os.rename(os.path.join(self._path, str(step)), self._replaced(step))
        self._manager.reload()
      self._manager.save(step, args=ocp.args.StandardSave(state), force=True)
    except Exception as e:  # Orbax and TensorStore raise all kinds.
      raise self._cannot_save(e) from e
    if exists:
      self.wait()

  def restore_newest(self, like: Any) -> tuple[int, Any] | None:
    """Reads the newest whole checkpoint.

    Damaged ones are reported and set aside, so that training can write their
    steps again.

    Args:
      like: a state of the expected structure, shapes and precision.

    Returns:
      Its step and state; None if there is no checkpoint.

    Raises:
      UserError: if the checkpoint is of another model, or all are damaged.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    damaged = {}
    for step in steps:
      try:
        stored = read(self._workdir, step)
      except Damaged as e:
        damaged[step] = e
        continue
      state = fit(stored, like, f'{self._path}/{step}')
      for bad, why in damaged.items():
        self._set_aside(bad, why)
      return step, state
    if damaged:
      listed = '; '.join(f'step {s}: {e}' for s, e in damaged.items())
      raise errors.UserError(
        f'All checkpoints in {self._path} are damaged ({listed}). Restore '
        'them, or use another --workdir.'
      )
    return None

  def _set_aside(self, step, why):
    place = os.path.join(self._workdir, f'checkpoints.damaged/{step}')
    os.makedirs(os.path.dirname(place), exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    os.rename(os.path.join(self._path, str(step)), place)
    self._manager.reload()
    logging.warning(
      'The checkpoint of step %d is damaged (%s); moved to %s. Continuing '
      'from an older one.',
      step,
      why,
      place,
    )
