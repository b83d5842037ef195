"""Pictures of CLEVR scenes and their objects as the data of a task.

Batches hold `image`, `(B, H, W, 3)` uint8 (see `pictures.to_floats`), and
`target`, `(B, N, 19)` float32 (see `clevr_features`). As in the paper, models
are scored on the archive's `val` split: the task's split 'test'.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import itertools
import os
from typing import NamedTuple

import ml_collections
import numpy as np

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.data import batch_rows
from idspn_jax.data import clevr_tfds
from idspn_jax.data import clevr_tree
from idspn_jax.data import picture_cache
from idspn_jax.tasks import data as data_lib

SOURCES = ('tfds', 'tree')
# A task's split, as TFDS and as the archive call it.
_SPLITS = {
  'train': {'tfds': 'train', 'tree': 'train'},
  'test': {'tfds': 'validation', 'tree': 'val'},
}


def default_config() -> ml_collections.ConfigDict:
  """The part `data` of a config of CLEVR pictures."""
  return ml_collections.ConfigDict(
    {
      # 'tfds' (see experiments.prepare_clevr) or 'tree', an unpacked archive.
      'source': 'tfds',
      'data_dir': '',
      'image_size': 128,
      'max_objects': 10,
      # Whether to resize all pictures once, into cache_dir; '' puts it beside
      # the data.
      'cache': True,
      'cache_dir': '',
      # Processes that read and resize pictures when there is no cache, and
      # threads that make it.
      'workers': 2,
    }
  )


def _check(config):
  checks.choice(config.source, 'config.data.source', SOURCES)
  for name, least in (('image_size', 1), ('max_objects', 1), ('workers', 0)):
    checks.integer(config[name], f'config.data.{name}', least=least)
  checks.boolean(config.cache, 'config.data.cache')
  if not config.data_dir and not (config.cache and config.cache_dir):
    raise errors.UserError(
      'Say where CLEVR is: --config.data.data_dir=DIR, with '
      '--config.data.source=tfds (after '
      f'{clevr_tfds.prepare_command("DIR")}) or =tree (an unpacked '
      'CLEVR_v1.0).'
    )


def cache_folder(config: ml_collections.ConfigDict) -> str:
  """Where the resized pictures of a `data` config are kept."""
  if config.cache_dir:
    return config.cache_dir
  name = f'pictures_{config.source}_{config.image_size}'
  return os.path.join(config.data_dir, name)


def open_split(
  config: ml_collections.ConfigDict, split: str
) -> picture_cache.Pictures:
  """Opens the pictures of a split; makes the cache if it is to be used.

  A finished cache in `cache_dir` needs no `data_dir`.

  Args:
    config: the part `data` of a config, see `default_config`.
    split: 'train' or 'test'.

  Raises:
    UserError: if a setting, a file or the cache does not fit, or a package is
      missing.
  """
  _check(config)
  checks.choice(split, 'split', _SPLITS)
  own = _SPLITS[split][config.source]
  room = {'tfds': clevr_tfds, 'tree': clevr_tree}[config.source]

  def open_source():
    kind = {
      'tfds': clevr_tfds.TfdsPictures,
      'tree': clevr_tree.TreePictures,
    }[config.source]
    return kind(config.data_dir, own, config.max_objects)

  if not config.cache:
    return open_source()
  identity = room.identity(config.data_dir, own) if config.data_dir else None
  folder = cache_folder(config)
  if not picture_cache.exists(folder, split):
    if not config.data_dir:
      raise errors.UserError(
        f'{folder}: no cache of the split {split}; give '
        '--config.data.data_dir=DIR to make it.'
      )
    picture_cache.write(
      open_source(),
      folder,
      split,
      config.image_size,
      identity,
      threads=max(config.workers, 1),
    )
  return picture_cache.CachedPictures(
    folder, split, config.image_size, config.max_objects, identity
  )


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
    if isinstance(self.source, clevr_tfds.TfdsPictures):
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
      sources: pictures by split, from `open_split`.
      process: index of this process, which gets its share of every batch.
      processes: how many there are.

    Raises:
      UserError: if there are fewer pictures than a batch has rows, or a batch
        does not divide among the processes.
    """
    self.sources = sources
    self._config = config
    if 'train' in sources:
      data_lib.check_batch_size(
        config.batch_size, len(sources['train']), 'lower --config.batch_size'
      )
    if config.batch_size % processes:
      raise errors.UserError(
        f'batch_size {config.batch_size} does not divide among {processes} '
        f'processes; use a multiple of {processes}.'
      )
    self._process, self._processes, self._seed = process, processes, seed

  def train(self, first_step):
    """See `Data.train`; rows of this process only."""
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
