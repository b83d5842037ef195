"""Sampled scenes on disk, so that they are drawn once."""

from collections.abc import Callable
import os
import pathlib

from absl import logging
import numpy as np

from idspn_jax.data import local_paths
from idspn_jax.data import set_files


def stored_scenes(
  path: str | os.PathLike[str],
  shape: tuple[int, ...],
  draw: Callable[[], np.ndarray],
) -> np.ndarray:
  """Reads features of scenes from a file, or draws them and writes it.

  A file that is damaged or of another shape is written anew. Where nothing can
  be written the scenes are drawn every time, and a warning says so.

  Args:
    path: an `.npz` file; its folder is made if it is missing.
    shape: of the features.
    draw: makes them.

  Returns:
    Features, float32.

  Raises:
    ValueError: if the path is an address of another machine.
  """
  path = local_paths.local_path(path)
  found = _read(path)
  if found is not None and found.shape == shape:
    return found
  found = draw()
  temporary = pathlib.Path(f'{path}.{os.getpid()}.tmp')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
      with open(temporary, 'wb') as f:
        np.savez_compressed(f, features=found)
        f.flush()
        os.fsync(f.fileno())
      os.replace(temporary, path)
    finally:
      temporary.unlink(missing_ok=True)
  except OSError as e:
    logging.warning(
      'Cannot keep scenes in %s (%s); they are drawn again next time.',
      path,
      e.strerror or e,
    )
  return found


def _read(path):
  """The features of a file; None if there is none, or it is damaged."""
  if not os.path.lexists(path):
    return None
  try:
    local_paths.check_inside(path.parent, path)
    (features,) = set_files.read_arrays(path, ('features',))
  except ValueError:
    features = np.zeros(0)  # Of another type.
  if features.dtype != np.float32 or not np.all(np.isfinite(features)):
    logging.warning('%s is damaged; its scenes are drawn again.', path)
    return None
  return features
