"""Resized pictures and their objects on disk, read through a memory map.

A folder holds for every split `SPLIT.npy`, the pixels, and `SPLIT.npz`, which
is written last: names, objects, a checksum of every picture, and what the
pictures were made from.
"""

from collections.abc import Sequence
import concurrent.futures
import os
import pathlib
import sys
from typing import NamedTuple, Protocol
import zlib

import numpy as np
import tqdm

from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.data import local_paths
from idspn_jax.data import set_files

_ARRAYS = ('names', 'targets', 'checksums', 'image_size', 'identity')


class Pictures(Protocol):
  """A split whose pictures can be read in any order.

  Attributes:
    names: of the pictures, S of them.
    targets: features of their objects, `(S, N, 19)`, float32.
  """

  names: Sequence[str]
  targets: np.ndarray

  def __len__(self) -> int: ...

  def picture(self, index: int, image_size: int) -> np.ndarray:
    """One picture, resized: `(image_size, image_size, 3)`, uint8."""
    ...


class _Place(NamedTuple):
  pixels: pathlib.Path
  index: pathlib.Path


def _place(folder, split):
  folder = pathlib.Path(folder)
  return _Place(folder / f'{split}.npy', folder / f'{split}.npz')


def exists(folder: str | os.PathLike[str], split: str) -> bool:
  """Whether a folder holds a finished cache of a split, right or wrong."""
  return os.path.exists(_place(folder, split).index)


class CachedPictures:
  """Pictures of one split from a cache.

  Attributes:
    names: of the pictures, S of them.
    targets: features of their objects, `(S, N, 19)`, float32.
    pixels: all pictures, `(S, H, W, 3)`, uint8, memory-mapped.
  """

  def __init__(
    self,
    folder: str | os.PathLike[str],
    split: str,
    image_size: int,
    max_objects: int = 10,
    identity: str | None = None,
  ):
    """Opens and checks a cache.

    Args:
      folder: of the cache.
      split: the name it was written under.
      image_size: edge length that the pictures must have.
      max_objects: rows N per scene.
      identity: what the pictures must have been made from; None for anything.

    Raises:
      UserError: if the cache is missing, damaged, of another size or of other
        pictures, or a scene has too many objects.
    """
    self._where = _place(folder, split)
    index = _read_index(self._where)
    self.names = index['names'].tolist()
    found = int(index['image_size'])
    if found != image_size:
      raise errors.UserError(
        f'{self._where.index}: its pictures are {found}×{found}, not '
        f'{image_size}×{image_size}; choose another cache_dir, or remove it.'
      )
    if identity is not None and str(index['identity']) != identity:
      raise errors.UserError(
        f'{self._where.index}: made from other pictures than those in data_dir '
        'now; choose another cache_dir, or remove it.'
      )
    self.targets = _with_rows(
      index['targets'], max_objects, self.names, self._where.index
    )
    self._checksums = index['checksums']
    self.pixels = _map_pixels(self._where, (len(self.names), image_size))

  def __len__(self) -> int:
    """Number of pictures."""
    return len(self.names)

  def picture(self, index: int, image_size: int) -> np.ndarray:
    """One picture, see `Pictures.picture`.

    Raises:
      UserError: if its pixels have changed on disk.
    """
    del image_size  # Checked when it was opened.
    pixels = np.array(self.pixels[index])
    if zlib.crc32(pixels) != self._checksums[index]:
      raise errors.UserError(
        f'{self._where.pixels}: the pixels of {self.names[index]} are damaged; '
        'remove the cache, it is made again.'
      )
    return pixels


def _read_index(where):
  if not os.path.lexists(where.index):
    raise errors.UserError(f'{where.index}: no cache there.')
  try:
    for path in where:
      local_paths.check_inside(where.index.parent, path)
  except ValueError as e:
    raise errors.UserError(str(e)) from e
  try:
    arrays = set_files.read_arrays(where.index, _ARRAYS)
    index = dict(zip(_ARRAYS, arrays, strict=True))
    _check_index(**index)
  except ValueError as e:
    raise errors.UserError(
      f'{where.index} is damaged; remove the cache, it is made again.'
    ) from e
  return index


def _check_index(names, targets, checksums, image_size, identity):
  """Refuses arrays of other shapes or types than those that are written."""
  columns = clevr_features.NUM_FEATURES
  right = (
    (names.dtype.kind, names.ndim) == ('U', 1)
    and targets.dtype == np.float32
    and (targets.ndim, targets.shape[-1:]) == (3, (columns,))
    and len(targets) == len(names) > 0
    and bool(np.all(np.isfinite(targets)))
    and (checksums.dtype, checksums.shape) == (np.uint32, names.shape)
    and (image_size.dtype.kind, image_size.ndim) == ('i', 0)
    and (identity.dtype.kind, identity.ndim) == ('U', 0)
  )
  if not right:
    raise ValueError('The arrays are not those of a cache.')


def _with_rows(targets, max_objects, names, path):
  """Targets with `max_objects` rows; those that do not fit are refused."""
  counts = np.sum(clevr_features.mask_of(targets), axis=1)
  if np.any(counts > max_objects):
    worst = int(np.argmax(counts))
    raise errors.UserError(
      f'{path}: {names[worst]} has {counts[worst]} objects, but sets hold at '
      f'most {max_objects}; raise max_objects.'
    )
  missing = max(0, max_objects - targets.shape[1])
  targets = np.pad(targets, ((0, 0), (0, missing), (0, 0)))
  return targets[:, :max_objects]


def _map_pixels(where, count_and_size):
  count, size = count_and_size
  try:
    pixels = np.load(where.pixels, mmap_mode='r', allow_pickle=False)
  # NumPy's parser of headers raises all kinds.
  except Exception as e:
    raise errors.UserError(
      f'{where.pixels} is missing or damaged ({e}); remove the cache, it is '
      'made again.'
    ) from e
  if pixels.shape != (count, size, size, 3) or pixels.dtype != np.uint8:
    raise errors.UserError(
      f'{where.pixels} holds {pixels.dtype} of shape {pixels.shape}, not '
      f'{count} pictures of {size}×{size}; remove the cache, it is made again.'
    )
  return pixels


def write(
  source: Pictures,
  folder: str | os.PathLike[str],
  split: str,
  image_size: int,
  identity: str = '',
  threads: int = 2,
) -> None:
  """Writes a cache, with a progress bar.

  It appears in its place when it is complete; PIL decodes in several threads.

  Args:
    source: the pictures.
    folder: of the cache, created if missing.
    split: the name to write it under.
    image_size: edge length.
    identity: what identifies the source.
    threads: how many decode at a time.

  Raises:
    UserError: if it cannot be written, or a picture cannot be read.
  """
  where = _place(folder, split)
  temporary = where.pixels.with_name(f'{split}.{os.getpid()}.tmp')
  try:
    where.pixels.parent.mkdir(parents=True, exist_ok=True)
    try:
      checksums = _write_pixels(source, temporary, image_size, threads, split)
      where.index.unlink(missing_ok=True)
      os.replace(temporary, where.pixels)
      with open(temporary, 'wb') as f:
        np.savez(
          f,
          names=np.asarray(source.names),
          targets=source.targets,
          checksums=checksums,
          image_size=image_size,
          identity=identity,
        )
        f.flush()
        os.fsync(f.fileno())
      os.replace(temporary, where.index)
    finally:
      temporary.unlink(missing_ok=True)
  except OSError as e:
    raise errors.UserError(
      f'Cannot write the cache in {folder}: {e.strerror or e}. Make room '
      f'({len(source) * image_size**2 * 3 / 1e9:.2f} GB for {split}) or choose '
      'another cache_dir.'
    ) from e


def _write_pixels(source, path, image_size, threads, split):
  """Writes all pictures to a file; returns their checksums."""
  count = len(source)
  checksums = np.zeros(count, np.uint32)
  header = {
    'descr': '|u1',
    'fortran_order': False,
    'shape': (count, image_size, image_size, 3),
  }

  def read(index):
    return source.picture(index, image_size)

  bar = tqdm.tqdm(
    total=count,
    desc=f'Resizing {split} to {image_size}×{image_size}',
    unit='picture',
    mininterval=0.5 if sys.stderr.isatty() else 30.0,
  )
  with bar, open(path, 'wb') as f:
    np.lib.format.write_array_header_1_0(f, header)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
      # In pieces, so that decoded pictures do not pile up.
      for start in range(0, count, 64 * threads):
        piece = range(start, min(start + 64 * threads, count))
        for index, pixels in zip(piece, pool.map(read, piece), strict=True):
          checksums[index] = zlib.crc32(pixels)
          f.write(pixels.tobytes())
          bar.update()
    f.flush()
    os.fsync(f.fileno())
  return checksums
