"""Autoencoding of a user's own sets, read from a file.

Sets of different sizes are padded with zero rows and carry a presence feature
in their last column, which the decoder has to predict as well: an element
exists if its presence exceeds one half. Padded rows count in the loss, as they
do on CLEVR (Section 4.3).
"""

from collections.abc import Mapping
import functools
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.metrics import averages
from idspn_jax.ops import assignment
from idspn_jax.ops import cost_matrix
from idspn_jax.tasks import autoencoding
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import model
from idspn_jax.tasks import own_sets_data
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
      # In units of the largest scale, whose square may exceed float32.
      unit = jnp.max(batch['scale'], axis=-1, keepdims=True)
      relative = batch['scale'] / unit
      offset = (matched - target)[..., :-1] * relative[:, None]
      distance = unit * jnp.linalg.norm(offset, axis=-1)
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


def _check(config, data_path):
  checks.boolean(config.data.standardize, 'config.data.standardize')
  checks.integer(config.data.split_seed, 'config.data.split_seed', least=0)
  if not config.data.path and data_path is None:
    raise errors.UserError(
      'own_sets needs a file: --config.data.path=FILE (.npz with arrays '
      '`sets` and `sizes`, or a CLEVR scenes .json).'
    )


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
  source = own_sets_data.open_source(config, record, data_path)
  if source.other_file is None and source.missing is None:
    data_lib.check_batch_size(
      config.batch_size, len(source.split[0]), 'lower --config.batch_size'
    )
  _, set_size, num_features = source.file.sets.shape
  has_presence = source.file.kind == 'clevr'
  built = OwnSets(
    config, set_size, num_features + (not has_presence), source.file.kind
  )

  @functools.cache
  def of_seed(seed):
    return own_sets_data.OwnSetsData(config, seed, source)

  return task.Experiment(built, of_seed, source.record, source.other_file)
