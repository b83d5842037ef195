"""Checkpoints of training states, by Orbax."""

import os
from typing import Any

import jax
import orbax.checkpoint as ocp

from idspn_jax import errors


def exist(workdir: str) -> bool:
  """Whether a run's directory has a place for checkpoints."""
  return os.path.isdir(os.path.join(workdir, 'checkpoints'))


class Checkpoints:
  """The checkpoints in a run's directory; usable as a context manager."""

  def __init__(self, workdir: str, keep: int = 2):
    """Opens (and creates) `workdir/checkpoints`.

    Args:
      workdir: the run's directory.
      keep: how many of the latest to keep.
    """
    self._path = os.path.abspath(os.path.join(workdir, 'checkpoints'))
    self._manager = ocp.CheckpointManager(
      self._path,
      options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
      # Lets a fresh process read the shapes of what is stored.
      item_handlers=ocp.StandardCheckpointHandler(),
    )

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._manager.wait_until_finished()
    self._manager.close()

  def latest(self) -> int | None:
    """The step of the newest complete checkpoint, or None."""
    return self._manager.latest_step()

  def steps(self) -> list[int]:
    """Steps of all checkpoints."""
    return sorted(self._manager.all_steps())

  def save(self, step: int, state: Any, replace: bool = False) -> None:
    """Saves a state in the background.

    Args:
      step: its step.
      state: what to save.
      replace: an existing checkpoint of this step; else it is left alone.
    """
    exists = step in self._manager.all_steps()
    if exists and replace:
      self._manager.delete(step)
    if replace or not exists:
      self._manager.save(step, args=ocp.args.StandardSave(state), force=True)

  def restore(self, step: int, like: Any) -> Any:
    """Reads a checkpoint.

    Args:
      step: one of `steps()`.
      like: a state of the expected structure, shapes and placement.

    Returns:
      The state.

    Raises:
      UserError: if the checkpoint has another structure or other shapes.
    """
    wanted = _shapes(like)
    stored = _shapes(self._manager.item_metadata(step))
    differing = [
      f'{name} is {stored.get(name, "missing")} in the checkpoint and '
      f'{wanted.get(name, "missing")} in this model'
      for name in sorted({*wanted, *stored})
      if wanted.get(name) != stored.get(name)
    ]
    if differing:
      raise errors.UserError(
        f'The checkpoint {self._path}/{step} is of another model: '
        f'{differing[0]} ({len(differing)} arrays differ). Use the config '
        'that it was trained with, or another --workdir.'
      )
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))


def _shapes(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    '/'.join(_key(k) for k in path): tuple(leaf.shape)
    for path, leaf in leaves
    if hasattr(leaf, 'shape')
  }


def _key(key):
  for name in ('name', 'key', 'idx'):
    if hasattr(key, name):
      return str(getattr(key, name))
  return str(key)
