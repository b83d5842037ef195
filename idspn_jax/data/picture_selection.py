"""Parts of picture collections: scenes with so many objects; held in memory."""

import sys

import numpy as np
import tqdm

from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.data import picture_cache


class SelectedPictures:
  """The pictures whose scenes have a number of objects within a range.

  Attributes:
    source: all pictures.
    names: of the chosen ones, S of them.
    targets: features of their objects, `(S, N, 19)`, float32.
  """

  def __init__(
    self,
    source: picture_cache.Pictures,
    num_objects: tuple[int, int],
    rows: int,
  ):
    """Chooses.

    Args:
      source: the pictures to choose from.
      num_objects: smallest and largest number of objects.
      rows: rows N of the targets, at least the largest number.

    Raises:
      UserError: if no scene has such a number of objects.
      ValueError: if there are fewer rows than objects.
    """
    low, high = num_objects
    if rows < high:
      raise ValueError(f'{rows} rows are too few for {high} objects.')
    counts = np.sum(
      np.asarray(source.targets)[..., clevr_features.PRESENCE] > 0, axis=-1
    )
    self._rows = np.flatnonzero((counts >= low) & (counts <= high))
    if not self._rows.size:
      raise errors.UserError(
        f'No scene has {low} to {high} objects; those of these pictures have '
        f'{counts.min()} to {counts.max()}.'
      )
    self.source = source
    self.names = [source.names[i] for i in self._rows]
    # Objects come first.
    chosen = np.asarray(source.targets)[self._rows, :rows]
    missing = rows - chosen.shape[1]
    self.targets = np.pad(chosen, ((0, 0), (0, max(missing, 0)), (0, 0)))

  def __len__(self) -> int:
    """Number of pictures."""
    return len(self.names)

  def picture(self, index: int, image_size: int) -> np.ndarray:
    """One picture, see `Pictures.picture`."""
    return self.source.picture(int(self._rows[index]), image_size)


class HeldPictures:
  """Pictures that are decoded once and then held in memory.

  Attributes:
    names: of the pictures, S of them.
    targets: features of their objects, `(S, N, 19)`, float32.
  """

  def __init__(self, source: picture_cache.Pictures, image_size: int):
    """Decodes them all, with a progress bar.

    Args:
      source: the pictures.
      image_size: edge length.
    """
    self.names, self.targets = source.names, source.targets
    shape = (len(source), image_size, image_size, 3)
    self._pixels = np.empty(shape, np.uint8)
    for i in tqdm.trange(
      len(source),
      desc='Reading pictures',
      unit='picture',
      mininterval=0.5 if sys.stderr.isatty() else 30.0,
    ):
      self._pixels[i] = source.picture(i, image_size)

  def __len__(self) -> int:
    """Number of pictures."""
    return len(self.names)

  def picture(self, index: int, image_size: int) -> np.ndarray:
    """One picture, see `Pictures.picture`.

    Raises:
      ValueError: if it is held in another size.
    """
    found = self._pixels[index]
    if found.shape[0] != image_size:
      raise ValueError(
        f'Pictures are held at {found.shape[0]} pixels, not {image_size}.'
      )
    return found
