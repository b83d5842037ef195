"""Checkpoints of training states, by Orbax.

States are read back as plain trees and fitted to the state that is wanted, so
that checkpoints without what came later can still be read.
"""

from collections.abc import Callable
import contextlib
import os
import re
import shutil
from typing import Any
import warnings

from absl import logging
from etils import epath
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from idspn_jax import errors
from idspn_jax.runs import files
from idspn_jax.runs import quiet_orbax

_FOLDER = 'checkpoints'
# Where the old checkpoint of a step stays until its replacement is complete.
_REPLACED = 'checkpoints.replaced'
# In the name of a checkpoint that Orbax is writing.
_UNFINISHED = '.orbax-checkpoint-tmp'


class Damaged(Exception):
  """A checkpoint cannot be read, or lacks parts."""


def _folder(workdir):
  return os.path.abspath(os.path.join(workdir, _FOLDER))


def _steps_in(folder):
  try:
    with os.scandir(folder) as entries:
      # Only directories are checkpoints, and only names as Orbax writes them.
      return [
        int(entry.name)
        for entry in entries
        if re.fullmatch('0|[1-9][0-9]*', entry.name) and entry.is_dir()
      ]
  except (FileNotFoundError, NotADirectoryError):
    return []
  except OSError as e:
    raise files.cannot_read(folder, e) from e


def stored_steps(workdir: str) -> list[int]:
  """Steps of all complete checkpoints of a run, ascending; opens nothing."""
  folders = (_folder(workdir), os.path.join(workdir, _REPLACED))
  return sorted({step for folder in folders for step in _steps_in(folder)})


def _place(workdir, step):
  """Where a step's checkpoint is; aside if its replacement is not complete."""
  place = os.path.join(_folder(workdir), str(step))
  aside = os.path.abspath(os.path.join(workdir, _REPLACED, str(step)))
  return aside if not os.path.isdir(place) and os.path.isdir(aside) else place


def _reason(e):
  """One line on what went wrong, the system's own words where it has them."""
  text = ' '.join(str(e).split())
  # TensorStore: 'Failed to write 9 bytes: No space left [os_error_code=28]'.
  found = re.search(r'([^:]+) \[os_error_code=', text)
  if isinstance(e, OSError) and e.strerror:
    return e.strerror
  return found[1].strip() if found else f'{type(e).__name__}: {text}'[:200]


def read(workdir: str, step: int) -> dict[str, Any]:
  """Reads a checkpoint as nested dictionaries of NumPy arrays.

  Raises:
    Damaged: if it is not whole, or is of another step; says why.
    UserError: if the system refuses to read it.
  """
  path = epath.Path(_place(workdir, step)) / 'default'
  handler = ocp.PyTreeCheckpointHandler(
    multiprocessing_options=quiet_orbax.alone()
  )
  reason = None
  with warnings.catch_warnings():
    # Of coroutines that live as long as the error below.
    warnings.filterwarnings('ignore', 'coroutine .* was never awaited')
    try:
      with quiet_orbax.QuietOrbax():
        metadata = handler.metadata(path)
        arguments = jax.tree.map(
          lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata.tree
        )
        found = handler.restore(
          path, args=ocp.args.PyTreeRestore(restore_args=arguments)
        )
    except Exception as e:  # Orbax and TensorStore raise all kinds.
      reason = _reason(e)
  if reason:
    files.check_readable(_place(workdir, step))
    raise Damaged(reason)
  if not isinstance(found, dict) or 'params' not in found:
    raise Damaged('it holds no parameters')
  if not np.array_equal(own := found.get('step', step), step):
    raise Damaged(f'it holds the state of step {own}')
  return found


def check_seed(stored: dict[str, Any], seed: int, where: str) -> None:
  """Refuses the checkpoint of a run with another seed.

  Args:
    stored: what `read` has returned.
    seed: of the run in whose directory it lies.
    where: the checkpoint, for errors.

  Raises:
    UserError: naming both seeds.
  """
  if not np.array_equal(own := stored.get('seed', seed), seed):
    raise errors.UserError(
      f'The checkpoint {where} is of a run with seed {own}, but the run there '
      f'has config.seed={seed}. Put back its own checkpoints, or use another '
      '--workdir.'
    )


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
  have = by_name(stored)
  want = by_name(like)
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


def by_name(tree: Any) -> dict[str, Any]:
  """The arrays of a tree by names like `params/hidden/bias`."""
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

    Raises:
      UserError: if the directory cannot be created or written to.
    """
    self._workdir = workdir
    self._path = _folder(workdir)
    try:
      os.makedirs(self._path, exist_ok=True)
      self._recover()
      with quiet_orbax.QuietOrbax():
        self._manager = ocp.CheckpointManager(
          self._path,
          options=ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=False,
            # Else a save that fails leaves threads which wait for a directory,
            # and with them coroutines that Python warns about.
            async_options=ocp.AsyncOptions(
              create_directories_asynchronously=False
            ),
            multiprocessing_options=quiet_orbax.alone(),
          ),
          # Lets a fresh process read the shapes of what is stored.
          item_handlers=ocp.StandardCheckpointHandler(
            multiprocessing_options=quiet_orbax.alone()
          ),
        )
    except (OSError, ValueError) as e:
      raise self._cannot_save(e) from e
    self._quiet = contextlib.ExitStack()

  def __enter__(self):
    self._quiet.enter_context(quiet_orbax.QuietOrbax())
    return self

  def __exit__(self, kind, *_):
    with self._quiet:
      try:
        self.wait()
      except errors.UserError:
        if kind is None:
          raise
      finally:
        # Raises the error of a failed save again, once.
        for _ in range(2):
          with contextlib.suppress(Exception):
            self._manager.close()
        quiet_orbax.join_threads()
        self._recover()

  def _replaced(self, step=None):
    folder = os.path.join(os.path.dirname(self._path), _REPLACED)
    return folder if step is None else os.path.join(folder, str(step))

  def _recover(self):
    """Puts back what an incomplete replacement has set aside.

    Removes the rest of it, and of what was never written whole.
    """
    for name in self._unfinished():
      shutil.rmtree(os.path.join(self._path, name), ignore_errors=True)
    folder = self._replaced()
    for step in _steps_in(folder):
      place = os.path.join(self._path, str(step))
      if not os.path.exists(place):
        os.renames(self._replaced(step), place)
    shutil.rmtree(folder, ignore_errors=True)

  def _unfinished(self):
    names = os.listdir(self._path) if os.path.isdir(self._path) else []
    return [name for name in names if _UNFINISHED in name]

  def wait(self) -> None:
    """Waits until all checkpoints are written.

    Raises:
      UserError: if one could not be written.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as e:  # Orbax and TensorStore raise all kinds.
      # Threads that fail as well may log it later than this.
      self._quiet.pop_all()
      raise self._cannot_save(e) from e
    self._recover()

  def _cannot_save(self, e):
    return errors.UserError(
      f'Cannot write a checkpoint to {self._path}: {_reason(e)}. Earlier '
      'ones are kept; the same command continues once there is room.'
    )

  def latest(self) -> int | None:
    """The step of the newest checkpoint, or None."""
    return max(_steps_in(self._path), default=None)

  def save(self, step: int, state: Any, replace: bool = False) -> None:
    """Saves a state in the background.

    Args:
      step: its step.
      state: what to save; NumPy arrays if there are several processes.
      replace: an existing checkpoint of this step, which is kept aside until
        the new one is complete; else an existing one is left alone.

    Raises:
      UserError: if it, or the one before it, cannot be written.
    """
    # The manager also knows of the one that is being written.
    exists = step in {*_steps_in(self._path), *self._manager.all_steps()}
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
      self._quiet.pop_all()  # See `wait`.
      raise self._cannot_save(e) from e
    if exists:
      self.wait()

  def restore_newest(
    self,
    like: Any,
    complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda x: x,
    seed: int | None = None,
  ) -> tuple[int, Any] | None:
    """Reads the newest whole checkpoint.

    Damaged ones are reported and set aside, so that training can write their
    steps again.

    Args:
      like: a state of the expected structure, shapes and precision.
      complete: adds to a stored state what came later.
      seed: of the run; None to take any.

    Returns:
      Its step and state; None if there is no checkpoint.

    Raises:
      UserError: if the checkpoint is of another model or seed, all are
        damaged, or the system refuses to read or move one.
    """
    steps = sorted(_steps_in(self._path), reverse=True)
    damaged = {}
    for step in steps:
      try:
        stored = read(self._workdir, step)
      except Damaged as e:
        damaged[step] = e
        continue
      where = f'{self._path}/{step}'
      if seed is not None:
        check_seed(stored, seed, where)
      state = fit(complete(stored), like, where)
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
    try:
      os.makedirs(os.path.dirname(place), exist_ok=True)
      shutil.rmtree(place, ignore_errors=True)
      os.rename(os.path.join(self._path, str(step)), place)
    except OSError as e:
      with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(place))  # Unless it holds others.
      raise errors.UserError(
        f'The checkpoint of step {step} is damaged ({why}) and cannot be moved '
        f'to {place}: {e.strerror}. Check the permissions.'
      ) from e
    self._manager.reload()
    logging.warning(
      'The checkpoint of step %d is damaged (%s); moved to %s. Continuing '
      'from an older one.',
      step,
      why,
      place,
    )
