"""A user's own images and their sets, from a folder and a file.

JSON: `{"images": [{"file": "a.png", "elements": [{"x": 0.3, "colour": "red"},
…]}, …]}`. Numbers are continuous features, texts are categories; every element
of the file has the same features, and sets may be empty. The classes of a
category are those that occur, sorted, unless the file has at its top level
`"categories": {"colour": ["red", …]}`.

NPZ: `files` `(S,)` texts, `sets` `(S, N, C)`, padded, and `sizes` `(S,)`
integers; optionally `feature_names` `(C,)`, and for each category an integer
array `category_NAME` `(S, N)` and its names `classes_NAME` `(K,)`. No Python
objects.

File names are relative to the folder and stay inside it.
"""

from collections.abc import Sequence
import hashlib
import json
import os
import pathlib
from typing import NamedTuple

import numpy as np

from idspn_jax.data import image_sets_json
from idspn_jax.data import image_sets_npz
from idspn_jax.data import local_paths
from idspn_jax.data import picture_files
from idspn_jax.data import set_layout


class ImageSets(NamedTuple):
  """The sets of a file and the names of their images.

  Attributes:
    files: S names, relative to the folder of images.
    values: continuous features, `(S, N, C)`, float64, zero in padded rows.
    classes: by category, `(S, N)`, int64; 0 in padded rows.
    sizes: number of elements of every set, `(S,)`, int64, 0 to N.
    layout: names of features and classes.
  """

  files: tuple[str, ...]
  values: np.ndarray
  classes: dict[str, np.ndarray]
  sizes: np.ndarray
  layout: set_layout.Layout


def load_image_sets(path: str | os.PathLike[str]) -> ImageSets:
  """Reads a file of sets; see the head of this file.

  Args:
    path: a `.json` or `.npz` file.

  Raises:
    ValueError: if the file is missing, damaged or not as described; one line
      that names the file, the image, the element and the remedy.
  """
  path = local_paths.local_path(path)
  suffix = path.suffix.lower()
  if suffix not in ('.json', '.npz'):
    raise ValueError(
      f'{path}: unknown extension {suffix!r}; give sets as .json or .npz.'
    )
  if not os.path.isfile(path):
    kind = 'a directory, not a file' if os.path.isdir(path) else 'no such file'
    raise ValueError(f'{path}: {kind}; check the path.')
  room = image_sets_json if suffix == '.json' else image_sets_npz
  found = ImageSets(*room.read(path))
  _check_names(path, found.files)
  return found


def _check_names(path, files):
  """Refuses names that occur twice or lead out of the folder."""
  places: dict[str, int] = {}
  for i, name in enumerate(files):
    where = f'{path}: image {i} ({name!r})'
    parts = pathlib.PurePath(name).parts
    if not parts or '\0' in name:
      raise ValueError(f'{where}: not a file name; correct it.')
    if pathlib.PurePath(name).is_absolute() or '..' in parts:
      raise ValueError(
        f'{where}: leads out of the folder of images; write names relative to '
        'the folder, without "..".'
      )
    key = os.path.normpath(name)
    if key in places:
      raise ValueError(
        f'{where}: the same file as image {places[key]}; keep one of them.'
      )
    places[key] = i


def image_paths(
  folder: str | os.PathLike[str], files: Sequence[str], every: bool = True
) -> list[pathlib.Path]:
  """Paths of the images of a file of sets.

  Args:
    folder: with the images.
    files: their names, see `ImageSets.files`.
    every: refuse images without a set beside those that have one.

  Returns:
    One path per name, of a file that exists inside the folder.

  Raises:
    ValueError: if the folder or images are missing, or images have no set; one
      line that names the first, how many there are, and the remedy.
  """
  folder = local_paths.local_path(folder)
  if not os.path.isdir(folder):
    raise ValueError(f'{folder}: no such folder of images; check the path.')
  paths = [folder / name for name in files]
  missing = [
    name for name, p in zip(files, paths, strict=True) if not os.path.isfile(p)
  ]
  if missing:
    raise ValueError(
      f'{folder}: {len(missing)} of {len(files)} images of the sets are not '
      f'there, first {missing[0]!r}; add them or remove their sets.'
    )
  root = folder.resolve()
  for name, path in zip(files, paths, strict=True):
    if not path.resolve().is_relative_to(root):
      raise ValueError(
        f'{folder}: {name!r} is a link out of the folder; copy the file there.'
      )
  if every:
    known = {os.path.normpath(name) for name in files}
    others = sorted(set(_images_beside(folder, known)) - known)
    if others:
      raise ValueError(
        f'{folder}: {len(others)} images have no set, first {others[0]!r}; add '
        'their sets (empty ones too) or remove them.'
      )
  return paths


def _images_beside(folder, files):
  """All images in the folders of these, as their names are written."""
  for inner in {os.path.dirname(name) for name in files}:
    for name in os.listdir(folder / inner):
      if picture_files.is_name(name):
        yield os.path.join(inner, name)


def digest(sets: ImageSets, paths: Sequence[os.PathLike[str]]) -> str:
  """Identifies sets, their features' names, and images by name and size.

  Args:
    sets: of a file.
    paths: of the images.

  Returns:
    64 hexadecimal digits, SHA-256.
  """
  found = hashlib.sha256()
  names = [os.path.normpath(name) for name in sets.files]
  sizes = [os.path.getsize(path) for path in paths]
  head = [names, sizes, sets.layout.to_json(), list(sets.values.shape)]
  found.update(json.dumps(head).encode('utf-8'))
  # Minus zero equals zero.
  values = np.where(sets.values == 0, 0.0, sets.values)
  for array, kind in (
    (values, '<f8'),
    (sets.sizes, '<i8'),
    *((sets.classes[c.name], '<i8') for c in sets.layout.categories),
  ):
    found.update(np.ascontiguousarray(array, kind).tobytes())
  return found.hexdigest()
