"""Autoencoding of a user's own sets, read from a file.

Sets of different sizes are padded with zero rows and carry a presence feature
in their last column, which the decoder has to predict as well: an element
exists if its presence exceeds one half. Padded rows count in the loss, as they
do on CLEVR (Section 4.3).
"""

from collections.abc import Mapping
import functools
import os
from typing import Any

from absl import logging
import jax.numpy as jnp
import ml_collections
import numpy as np

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.data import set_files
from idspn_jax.data import standardization
from idspn_jax.metrics import averages
from idspn_jax.ops import assignment
from idspn_jax.ops import cost_matrix
from idspn_jax.tasks import autoencoding
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import model
from idspn_jax.tasks import task

EXAMPLES = 4


class OwnSets(autoencoding.SetAutoencoding):
  """Reconstructs the sets of a file, sizes included."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    set_size: int,
    set_dim: int,
    kind: str,
  ):
    """Builds the model; see `SetAutoencoding`.

    Args:
      config: the configuration.
      set_size: elements per padded set N.
      set_dim: features D, presence included.
      kind: of the file, see `set_files.SetFile`.
    """
    super().__init__(config, set_size, set_dim)
    self.kind = kind

  def evaluate(self, variables, batch, key, **decode_options):
    """See `Task.evaluate`.

    `size_correct` and `size_error` score the predicted set size; `distance` is
    the mean L2 distance of existing elements to their matched predictions
    (CLEVR: of coordinates, in scene units), `attributes_correct` (CLEVR only)
    the share of existing objects whose four attributes are all right; sets
    without elements do not count in these two. A non-finite prediction is
    infinitely far away, and wrong.
    """
    target = batch['input']
    predicted = self.decode(variables, target, key, **decode_options).set
    cost = cost_matrix.smooth_l1_cost(predicted, target)
    # Targets as rows: every existing element gets its prediction.
    matching = assignment.match(jnp.swapaxes(cost, -1, -2))
    matched = assignment.gather_matched(predicted, matching)
    mask = target[..., -1] > 0.5
    count = jnp.sum(mask, -1).astype(target.dtype)
    finite = jnp.all(jnp.isfinite(predicted), axis=(-2, -1))

    def over_elements(values, non_finite):
      mean = jnp.sum(jnp.where(mask, values, 0.0), -1) / jnp.maximum(count, 1.0)
      weight = (count > 0).astype(target.dtype)
      return averages.Weighted(jnp.where(finite, mean, non_finite), weight)

    size = jnp.sum(predicted[..., -1] > 0.5, -1)
    error = jnp.abs(size - batch['size']).astype(target.dtype)
    out = {
      'loss': model.LOSSES['hungarian'](predicted, target),
      'size_correct': jnp.where(finite & (error == 0), 1.0, 0.0),
      'size_error': jnp.where(finite, error, jnp.inf),
    }
    if self.kind == 'npz':
      offset = (matched - target)[..., :-1] * batch['scale'][:, None]
      distance = jnp.linalg.norm(offset, axis=-1)
      out['distance'] = over_elements(distance, jnp.inf)
      return out
    offset = (matched - target)[..., clevr_features.COORDINATES]
    distance = jnp.linalg.norm(offset, axis=-1)
    scale = clevr_features.COORDINATE_SCALE
    out['distance'] = over_elements(scale * distance, jnp.inf)
    right = jnp.ones_like(mask)
    for _, columns in clevr_features.ATTRIBUTES.values():
      guess = jnp.argmax(matched[..., columns], -1)
      right &= guess == jnp.argmax(target[..., columns], -1)
    out['attributes_correct'] = over_elements(right.astype(target.dtype), 0.0)
    return out

  def draw(self, variables, data, key, iterations):
    """See `Task.draw`."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import scenes
    from idspn_jax.figures import sets as set_figures

    shown = jnp.asarray(data.examples(EXAMPLES)['input'])
    decoded = {
      t: np.asarray(self.decode(variables, shown, key, iterations=t).set)
      for t in iterations
    }
    trained_with = self.config.model.iterations
    if self.kind == 'clevr':
      figure = scenes.draw_scenes(
        np.asarray(shown), decoded, trained_with=trained_with
      )
    else:
      figure = set_figures.draw_sets_with_presence(
        data.in_units(np.asarray(shown)),
        {t: data.in_units(y) for t, y in decoded.items()},
        trained_with=trained_with,
      )
    return {'sets': figure}


class OwnSetsData(data_lib.ArrayData):
  """The sets of a file, standardised, split into train and test."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    seed: int,
    file: set_files.SetFile,
    split: tuple[np.ndarray, np.ndarray],
    scaling: standardization.Standardization,
  ):
    """Prepares the arrays.

    Args:
      config: the configuration.
      seed: of the order of the training batches.
      file: the sets.
      split: indices of the training and of the test sets.
      scaling: of the features; the identity for CLEVR scenes.
    """
    self._scaling = scaling
    self._kind = file.kind
    self._standardized = config.data.standardize
    self._num_features = file.sets.shape[-1]
    self._set_size = file.sets.shape[1]
    rows = self._rows(file, config.data.path)
    train, test = split
    super().__init__(
      {
        name: {key: array[index] for key, array in rows.items()}
        for name, index in (('train', train), ('test', test))
      },
      config.batch_size,
      config.eval_batch_size,
      seed,
      config.random_streams,
    )

  def _rows(self, file, path):
    sizes = file.sizes
    if file.kind != 'npz':
      return {'input': file.sets.astype(np.float32), 'size': sizes}
    try:
      if not self._standardized:
        standardization.check_float32(file.sets, sizes)
      scaled = self._scaling.apply(file.sets)
      sets = standardization.to_float32(scaled, sizes)
    except ValueError as e:
      raise errors.UserError(f'{path}: {e}') from e
    # Distances are measured in these units.
    with np.errstate(over='ignore'):
      scale = self._scaling.std.astype(np.float32)
    if not np.all(np.isfinite(scale)):
      largest = self._scaling.std.max()
      raise errors.UserError(
        f'{path}: a feature has standard deviation {largest:g}, beyond the '
        'range of float32; rescale it.'
      )
    return {
      'input': set_files.with_presence(sets, sizes),
      'size': sizes,
      'scale': np.broadcast_to(scale, (len(sets), len(scale))),
    }

  def in_units(self, sets: np.ndarray) -> np.ndarray:
    """Undoes the scaling of sets with presence, `(…, D)`, in float64."""
    if self._kind != 'npz':
      return sets
    sets = np.asarray(sets, np.float64)
    features = self._scaling.invert(sets[..., :-1])
    return np.concatenate([features, sets[..., -1:]], -1)

  def read_inputs(self, path):
    """See `Data.read_inputs`: a file of the kind that the run trained on."""
    file = _read(path)
    _check_fits(file, path, self._kind, self._set_size, self._num_features)
    file = _padded_to(file, self._set_size)
    return self._rows(file, path)

  def to_units(self, predictions):
    """See `Data.to_units`: features in the file's units, presence apart."""
    if self._kind != 'npz':
      return predictions
    sets = self.in_units(predictions['sets'])
    rest = {k: v for k, v in predictions.items() if k != 'sets'}
    return {'sets': sets[..., :-1], 'presence': sets[..., -1], **rest}


def _read(path):
  try:
    return set_files.load_set_file(path)
  except ValueError as e:
    raise errors.UserError(str(e)) from e


def _check_fits(file, path, kind, set_size, num_features):
  if file.kind != kind or file.sets.shape[-1] != num_features:
    raise errors.UserError(
      f'{path}: kind {file.kind} with {file.sets.shape[-1]} features; the run '
      f'was trained on {kind} with {num_features}.'
    )
  largest = int(file.sizes.max(initial=0))
  if largest > set_size:
    raise errors.UserError(
      f'{path}: a set of {largest} elements, but the run knows at most '
      f'{set_size}; remove larger sets or train on them.'
    )


def _padded_to(file, set_size):
  """The same sets with `set_size` rows each."""
  sets = file.sets[:, :set_size]
  missing = set_size - sets.shape[1]
  sets = np.pad(sets, ((0, 0), (0, missing), (0, 0)))
  return file._replace(sets=sets)


def _scaling(config, file, train, path):
  """Mean and standard deviation of the training sets' features."""
  sets = file.sets
  if file.kind == 'npz' and config.data.standardize:
    try:
      return standardization.fit(sets[train], file.sizes[train])
    except ValueError as e:
      raise errors.UserError(f'{path}: {e}') from e
  return standardization.identity(sets.shape[-1])


def _split(config, file, path):
  try:
    return set_files.split(
      len(file.sets), config.data.test_fraction, config.data.split_seed
    )
  except ValueError as e:
    raise errors.UserError(f'{path}: {e}') from e


def _record(path, file, split, scaling):
  """What a run stores of its data; see `Experiment.record`."""
  return {
    'path': path,
    'digest': set_files.digest(file.sets, file.sizes),
    'kind': file.kind,
    'shape': list(file.sets.shape),
    'mean': scaling.mean.tolist(),
    'std': scaling.std.tolist(),
    'test_sets': split[1].tolist(),
  }


def _same_sizes(a, b):
  return a.sets.shape == b.sets.shape and np.array_equal(a.sizes, b.sizes)


def _is_own_file(config, record, file, path, moved):
  """Whether `file` is the one that the run was trained on.

  A run from before records were stored is taken to own the file at its path,
  and a file with as many sets of the same sizes.

  Raises:
    UserError: if the file at the run's own path has changed.
  """
  if record is None:
    if not moved:
      return True
    if not os.path.exists(os.path.expanduser(config.data.path)):
      logging.warning(
        'The run has no record of its data and %s is gone: taking %s for the '
        'same file, moved.',
        config.data.path,
        path,
      )
      return True
    return _same_sizes(_read(config.data.path), file)
  if set_files.digest(file.sets, file.sizes) == record['digest']:
    return True
  if moved:
    return False
  raise errors.UserError(
    f'{path} has changed since the run was trained: it holds '
    f'{len(file.sets)} sets, of {record["shape"][0]} then, or other values. '
    'Restore the file, or evaluate the run on the new one whole with '
    'experiments.evaluate --data=FILE; training on it needs a new --workdir.'
  )


def _check(config, data_path):
  checks.boolean(config.data.standardize, 'config.data.standardize')
  checks.integer(config.data.split_seed, 'config.data.split_seed', least=0)
  if not config.data.path and data_path is None:
    raise errors.UserError(
      'own_sets needs a file: --config.data.path=FILE (.npz with arrays '
      '`sets` and `sizes`, or a CLEVR scenes .json).'
    )


def _other_file(config, record, file, path):
  """The experiment of a run on a file that it was not trained on."""
  if record is None:
    own = _read(config.data.path)
    split = _split(config, own, config.data.path)
    scaling = _scaling(config, own, split[0], config.data.path)
    record = _record(config.data.path, own, split, scaling)
  _, set_size, num_features = record['shape']
  _check_fits(file, path, record['kind'], set_size, num_features)
  file = _padded_to(file, set_size)
  scaling = standardization.Standardization(
    np.asarray(record['mean'], np.float64),
    np.asarray(record['std'], np.float64),
  )
  every = np.arange(len(file.sets))
  built = _experiment(config, file, (every[:0], every), scaling)
  return built._replace(other_file=path)


def _experiment(config, file, split, scaling):
  has_presence = file.kind == 'clevr'
  built = OwnSets(
    config,
    file.sets.shape[1],
    file.sets.shape[2] + (not has_presence),
    file.kind,
  )

  @functools.cache
  def of_seed(seed):
    return OwnSetsData(config, seed, file, split, scaling)

  return task.Experiment(built, of_seed)


def build(
  config: ml_collections.ConfigDict,
  record: Mapping[str, Any] | None = None,
  data_path: str | None = None,
) -> task.Experiment:
  """Builds the experiment; see `task.Builder`.

  All seeds share one split, `config.data.split_seed`'s, and its statistics.

  Args:
    config: the configuration.
    record: what the run stored of its data file.
    data_path: where that file is now; or another file, which is then evaluated
      whole, scaled by the run's statistics.

  Raises:
    UserError: if a value is impossible, or the file does not fit or has
      changed.
  """
  _check(config, data_path)
  path = data_path or config.data.path
  file = _read(path)
  if not _is_own_file(config, record, file, path, data_path is not None):
    return _other_file(config, record, file, path)
  split = _split(config, file, path)
  data_lib.check_batch_size(
    config.batch_size, len(split[0]), 'lower --config.batch_size'
  )
  scaling = _scaling(config, file, split[0], path)
  return _experiment(config, file, split, scaling)._replace(
    record=_record(path, file, split, scaling)
  )
