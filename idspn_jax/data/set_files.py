"""A user's own multisets from files, and their split into train and test."""

import os
import pathlib
import reprlib
from typing import NamedTuple

import numpy as np

from idspn_jax.data import clevr_scenes

KINDS = {'.npz': 'npz', '.json': 'clevr'}


class SetFile(NamedTuple):
  """Multisets of one file.

  Attributes:
    sets: `(S, N, D)`, float32, zero in the rows beyond each set's size.
    sizes: number of elements of every set, `(S,)`, int64, 0 to N.
    kind: 'npz', with D features as stored; or 'clevr', with D = 19, the last
      of them presence.
    feature_names: D names, or None where the file has none.
  """

  sets: np.ndarray
  sizes: np.ndarray
  kind: str
  feature_names: tuple[str, ...] | None


def _read_arrays(path, file):
  """The arrays `sets` and `sizes` of an open .npz file, unchecked."""
  remedy = 'write it again with np.savez(path, sets=..., sizes=...)'
  # Damaged archives fail in a dozen ways, in zipfile, zlib and NumPy alike.
  try:
    stored = np.load(file, allow_pickle=False)
  except Exception as error:
    raise ValueError(
      f'{path}: not a readable .npz file ({type(error).__name__}); {remedy}.'
    ) from error
  if not isinstance(stored, np.lib.npyio.NpzFile):
    raise ValueError(f'{path}: one bare array, not an .npz file; {remedy}.')
  arrays = []
  for name in ('sets', 'sizes'):
    if name not in stored.files:
      found = reprlib.repr(stored.files)
      raise ValueError(
        f'{path}: no array {name!r} (arrays found: {found}); {remedy}.'
      )
    try:
      arrays.append(stored[name])
    except Exception as error:
      raise ValueError(
        f'{path}: the array {name!r} is damaged or holds Python objects '
        f'({type(error).__name__}); {remedy}.'
      ) from error
  return arrays


def _check_sizes(path, sizes, shape):
  if sizes.dtype.kind not in 'iu':
    raise ValueError(
      f"{path}: 'sizes' must be integers; it is {sizes.dtype}. Convert it with "
      'sizes.astype(int).'
    )
  if sizes.shape != shape[:1]:
    raise ValueError(
      f"{path}: 'sizes' has shape {sizes.shape}, but 'sets' holds {shape[0]} "
      f'sets; give one size per set, shape {shape[:1]}.'
    )
  wrong = np.flatnonzero((sizes < 0) | (sizes > shape[1]))
  if wrong.size:
    raise ValueError(
      f"{path}: 'sizes' says that set {wrong[0]} has {sizes[wrong[0]]} "
      f"elements, but 'sets' has room for 0 to {shape[1]}; correct the size or "
      "pad 'sets' to more rows."
    )


def _load_npz(path):
  try:
    with open(path, 'rb') as file:
      sets, sizes = _read_arrays(path, file)
  except OSError as error:
    raise ValueError(
      f'{path}: cannot be read ({error.strerror}); check its permissions.'
    ) from error
  if sets.dtype.kind not in 'fiu':
    raise ValueError(
      f"{path}: 'sets' must hold real numbers; it is {sets.dtype}."
    )
  if sets.ndim != 3 or 0 in sets.shape:
    raise ValueError(
      f"{path}: 'sets' has shape {sets.shape}; it needs (sets, elements, "
      'features), none of them zero.'
    )
  _check_sizes(path, sizes, sets.shape)
  there = np.arange(sets.shape[1]) < sizes.astype(np.int64)[:, None]
  with np.errstate(over='ignore', invalid='ignore'):
    sets = np.where(there[..., None], sets, 0).astype(np.float32)
  wrong = np.argwhere(~np.isfinite(sets))
  if wrong.size:
    s, n, d = wrong[0].tolist()
    raise ValueError(
      f'{path}: set {s}, element {n}, feature {d} is {sets[s, n, d]} (as '
      'float32); remove the set or replace the value.'
    )
  return SetFile(sets, sizes.astype(np.int64), 'npz', None)


def load_set_file(path: str | os.PathLike[str]) -> SetFile:
  """Reads multisets of varying size.

  Args:
    path: an `.npz` file with arrays `sets`, `(S, N, D)`, and `sizes`, `(S,)`
      integers: set s consists of its first `sizes[s]` rows, whatever stands in
      the others. Or a `.json` file of CLEVR scenes, see `load_scenes`.

  Returns:
    A `SetFile`.

  Raises:
    ValueError: if the file is missing, damaged or not as described; one line
      that names the file, the place and the remedy.
  """
  suffix = pathlib.Path(path).suffix.lower()
  if suffix not in KINDS:
    raise ValueError(
      f'{path}: unknown extension {suffix!r}; give an .npz file of sets or a '
      '.json file of CLEVR scenes.'
    )
  if not os.path.exists(path):
    raise ValueError(f'{path}: no such file; check the path.')
  if os.path.isdir(path):
    raise ValueError(f'{path}: a directory, not a file; check the path.')
  if os.path.getsize(path) == 0:
    raise ValueError(f'{path}: the file is empty (0 bytes); write it again.')
  if KINDS[suffix] == 'npz':
    return _load_npz(path)
  sets = clevr_scenes.load_scenes(path)
  sizes = np.sum(sets[..., clevr_scenes.PRESENCE] > 0, axis=1)
  return SetFile(sets, sizes, 'clevr', clevr_scenes.FEATURE_NAMES)


def with_presence(sets: np.ndarray, sizes: np.ndarray) -> np.ndarray:
  """Appends a feature that is 1 for elements and 0 for padding.

  Args:
    sets: `(S, N, D)`.
    sizes: number of elements of every set, `(S,)`, 0 to N.

  Returns:
    `(S, N, D + 1)`, in the precision of `sets`; padded rows are all zero.

  Raises:
    ValueError: if shapes do not fit or a size is out of range.
  """
  sets, sizes = np.asarray(sets), np.asarray(sizes)
  if sets.ndim != 3 or sizes.shape != sets.shape[:1]:
    raise ValueError(
      'with_presence needs sets (S, N, D) and sizes (S,); got '
      f'{sets.shape} and {sizes.shape}.'
    )
  if np.any((sizes < 0) | (sizes > sets.shape[1])):
    raise ValueError(
      f'sizes must lie between 0 and {sets.shape[1]}; got '
      f'{reprlib.repr(sizes.tolist())}.'
    )
  there = (np.arange(sets.shape[1]) < sizes[:, None])[..., None]
  features = np.where(there, sets, np.zeros_like(sets))
  return np.concatenate([features, there.astype(sets.dtype)], axis=-1)


def split(
  n: int, test_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
  """Divides n sets at random into train and test, each with at least one.

  Args:
    n: number of sets.
    test_fraction: share of the test sets, strictly between 0 and 1; rounded to
      whole sets.
    seed: of the permutation; one seed, one split.

  Returns:
    Indices of the train sets and of the test sets, disjoint, together 0 to
    n - 1, in random order.

  Raises:
    ValueError: if there are fewer than two sets or the fraction is out of
      range.
  """
  if n < 2:
    raise ValueError(
      f'{n} set(s) cannot be split into train and test; at least 2 are needed.'
    )
  if not 0 < test_fraction < 1:
    raise ValueError(
      'test_fraction must lie strictly between 0 and 1 to split '
      f'{n} sets; got {test_fraction}.'
    )
  order = np.random.default_rng(seed).permutation(n)
  num_test = min(max(round(n * test_fraction), 1), n - 1)
  return order[num_test:], order[:num_test]
