"""Finds and reads picture files that a user names."""

from collections.abc import Sequence
import glob
import os

import numpy as np

from idspn_jax import errors
from idspn_jax.data import local_paths
from idspn_jax.data import pictures

# Of the files that are taken from a folder.
SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.gif', '.tif', '.tiff', '.webp')


def find(places: Sequence[str]) -> list[str]:
  """Lists the pictures of files, folders and patterns.

  Args:
    places: paths of files, whatever their suffix; of folders, of which files
      with one of `SUFFIXES` are taken, not those of folders inside; or
      patterns like `val/*.png`, likewise.

  Returns:
    Paths; those of a folder or a pattern sorted, each once.

  Raises:
    UserError: naming a place that does not exist or holds no picture.
  """
  found: list[str] = []
  for place in places:
    try:
      path = str(local_paths.local_path(place))
    except ValueError as e:
      raise errors.UserError(f'--images: {e}') from e
    if not place.strip():
      raise errors.UserError('--images has an empty name; give pictures.')
    if os.path.isdir(path):
      found += _of_folder(path)
    elif os.path.exists(path):
      found.append(path)
    else:
      found += _of_pattern(path)
  if not found:
    raise errors.UserError('--images is empty; give pictures.')
  return list(dict.fromkeys(found))


def is_name(name: str) -> bool:
  """Whether a file of that base name is a picture; hidden ones are not."""
  return name.lower().endswith(SUFFIXES) and not name.startswith('.')


def _is_picture(path):
  return is_name(os.path.basename(path)) and os.path.isfile(path)


def _of_folder(folder):
  try:
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
  except OSError as e:
    raise errors.UserError(
      f'--images: {folder}: cannot be read ({e.strerror}); check its '
      'permissions.'
    ) from e
  chosen = [path for path in paths if _is_picture(path)]
  if not chosen:
    raise errors.UserError(
      f'--images: {folder} holds no {", ".join(SUFFIXES)} file; give a folder '
      'with pictures, or the files themselves.'
    )
  return chosen


def _of_pattern(pattern):
  if not glob.has_magic(pattern):
    raise errors.UserError(
      f'--images: {pattern}: no such file or folder; check the path.'
    )
  chosen = [path for path in sorted(glob.glob(pattern)) if _is_picture(path)]
  if not chosen:
    raise errors.UserError(
      f'--images: no {", ".join(SUFFIXES)} file is called like {pattern}; '
      'check the pattern.'
    )
  return chosen


def names(paths: Sequence[str]) -> list[str]:
  """Base names of files; whole paths where two have the same base name."""
  short = [os.path.basename(path) for path in paths]
  return short if len({*short}) == len(short) else list(paths)


def read(paths: Sequence[str], image_size: int) -> np.ndarray:
  """Reads pictures and squashes them to a size, see `pictures.decode`.

  Args:
    paths: of the files, S of them.
    image_size: edge length.

  Returns:
    `(S, image_size, image_size, 3)`, uint8.

  Raises:
    UserError: if one is missing or damaged.
  """
  shape = (len(paths), image_size, image_size, 3)
  images = np.empty(shape, np.uint8)
  for i, path in enumerate(paths):
    try:
      images[i] = pictures.decode(path, image_size)
    except ValueError as e:
      raise errors.UserError(str(e)) from e
  return images
