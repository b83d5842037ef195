"""A fixed set of rendered pictures on disk, as uint8 arrays.

A directory holds `description.json` and shards of 500 pictures,
`pictures_00000.npy` and `features_00000.npy`, with a checksum of every picture
in `checksums_00000.npy` (earlier versions wrote none). Shards appear whole or
not at all, so that making them can stop at any time and go on later, and
several processes can share the work.
"""

from collections.abc import Mapping
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
from typing import Any
import zlib

import jax
import numpy as np

from idspn_jax.data import clevr_features
from idspn_jax.data import local_paths
from idspn_jax.render import batches
from idspn_jax.render import constants
from idspn_jax.render import jobs
from idspn_jax.render import sample_scenes
from idspn_jax.render import scene_files

SHARD = 500
# Raised when the same seed no longer gives the same pictures.
VERSION = 2
SPLITS = ('train', 'val', 'test')
_CHUNK = 20


@dataclasses.dataclass(frozen=True)
class Description:
  """What a set of pictures is; equal ones are the same pictures.

  Attributes:
    split: `train`, `val` or `test`; each has its own scenes.
    count: how many pictures.
    width: of a picture, in pixels.
    height: of a picture, in pixels.
    seed: what determines the scenes, with the split.
    min_objects: smallest number of objects.
    max_objects: largest number of objects.
  """

  split: str
  count: int
  width: int = 128
  height: int = 128
  seed: int = 0
  min_objects: int = sample_scenes.MIN_OBJECTS
  max_objects: int = sample_scenes.MAX_OBJECTS

  def __post_init__(self):
    """Refuses what cannot be rendered."""
    if self.split not in SPLITS:
      raise ValueError(
        f'Unknown split {self.split!r}; choose one of {", ".join(SPLITS)}.'
      )
    sample_scenes.check_num_objects((self.min_objects, self.max_objects))
    for name in ('count', 'width', 'height'):
      value = getattr(self, name)
      if not isinstance(value, int) or value < 1:
        raise ValueError(f'{name} is {value!r}; it must be an integer from 1.')
    if not isinstance(self.seed, int):
      raise ValueError(f'seed is {self.seed!r}; it must be an integer.')

  @property
  def key(self) -> jax.Array:
    """The key of the split's scenes."""
    return jax.random.fold_in(
      jax.random.key(self.seed), SPLITS.index(self.split)
    )

  def render(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures `first` to `first + count − 1` and their features."""
    chunks = []
    for start in range(first, first + count, _CHUNK):
      # Always a whole chunk, so that one program serves all.
      chunks.append(
        batches.batch(
          self.key,
          _CHUNK,
          (self.width, self.height),
          start,
          (self.min_objects, self.max_objects),
        )
      )
    pictures, features = zip(*jax.device_get(chunks), strict=True)
    return (
      np.concatenate(pictures)[:count],
      np.concatenate(features)[:count],
    )


def _shard_paths(directory, number):
  return [
    directory / f'{name}_{number:05d}.npy' for name in ('pictures', 'features')
  ]


def _checksums_path(directory, number):
  return directory / f'checksums_{number:05d}.npy'


def _write(path, array):
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with open(temporary, 'wb') as f:
      np.save(f, array)
      f.flush()
      os.fsync(f.fileno())
    os.replace(temporary, path)
  finally:
    with contextlib.suppress(OSError):
      temporary.unlink()


def _map(path, shape, dtype):
  local_paths.check_inside(path.parent, path)
  # NumPy's parser of headers raises all kinds.
  try:
    found = np.load(path, mmap_mode='r', allow_pickle=False)
    reason = f'{found.dtype} of shape {found.shape}'
    right = found.shape == shape and found.dtype == dtype
  except Exception as e:
    found, reason, right = None, e, False
  if not right:
    raise ValueError(
      f'{path} is damaged ({reason}); remove it, and the command that made it '
      'makes it again.'
    )
  return found


def _make_shard(directory: str, description: Description, number: int) -> int:
  first = number * SHARD
  count = min(SHARD, description.count - first)
  arrays = description.render(first, count)
  checksums = np.asarray(
    [zlib.crc32(p.tobytes()) for p in arrays[0]], np.uint32
  )
  _write(_checksums_path(pathlib.Path(directory), number), checksums)
  for path, array in zip(
    _shard_paths(pathlib.Path(directory), number), arrays, strict=True
  ):
    _write(path, array)
  return count


def _described(directory):
  """What a directory says it holds, or None if it says nothing."""
  path = directory / 'description.json'
  try:
    return json.loads(path.read_text('utf-8'))
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as e:
    raise ValueError(f'{path}: cannot be read ({e}); remove it.') from e


def _content(description: Description) -> Mapping[str, Any]:
  return {**dataclasses.asdict(description), 'version': VERSION}


def _check_same(directory, description):
  found, wanted = _described(directory), _content(description)
  if found is not None and found != wanted:
    keys = [k for k in wanted if found.get(k) != wanted[k]]
    key = keys[0] if keys else 'version'
    raise ValueError(
      f'{directory} holds other pictures: {key} is {found.get(key)!r} there, '
      f'not {wanted.get(key)!r}; choose another directory or remove it.'
    )
  return found is not None


def make(
  directory: str | os.PathLike[str],
  description: Description,
  processes: int = 1,
) -> 'RenderedPictures':
  """Renders a set of pictures to disk; goes on where it was interrupted.

  Args:
    directory: where; created if it does not exist.
    description: which pictures.
    processes: how many processes render.

  Returns:
    The pictures.

  Raises:
    ValueError: if the directory holds other pictures.
    OSError: if it cannot be written.
  """
  directory = pathlib.Path(directory)
  if not _check_same(directory, description):
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / 'description.json'
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    temporary.write_text(json.dumps(_content(description), indent=2) + '\n')
    os.replace(temporary, path)
  missing = _missing(directory, description)
  total = sum(min(SHARD, description.count - n * SHARD) for n in missing)
  if missing:
    make_shard = functools.partial(_make_shard, str(directory), description)
    jobs.run_all(make_shard, missing, processes, total, 'pictures')
  return RenderedPictures(directory)


def _missing(directory, description):
  numbers = range(-(-description.count // SHARD))
  return [
    n
    for n in numbers
    if not all(path.exists() for path in _shard_paths(directory, n))
  ]


class RenderedPictures:
  """A set of pictures on disk, read by number; a `picture_cache.Pictures`.

  Attributes:
    description: what the pictures are.
    names: what `experiments.render_clevr --out` would call them, S of them.
  """

  def __init__(self, directory: str | os.PathLike[str]):
    """Opens it.

    Args:
      directory: what `make` wrote.

    Raises:
      ValueError: if it is not such a directory, damaged, or not complete.
    """
    self._directory = directory = pathlib.Path(directory)
    found = _described(directory)
    if not isinstance(found, dict) or found.pop('version', None) != VERSION:
      raise ValueError(
        f'{directory}: no pictures of this version; make them with '
        'python -m experiments.render_clevr --cache=….'
      )
    try:
      self.description = Description(**found)
    except (TypeError, ValueError) as e:
      raise ValueError(
        f'{directory}/description.json lacks settings or has others ({e}); '
        'remove the directory and render it again.'
      ) from e
    missing = _missing(directory, self.description)
    if missing:
      raise ValueError(
        f'{directory}: {len(missing)} of its parts are missing; the command '
        'that made it goes on where it stopped.'
      )
    shards = range(-(-self.description.count // SHARD))
    self._shards = [self._open(n) for n in shards]
    self._checksums = [self._open_checksums(n) for n in shards]
    self.names = [
      scene_files.picture_name(self.description.split, n)
      for n in range(self.description.count)
    ]

  def _count(self, number):
    return min(SHARD, self.description.count - number * SHARD)

  def _open(self, number):
    """Pictures and features of a shard, memory-mapped."""
    about, count = self.description, self._count(number)
    pictures, features = _shard_paths(self._directory, number)
    elements = (constants.MAX_OBJECTS, clevr_features.NUM_FEATURES)
    return (
      _map(pictures, (count, about.height, about.width, 3), np.uint8),
      _map(features, (count, *elements), np.float32),
    )

  def _open_checksums(self, number):
    """Checksums of a shard's pictures; None if it was written without."""
    path = _checksums_path(self._directory, number)
    if not os.path.lexists(path):
      return None
    return _map(path, (self._count(number),), np.uint32)

  def _read(self, number):
    """Picture and features of a number, checked."""
    shard, place = number // SHARD, number % SHARD
    picture, features = (np.array(a[place]) for a in self._shards[shard])
    checksums = self._checksums[shard]
    if (
      checksums is not None
      and zlib.crc32(picture.tobytes()) != checksums[place]
    ):
      raise ValueError(
        f'{_shard_paths(self._directory, shard)[0]}: the pixels of picture '
        f'{number} are damaged; remove it, and the command that made it makes '
        'it again.'
      )
    return picture, features

  def __reduce__(self):
    """Pickles where the pictures are, not the pictures."""
    return RenderedPictures, (self._directory,)

  @functools.cached_property
  def targets(self) -> np.ndarray:
    """Features of all pictures' objects, `(S, 10, 19)`, float32."""
    return np.concatenate([features for _, features in self._shards])

  def picture(self, index: int, image_size: int) -> np.ndarray:
    """One picture: `(image_size, image_size, 3)`, uint8.

    Raises:
      ValueError: if the pictures are of another size, or damaged.
      IndexError: if there is no such picture.
    """
    width, height = self.description.width, self.description.height
    if (width, height) != (image_size, image_size):
      raise ValueError(
        f'{self._directory} holds pictures of {width}×{height}, not '
        f'{image_size}×{image_size}; render them with '
        f'--size={image_size}x{image_size} to another directory, or set the '
        'image size to theirs.'
      )
    self._check(np.asarray(index))
    return self._read(index)[0]

  def _check(self, numbers):
    if np.any((numbers < 0) | (numbers >= len(self))):
      raise IndexError(
        f'There are pictures 0 to {len(self) - 1}; got {numbers}.'
      )

  def __len__(self) -> int:
    """The number of pictures."""
    return self.description.count

  def __getitem__(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reads pictures by their numbers.

    Args:
      numbers: which ones, `(B,)`.

    Returns:
      Pictures `(B, height, width, 3)`, uint8, and features `(B, 10, 19)`.

    Raises:
      IndexError: if there is no such picture.
    """
    numbers = np.asarray(numbers)
    self._check(numbers)
    found = [self._read(n) for n in numbers.ravel()]
    pictures, features = zip(*found, strict=True)
    return np.stack(pictures), np.stack(features)
