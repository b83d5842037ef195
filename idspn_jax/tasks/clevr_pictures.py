"""Pictures of CLEVR scenes and their objects as the data of a task.

They are rendered, or read from the archive. Batches hold `image`,
`(B, H, W, 3)` uint8 (see `pictures.to_floats`), and `target`, `(B, N, 19)`
float32 (see `clevr_features`). As in the paper, models are scored on the
archive's `val` split: the task's split 'test'.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import itertools
from typing import NamedTuple

import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.data import batch_rows
from idspn_jax.data import clevr_tfds
from idspn_jax.data import picture_cache
from idspn_jax.data import picture_files
from idspn_jax.tasks import data as data_lib


def load_rows(
  source: picture_cache.Pictures, rows: Sequence[int], image_size: int
) -> dict[str, np.ndarray]:
  """A batch of these pictures: `image` and `target`."""
  images = [source.picture(int(i), image_size) for i in rows]
  return {'image': np.stack(images), 'target': source.targets[rows]}


class TrainingBatches(NamedTuple):
  """Makes the training batch of any step; picklable.

  Attributes:
    source: the pictures.
    image_size: edge length.
    batch_size: rows of the whole batch.
    seed: of the order.
    random_streams: see `batch_rows.batch_rows`.
    process: index of this process.
    processes: how many processes share a batch.
  """

  source: picture_cache.Pictures
  image_size: int
  batch_size: int
  seed: int
  random_streams: int = batch_rows.STREAMS
  process: int = 0
  processes: int = 1

  def __call__(self, step: int) -> dict[str, np.ndarray]:
    """This process's rows of the batch of a step."""
    rows = batch_rows.batch_rows(
      len(self.source), self.batch_size, self.seed, step, self.random_streams
    )
    rows = batch_rows.share(rows, self.process, self.processes)
    return load_rows(self.source, rows, self.image_size)

  @contextlib.contextmanager
  def stream(
    self, first_step: int, workers: int = 0
  ) -> Iterator[Iterator[dict[str, np.ndarray]]]:
    """Opens the batches from a step on, without end.

    From a cache they are read as they are asked for; pictures of TFDS are
    loaded ahead by grain, with any number of workers in the same order.

    Args:
      first_step: where to begin.
      workers: processes that load; 0 for this one.
    """
    origin = getattr(self.source, 'source', self.source)
    if isinstance(origin, clevr_tfds.TfdsPictures):
      with clevr_tfds.loaded_in_workers(self, first_step, workers) as batches:
        yield batches
    else:
      yield map(self, itertools.count(first_step))


class ClevrPictures(data_lib.Data):
  """CLEVR pictures of one seed."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    seed: int,
    sources: Mapping[str, picture_cache.Pictures],
    process: int = 0,
    processes: int = 1,
  ):
    """Prepares the streams.

    Args:
      config: a whole configuration.
      seed: of the order of the training batches.
      sources: pictures by split, from `open_split`; without 'train', training
        batches are bare rows, to be filled on the device.
      process: index of this process, which gets its share of every batch.
      processes: how many there are.

    Raises:
      UserError: if a batch does not divide among the processes.
    """
    self.sources = sources
    self._config = config
    if config.batch_size % processes:
      raise errors.UserError(
        f'batch_size {config.batch_size} does not divide among {processes} '
        f'processes; use a multiple of {processes}.'
      )
    self._process, self._processes, self._seed = process, processes, seed

  def train(self, first_step):
    """See `Data.train`; rows of this process only.

    Raises:
      UserError: if there are fewer pictures than a batch has rows, or the
        pictures cannot be opened.
    """
    # Both splits, so that faults are found before training starts.
    for source in self.sources.values():
      len(source)
    if 'train' not in self.sources:
      rows = batch_rows.share(
        np.arange(self._config.batch_size), self._process, self._processes
      )
      return contextlib.nullcontext(itertools.repeat({'row': rows}))
    data_lib.check_batch_size(
      self._config.batch_size,
      len(self.sources['train']),
      'lower --config.batch_size',
    )
    batches = TrainingBatches(
      self.sources['train'],
      self._config.data.image_size,
      self._config.batch_size,
      self._seed,
      self._config.random_streams,
      self._process,
      self._processes,
    )
    return batches.stream(first_step, self._config.data.workers)

  def evaluate(self, split='test'):
    """See `Data.evaluate`."""
    source = self.sources[split]
    index = {'index': np.arange(len(source))}
    size = self._config.data.image_size
    for rows in data_lib.padded_batches(index, self._config.eval_batch_size):
      batch = load_rows(source, rows['index'], size)
      yield {**batch, 'mask': rows['mask']}

  def examples(self, count: int, split: str = 'test') -> dict[str, np.ndarray]:
    """The first pictures of a split, and their objects."""
    source = self.sources[split]
    rows = range(min(count, len(source)))
    return load_rows(source, rows, self._config.data.image_size)

  def read_inputs(self, path):
    """See `Data.read_inputs`.

    Raises:
      UserError: always; there is `read_images`.
    """
    raise errors.UserError(
      f'This task predicts from pictures, not from {path}; give --images=FILES.'
    )

  def read_images(self, paths):
    """See `Data.read_images`; of any size, squashed to the model's."""
    size = self._config.data.image_size
    return {'image': picture_files.read(paths, size)}
