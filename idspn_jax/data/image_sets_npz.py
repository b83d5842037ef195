"""Files of images' sets in NumPy's `.npz`; see `image_sets`."""

import pathlib
from typing import Any

import numpy as np

from idspn_jax.data import image_sets_json
from idspn_jax.data import set_files
from idspn_jax.data import set_layout

_CATEGORY, _CLASSES = 'category_', 'classes_'


def read(path: pathlib.Path) -> tuple[Any, ...]:
  """Reads a file.

  Args:
    path: of a file that exists.

  Returns:
    The parts of an `image_sets.ImageSets`.

  Raises:
    ValueError: if the file is not as described; one line.
  """
  names = _names_in(path)
  (files,) = set_files.read_arrays(path, ['files'])
  files = tuple(_texts(path, 'files', files))
  if not files:
    raise ValueError(f"{path}: 'files' names no image; add images.")
  values, sizes = _sets(path, files)
  features = _feature_names(path, names, values.shape[-1])
  mask = set_files.mask_of(sizes, values.shape[1])
  if not mask.any():
    raise ValueError(
      f'{path}: no set has an element; give at least one element.'
    )
  categories, classes = [], {}
  for name in names:
    if name.startswith(_CATEGORY):
      own, found = _category(path, name, files, mask)
      categories.append(own)
      classes[own.name] = found
  every = [*features, *classes]
  if not every:
    raise ValueError(
      f"{path}: elements have no features; give 'sets' columns or add "
      'category_NAME.'
    )
  for name in every:
    image_sets_json.check_feature(str(path), name)
  if len(set(every)) < len(every):
    raise ValueError(
      f'{path}: two features have one name ({every}); rename one.'
    )
  layout = set_layout.Layout(tuple(features), tuple(categories))
  return files, values, classes, sizes, layout


def _names_in(path):
  """Names of all arrays; [] if the file cannot be read as an archive."""
  try:
    with open(path, 'rb') as file:
      return list(np.load(file, allow_pickle=False).files)
  # `read_arrays` explains what is wrong.
  except Exception:
    return []


def _texts(path, name, array):
  if array.ndim != 1 or array.dtype.kind != 'U':
    raise ValueError(
      f'{path}: {name!r} must be a list of texts; it is {array.dtype} of shape '
      f'{array.shape}. Write np.array([...], dtype=str).'
    )
  return array.tolist()


def _sets(path, files):
  """Continuous features, zero in padding, and sizes."""
  sets, sizes = set_files.read_arrays(path, ('sets', 'sizes'))
  if sets.dtype.kind not in 'fiu' or sets.ndim != 3 or not sets.shape[1]:
    raise ValueError(
      f"{path}: 'sets' must be numbers of shape (images, elements, features), "
      f'at least one element; it is {sets.dtype} of shape {sets.shape}.'
    )
  if sizes.dtype.kind not in 'iu' or sizes.ndim != 1:
    raise ValueError(
      f"{path}: 'sizes' must be integers (images,); it is {sizes.dtype} of "
      f'shape {sizes.shape}.'
    )
  if not len(files) == len(sets) == len(sizes):
    raise ValueError(
      f"{path}: {len(files)} 'files', {len(sets)} 'sets' and {len(sizes)} "
      "'sizes'; give one of each per image."
    )
  wrong = np.flatnonzero((sizes < 0) | (sizes > sets.shape[1]))
  if wrong.size:
    i = wrong[0]
    raise ValueError(
      f"{path}: 'sizes' says that image {i} ({files[i]!r}) has {sizes[i]} "
      f"elements, but 'sets' has room for 0 to {sets.shape[1]}; correct it."
    )
  sizes = sizes.astype(np.int64)
  mask = set_files.mask_of(sizes, sets.shape[1])
  with np.errstate(over='ignore', invalid='ignore'):
    values = np.where(mask[..., None], sets, 0).astype(np.float64)
  wrong = np.argwhere(~np.isfinite(values))
  if len(wrong):
    i, n, d = wrong[0].tolist()
    raise ValueError(
      f'{path}: image {i} ({files[i]!r}), element {n}: feature {d} is '
      f'{sets[i, n, d]}, not a finite number; correct it or remove the element.'
    )
  return values, sizes


def _feature_names(path, names, count):
  if 'feature_names' not in names:
    return [f'feature {d + 1}' for d in range(count)]
  (found,) = set_files.read_arrays(path, ['feature_names'])
  found = _texts(path, 'feature_names', found)
  if len(found) != count:
    raise ValueError(
      f"{path}: {len(found)} 'feature_names' for {count} features; give one "
      'each.'
    )
  return found


def _category(path, array_name, files, mask):
  """One category and the classes of all elements, zero in padding."""
  name = array_name.removeprefix(_CATEGORY)
  array, labels = set_files.read_arrays(path, (array_name, _CLASSES + name))
  labels = _texts(path, _CLASSES + name, labels)
  labels = image_sets_json.check_classes(str(path), name, labels)
  if array.dtype.kind not in 'iu' or array.shape != mask.shape:
    raise ValueError(
      f'{path}: {array_name!r} must be integers of shape {mask.shape}; it is '
      f'{array.dtype} of shape {array.shape}.'
    )
  wrong = np.argwhere(mask & ((array < 0) | (array >= len(labels))))
  if len(wrong):
    i, n = wrong[0].tolist()
    raise ValueError(
      f'{path}: image {i} ({files[i]!r}), element {n}: {array_name!r} is '
      f'{array[i, n]}; classes are 0 to {len(labels) - 1}.'
    )
  return set_layout.Category(name, labels), np.where(mask, array, 0).astype(
    np.int64
  )
