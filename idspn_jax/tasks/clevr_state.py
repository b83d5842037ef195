"""Scene-state autoencoding: CLEVR objects in, CLEVR objects out, no pictures.

The light task on CLEVR scenes: all of Section 4.3 but the image encoder. Rows
without an object are zero and count in the loss, as they do there.
"""

from collections.abc import Callable, Mapping
import contextlib
import functools
import itertools
import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import tqdm

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.data import clevr_scenes
from idspn_jax.data import local_paths
from idspn_jax.data import scene_store
from idspn_jax.data import streams
from idspn_jax.metrics import scene_scores
from idspn_jax.render import sample_scenes as sampling
from idspn_jax.render import scenes as scenes_lib
from idspn_jax.tasks import autoencoding
from idspn_jax.tasks import clevr_predictions
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import model
from idspn_jax.tasks import task

EXAMPLES = 4
# Draws scenes: `sample(key, count)` returns features, `(count, N, 19)`; pure.
Sampler = Callable[[jax.Array, int], jax.Array]
# Random streams of a seed: scenes that are held, by split.
_HELD = {'train': 7, 'test': 8}
# Scenes that are sampled at a time.
_PIECE = 1000
# To be raised when the same seed gives other scenes.
_VERSION = 1
# Of the confidence intervals.
_RESAMPLES = 200


class ClevrState(autoencoding.SetAutoencoding):
  """Reconstructs the objects of scenes."""

  headline = scene_scores.HEADLINE

  def __init__(self, config: ml_collections.ConfigDict, sample: Sampler | None):
    """Builds the model.

    Args:
      config: the configuration.
      sample: draws training scenes anew for every step; None if the data holds
        them.

    Raises:
      UserError: if a value is impossible.
    """
    shape = (config.data.max_objects, clevr_features.NUM_FEATURES)
    super().__init__(config, *shape)
    self._sample = sample
    self._scale = clevr_features.unit_scale(config.data.coordinate_unit)
    # Losses are of coordinates in their configured unit.
    self.set_loss = self._scaled(self.set_loss)

  def _scaled(self, loss):
    return lambda prediction, target: loss(
      prediction * self._scale, target * self._scale
    )

  def prepare(self, batch, key):
    """See `Task.prepare`: samples the scenes if the data holds none."""
    if self._sample is None:
      return batch
    return {'input': self._sample(key, batch['row'].shape[0])}

  def decode(self, variables, sets, key, **options):
    """See `SetAutoencoding.decode`; sets and reconstruction are features."""
    decoded = super().decode(variables, sets * self._scale, key, **options)
    return decoded._replace(set=decoded.set / self._scale)

  def evaluate(self, variables, batch, key, **decode_options):
    """See `Task.evaluate`: the loss, and the features for `summarize`."""
    target = batch['input']
    predicted = self.decode(variables, target, key, **decode_options).set
    loss = self._scaled(model.LOSSES['hungarian'])(predicted, target)
    return {'loss': loss, 'prediction': predicted, 'target': target}

  def summarize(self, metrics):
    """See `Task.summarize`: the mean loss, and `scene_scores.scene_scores`."""
    scores = scene_scores.scene_scores(
      metrics['prediction'], metrics['target'], _RESAMPLES
    )
    return {'loss': float(np.mean(metrics['loss'])), **scores}

  def draw(self, variables, data, key, iterations):
    """See `Task.draw`."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import scenes

    shown = jnp.asarray(data.examples(EXAMPLES)['input'])
    decoded = {
      t: np.asarray(self.decode(variables, shown, key, iterations=t).set)
      for t in iterations
    }
    trained_with = self.config.model.iterations
    figure = scenes.draw_scenes(
      np.asarray(shown), decoded, trained_with=trained_with
    )
    return {'scenes': figure}


def sample_scenes(
  sample: Sampler, count: int, seed: int, split: str
) -> np.ndarray:
  """Draws the scenes of a split that are held in memory.

  Args:
    sample: draws them.
    count: how many.
    seed: of the experiment.
    split: 'train' or 'test', independent of each other.

  Returns:
    Features, `(count, N, 19)`, float32.
  """
  base = int(streams.stream(seed, _HELD[split]).integers(2**31))
  draw = jax.jit(sample, static_argnums=1)
  pieces = []
  with tqdm.tqdm(
    total=count,
    desc=f'Sampling scenes ({split})',
    unit='scene',
    mininterval=0.5 if sys.stderr.isatty() else 30.0,
  ) as bar:
    for start in range(0, count, _PIECE):
      key = jax.random.fold_in(jax.random.key(base), start // _PIECE)
      pieces.append(np.asarray(draw(key, _PIECE)))
      bar.update(min(_PIECE, count - start))
  return np.concatenate(pieces)[:count].astype(np.float32)


def _rendered(data) -> Sampler:
  """The renderer's sampler, for a config's numbers of objects."""
  num_objects = (data.min_objects, data.max_objects)
  try:
    sampling.check_num_objects(num_objects)
  except ValueError as e:
    raise errors.UserError(
      f'config.data.min_objects and max_objects: {e}'
    ) from e

  def sample(key, count):
    drawn = sampling.sample_scenes(key, count, num_objects=num_objects)
    # Objects come first.
    return scenes_lib.features_of(drawn)[:, : data.max_objects]

  return sample


def _store(data, split, count, seed):
  """The file of scenes that follow from these numbers."""
  numbers = f'{data.min_objects}-{data.max_objects}'
  return os.path.join(
    data.scene_dir, f'{split}_{count}_of_{numbers}_seed{seed}_v{_VERSION}.npz'
  )


class ClevrStateData(data_lib.ArrayData):
  """Scenes of one seed: held in memory, or drawn anew for every step."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    seed: int,
    draw: Mapping[str, Callable[[], np.ndarray]],
  ):
    """Remembers where the scenes come from.

    Args:
      config: the configuration.
      seed: of the order of the training scenes.
      draw: by split, what returns its scenes, `(S, N, 19)`, when they are first
        needed; without 'train' there are new ones for every step.
    """
    self._max_objects = config.data.max_objects
    self._draw = draw
    super().__init__(
      {},
      config.batch_size,
      config.eval_batch_size,
      seed,
      config.random_streams,
    )

  def _need(self, split):
    if split not in self.splits:
      self.splits = {**self.splits, split: {'input': self._draw[split]()}}

  def train(self, first_step):
    """See `Data.train`; `ClevrState.prepare` fills batches of bare rows."""
    # Both splits, so that faults are found before training starts.
    self._need('test')
    if 'train' not in self._draw:
      rows = {'row': np.arange(self.batch_size)}
      return contextlib.nullcontext(itertools.repeat(rows))
    self._need('train')
    return super().train(first_step)

  def evaluate(self, split='test'):
    """See `Data.evaluate`."""
    self._need(split)
    return super().evaluate(split)

  def examples(self, count, split='test'):
    """See `ArrayData.examples`."""
    self._need(split)
    return super().examples(count, split)

  def read_inputs(self, path):
    """See `Data.read_inputs`: a CLEVR scene file."""
    return {'input': _load(path, self._max_objects)}

  def to_units(self, predictions):
    """See `Data.to_units` and `clevr_predictions.to_units`."""
    return clevr_predictions.to_units(predictions)

  def to_json(self, predictions):
    """See `Data.to_json`; objects as in a scene file."""
    return clevr_predictions.to_json(predictions)


def _load(path, max_objects):
  try:
    return clevr_scenes.load_scenes(local_paths.local_path(path), max_objects)
  except ValueError as e:
    raise errors.UserError(str(e)) from e


def _check(config):
  data = config.data
  checks.integer(
    data.num_train, 'config.data.num_train (0 for new scenes every step)', 0
  )
  for name in ('num_test', 'min_objects', 'max_objects'):
    checks.integer(data[name], f'config.data.{name}')
  if data.min_objects > data.max_objects:
    raise errors.UserError(
      f'config.data.min_objects is {data.min_objects}, above max_objects, '
      f'{data.max_objects}.'
    )
  checks.number(
    data.coordinate_unit,
    'config.data.coordinate_unit',
    least=1e-3,
    most=1e3,
  )
  if data.num_train:
    data_lib.check_batch_size(
      config.batch_size,
      data.num_train,
      'lower --config.batch_size or raise --config.data.num_train',
    )


def build(
  config: ml_collections.ConfigDict,
  record: Mapping[str, Any] | None = None,
  data_path: str | None = None,
  sample: Sampler | None = None,
) -> task.Experiment:
  """Builds the experiment; see `task.Builder`.

  Args:
    config: the configuration.
    record: unused; the scenes follow from the config.
    data_path: a CLEVR scene file to test on, instead of `config.data.path`.
    sample: draws scenes; None for the renderer's sampler.

  Raises:
    UserError: if a value is impossible or the scene file does not fit.
  """
  del record
  _check(config)
  # Scenes of another sampler are not stored: nothing tells one from another.
  stores = sample is None and bool(config.data.scene_dir)
  sample = sample or _rendered(config.data)
  path = data_path or config.data.path
  built = ClevrState(config, None if config.data.num_train else sample)
  given = _load(path, config.data.max_objects) if path else None

  @functools.cache
  def of_seed(seed):
    def held(split):
      count = config.data[f'num_{split}']
      draw = functools.partial(sample_scenes, sample, count, seed, split)
      if not stores:
        return draw()
      return scene_store.stored_scenes(
        _store(config.data, split, count, seed), (count, *built.shape), draw
      )

    draw = {'test': functools.partial(held, 'test')}
    if path:
      draw['test'] = lambda: given
    if config.data.num_train:
      draw['train'] = functools.partial(held, 'train')
    return ClevrStateData(config, seed, draw)

  other = os.fspath(data_path) if data_path else None
  return task.Experiment(built, of_seed, other_file=other)
