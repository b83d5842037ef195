"""A user's own multisets from files, and their split into train and test."""

from collections.abc import Sequence
import hashlib
import os
import reprlib
from typing import NamedTuple

import numpy as np

from idspn_jax.data import clevr_features
from idspn_jax.data import clevr_scenes
from idspn_jax.data import local_paths

KINDS = {'.npz': 'npz', '.json': 'clevr'}
# Up to it, float64 holds every integer.
MAX_INTEGER = 2**53


class SetFile(NamedTuple):
  """Multisets of one file.

  Attributes:
    sets: `(S, N, D)`, float64, zero in the rows beyond each set's size. CLEVR
      features have the precision of float32.
    sizes: number of elements of every set, `(S,)`, int64, 0 to N.
    kind: 'npz', with D features as stored; or 'clevr', with D = 19, the last
      of them presence.
    feature_names: D names, or None where the file has none.
  """

  sets: np.ndarray
  sizes: np.ndarray
  kind: str
  feature_names: tuple[str, ...] | None


def _arrays(path, file, names):
  """The named arrays of an open .npz file, unchecked."""
  written = ', '.join(f'{name}=...' for name in names)
  remedy = f'write it again with np.savez(path, {written})'
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
  for name in names:
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


def read_arrays(
  path: str | os.PathLike[str], names: Sequence[str]
) -> list[np.ndarray]:
  """Reads arrays of an `.npz` file as they are stored.

  Args:
    path: the file.
    names: of the arrays.

  Returns:
    The arrays, in the order of `names`.

  Raises:
    ValueError: if the file cannot be read or lacks an array; one line that
      names the file and the remedy.
  """
  path = local_paths.local_path(path)
  _check_file(path)
  if path.suffix.lower() != '.npz':
    raise ValueError(
      f'{path}: unknown extension {path.suffix!r}; give an .npz file with '
      f'{", ".join(names)}.'
    )
  try:
    with open(path, 'rb') as file:
      return _arrays(path, file, names)
  except OSError as error:
    raise ValueError(
      f'{path}: cannot be read ({error.strerror}); check its permissions.'
    ) from error


def _check_file(path):
  if not os.path.exists(path):
    raise ValueError(f'{path}: no such file; check the path.')
  if os.path.isdir(path):
    raise ValueError(f'{path}: a directory, not a file; check the path.')
  if os.path.getsize(path) == 0:
    raise ValueError(f'{path}: the file is empty (0 bytes); write it again.')


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


def _check_numbers(path, sets):
  """Refuses data types that float64 does not hold."""
  remedy = {
    'b': 'write sets.astype(float)',
    'c': 'write real and imaginary parts as features of their own',
    'M': 'write seconds: (sets - sets.min()) / np.timedelta64(1, "s")',
    'm': 'write seconds: sets / np.timedelta64(1, "s")',
  }
  if sets.dtype.kind not in 'fiu':
    advice = remedy.get(sets.dtype.kind, 'write sets.astype(np.float64)')
    raise ValueError(
      f"{path}: 'sets' must hold real numbers; it is {sets.dtype}: {advice}."
    )
  if sets.ndim != 3 or 0 in sets.shape:
    raise ValueError(
      f"{path}: 'sets' has shape {sets.shape}; it needs (sets, elements, "
      'features), none of them zero.'
    )


def _as_float64(path, sets, mask):
  """Elements in float64, zero in rows without; refuses what would change."""
  with np.errstate(over='ignore', invalid='ignore'):
    converted = np.where(mask[..., None], sets, 0).astype(np.float64)
  _refuse(
    path,
    sets,
    ~np.isfinite(converted),
    'not finite in float64: remove the set or replace the value',
  )
  if sets.dtype.kind in 'iu' and sets.dtype.itemsize == 8:
    large = mask[..., None] & ((sets > MAX_INTEGER) | (sets < -MAX_INTEGER))
    _refuse(
      path,
      sets,
      large,
      'larger than 2**53, from where on float64 skips integers: subtract an '
      'offset first, for example sets - sets.min()',
    )
  return converted


def _refuse(path, sets, wrong, why):
  places = np.argwhere(wrong)
  if len(places):
    s, n, d = places[0].tolist()
    raise ValueError(
      f'{path}: set {s}, element {n}, feature {d} is {sets[s, n, d]}, {why}.'
    )


def _load_npz(path):
  sets, sizes = read_arrays(path, ('sets', 'sizes'))
  _check_numbers(path, sets)
  _check_sizes(path, sizes, sets.shape)
  sizes = sizes.astype(np.int64)
  mask = mask_of(sizes, sets.shape[1])
  return SetFile(_as_float64(path, sets, mask), sizes, 'npz', None)


def load_set_file(path: str | os.PathLike[str]) -> SetFile:
  """Reads multisets of varying size.

  Args:
    path: an `.npz` file with arrays `sets`, `(S, N, D)`, and `sizes`, `(S,)`
      integers: set s consists of its first `sizes[s]` rows, whatever stands in
      the others. Features are floats or integers of any precision and are kept
      to that of float64; integers beyond 2**53 are refused. Or a `.json` file
      of CLEVR scenes, see `clevr_scenes.load_scenes`.

  Returns:
    A `SetFile`.

  Raises:
    ValueError: if the file is missing, damaged or not as described; one line
      that names the file, the place and the remedy.
  """
  path = local_paths.local_path(path)
  suffix = path.suffix.lower()
  if suffix not in KINDS:
    raise ValueError(
      f'{path}: unknown extension {suffix!r}; give an .npz file of sets or a '
      '.json file of CLEVR scenes.'
    )
  _check_file(path)
  if KINDS[suffix] == 'npz':
    return _load_npz(path)
  sets = clevr_scenes.load_scenes(path)
  sizes = np.sum(clevr_features.mask_of(sets), axis=1)
  return SetFile(
    sets.astype(np.float64), sizes, 'clevr', clevr_features.FEATURE_NAMES
  )


def mask_of(sizes: np.ndarray, num_rows: int) -> np.ndarray:
  """Tells elements from padding.

  Args:
    sizes: number of elements of every set, `(S,)`, 0 to N.
    num_rows: rows N of every set.

  Returns:
    True for the first `sizes[s]` rows of set s, `(S, N)`.

  Raises:
    ValueError: if the sizes are not integers in range, one per set.
  """
  sizes = np.asarray(sizes)
  if sizes.ndim != 1 or (sizes.size and sizes.dtype.kind not in 'iu'):
    raise ValueError(
      'sizes must be integers, one per set, (S,); got '
      f'{sizes.dtype} of shape {sizes.shape}.'
    )
  wrong = sizes[(sizes < 0) | (sizes > num_rows)]
  if wrong.size:
    raise ValueError(
      f'sizes must lie between 0 and {num_rows}; got {wrong[0]}.'
    )
  return np.arange(num_rows) < sizes.astype(np.int64)[:, None]


def digest(sets: np.ndarray, sizes: np.ndarray) -> str:
  """Identifies the content of a data file.

  It depends on the shape, on the elements in float64 and on the sizes; not on
  the file's name or format, the stored precision (as long as it holds the same
  numbers), or what stands in padded rows.

  Args:
    sets: `(S, N, D)`.
    sizes: number of elements of every set, `(S,)`, 0 to N.

  Returns:
    64 hexadecimal digits, SHA-256.

  Raises:
    ValueError: if shapes do not fit or a size is out of range.
  """
  sets, mask = _checked(sets, sizes)
  content = np.where(mask[..., None], sets, 0).astype('<f8')
  # Minus zero equals zero.
  content = np.where(content == 0, np.zeros_like(content), content)
  found = hashlib.sha256()
  for array in (sets.shape, sizes):
    found.update(np.ascontiguousarray(array, '<i8').tobytes())
  found.update(np.ascontiguousarray(content).tobytes())
  return found.hexdigest()


def _checked(sets, sizes):
  """The sets as an array, and the mask of their elements."""
  sets = np.asarray(sets)
  if sets.ndim != 3 or np.shape(sizes) != sets.shape[:1]:
    raise ValueError(
      'Sets need shape (S, N, D) and their sizes (S,); got '
      f'{sets.shape} and {np.shape(sizes)}.'
    )
  return sets, mask_of(sizes, sets.shape[1])


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
  sets, mask = _checked(sets, sizes)
  mask = mask[..., None]
  features = np.where(mask, sets, np.zeros_like(sets))
  return np.concatenate([features, mask.astype(sets.dtype)], axis=-1)


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
