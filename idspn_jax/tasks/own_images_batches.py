"""Batches of a user's images, and predictions in the units of their file."""

from collections.abc import Iterator, Mapping, Sequence
import sys
from typing import Any

import ml_collections
import numpy as np
import tqdm

from idspn_jax import errors
from idspn_jax.data import pictures
from idspn_jax.data import set_layout
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import images
from idspn_jax.tasks import own_images_data


def _decode(paths: Sequence[Any], image_size: int) -> np.ndarray:
  """Decodes and squashes images, `(S, H, W, 3)` uint8.

  Raises:
    UserError: if one is damaged.
  """
  found = np.empty((len(paths), image_size, image_size, 3), np.uint8)
  bar = tqdm.tqdm(
    paths,
    desc='Reading images',
    unit='image',
    mininterval=0.5 if sys.stderr.isatty() else 30.0,
  )
  for i, path in enumerate(bar):
    try:
      found[i] = pictures.decode(path, image_size)
    except ValueError as e:
      raise errors.UserError(str(e)) from e
  return found


class Splits(Mapping[str, dict[str, np.ndarray]]):
  """Arrays of 'train' and 'test', decoded when they are first needed."""

  def __init__(self, source: own_images_data.Source, image_size: int):
    """Scales the features; decodes nothing yet.

    Args:
      source: the images and sets.
      image_size: edge length.

    Raises:
      UserError: if a feature is beyond the range of float32.
    """
    self.source, self._image_size = source, image_size
    try:
      self._targets = source.targets()
    except ValueError as e:
      raise errors.UserError(f'{source.path}: {e}') from e
    self._rows = dict(zip(('train', 'test'), source.split, strict=True))
    self._found: dict[str, dict[str, np.ndarray]] = {}

  def __getitem__(self, split: str) -> dict[str, np.ndarray]:
    """`image`, `(S, H, W, 3)` uint8, and `target`, `(S, N, D)` float32."""
    if split not in self._found:
      if self.source.missing is not None:
        raise errors.UserError(self.source.missing)
      rows = self._rows[split]
      paths = [self.source.paths[i] for i in rows]
      image = _decode(paths, self._image_size)
      self._found[split] = {'image': image, 'target': self._targets[rows]}
    return self._found[split]

  def __iter__(self) -> Iterator[str]:
    """Names of the splits."""
    return iter(self._rows)

  def __len__(self) -> int:
    """How many splits there are."""
    return len(self._rows)

  def extents(self, count: int) -> np.ndarray:
    """Width and height of the first test images' files, `(count, 2)`."""
    # Here, because nothing else of this file needs it.
    from PIL import Image

    sizes = []
    for i in self._rows['test'][:count]:
      with Image.open(self.source.paths[i]) as image:
        sizes.append(image.size)
    return np.asarray(sizes)


class OwnImagesData(data_lib.ArrayData):
  """The images of one seed."""

  def __init__(
    self, config: ml_collections.ConfigDict, seed: int, splits: Splits
  ):
    """Prepares the batches.

    Args:
      config: a whole configuration.
      seed: of the order of the training batches.
      splits: the images, shared by all seeds.
    """
    super().__init__(
      splits,
      config.batch_size,
      config.eval_batch_size,
      seed,
      config.random_streams,
    )
    self._image_size = config.data.image_size
    self._source = splits.source

  def train(self, first_step):
    """See `Data.train`."""
    # Both splits, so that damaged images are found before training starts.
    for split in self.splits:
      _ = self.splits[split]
    return super().train(first_step)

  def extents(self, count: int) -> np.ndarray:
    """See `Splits.extents`."""
    return self.splits.extents(count)

  def read_inputs(self, path):
    """See `Data.read_inputs`; inputs are images.

    Raises:
      UserError: always.
    """
    raise errors.UserError(
      f'This task predicts from images: --images=FILES, not --inputs={path}.'
    )

  def read_images(self, paths: Sequence[str]) -> dict[str, np.ndarray]:
    """Reads image files to predict from, squashed to the model's size.

    Args:
      paths: of the files.

    Returns:
      `image`, `(S, H, W, 3)`, uint8.

    Raises:
      UserError: if there is none, or one is damaged.
    """
    if not paths:
      raise errors.UserError('There are no images; give at least one file.')
    return {'image': _decode(paths, self._image_size)}

  def in_units(self, sets: np.ndarray) -> set_layout.Elements:
    """Elements with their continuous features in the file's units.

    Args:
      sets: features, `(..., N, D)`.
    """
    found = self._source.layout.decode(sets)
    return found._replace(values=self._source.scaling.invert(found.values))

  def to_units(self, predictions):
    """See `Data.to_units`; named as in an `.npz` file of sets.

    Of S images: `sets`, continuous features in the file's units, `(S, N, C)`;
    `presence`, `(S, N)`; `category_NAME`, `(S, N)`, -1 where it is unknown; the
    other predictions and what `images.with_confidence` adds; and
    `feature_names` and `classes_NAME`.
    """
    layout = self._source.layout
    predictions = images.with_confidence(predictions, layout)
    found = self.in_units(predictions['sets'])
    names = {
      f'classes_{c.name}': np.asarray(c.classes, dtype=str)
      for c in layout.categories
    }
    return {
      'sets': found.values,
      'presence': found.presence,
      **{f'category_{name}': c for name, c in found.classes.items()},
      **{k: v for k, v in predictions.items() if k != 'sets'},
      'feature_names': np.asarray(layout.continuous, dtype=str),
      **names,
    }

  def to_json(self, predictions):
    """See `Data.to_json`; `images` as in a JSON file of sets."""
    described = []
    for i, presence in enumerate(predictions['presence']):
      image: dict[str, Any] = {}
      if 'names' in predictions:
        image['file'] = str(predictions['names'][i])
      image['elements'] = [
        self._element(predictions, i, int(n))
        for n in np.flatnonzero(presence > set_layout.THRESHOLD)
      ]
      for name in images.CONFIDENCES:
        if name in predictions:
          image[name] = predictions[name][i]
      described.append(image)
    return {'images': described}

  def _element(self, predictions, i, n):
    """Element n of image i, in the file's own words."""
    layout = self._source.layout
    values = predictions['sets'][i, n].tolist()
    found: dict[str, Any] = dict(zip(layout.continuous, values, strict=True))
    for name, classes in layout.categories:
      index = predictions[f'category_{name}'][i, n]
      found[name] = classes[index] if index >= 0 else None
    for name, rows in (('presence', 'presence'), ('margin', 'margins')):
      found[name] = float(predictions[rows][i, n])
    return found
