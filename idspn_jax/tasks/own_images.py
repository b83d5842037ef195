"""From a user's own images to their sets."""

from collections.abc import Mapping
import functools
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.data import set_layout
from idspn_jax.metrics import scene_scores
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import images
from idspn_jax.tasks import own_images_batches
from idspn_jax.tasks import own_images_data
from idspn_jax.tasks import task

EXAMPLES = 4
UNITS = ('fraction', 'pixels')
# Of the confidence intervals.
_RESAMPLES = 200
# Distances that are held at a time when sets are scored.
_MOST_DISTANCES = 2**22


class OwnImages(images.ImagesToSets):
  """Predicts the elements of a user's images."""

  headline = 'ap_0.25'

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    set_size: int,
    layout: set_layout.Layout,
  ):
    """Builds the model.

    Args:
      config: the configuration.
      set_size: elements per padded set N.
      layout: of the features.

    Raises:
      UserError: if a value is impossible.
    """
    scale = np.ones((1, 1, layout.num_features), np.float32)
    super().__init__(
      config, config.data.image_size, set_size, layout.num_features, scale
    )
    self.layout = layout

  def summarize(self, metrics):
    """See `Task.summarize`: the mean loss, and `scene_scores.scene_scores`.

    Distances are in `config.data.distance_unit` standard deviations.
    """
    target = metrics['target']
    at_once = _MOST_DISTANCES // (target.shape[1] ** 2 * target.shape[2])
    scores = scene_scores.scene_scores(
      metrics['prediction'],
      target,
      _RESAMPLES,
      batch_size=min(max(at_once, 1), 1024),
      layout=self.layout,
    )
    if not self.layout.continuous:
      del scores['median_distance']
    loss, count = metrics['loss'], len(metrics['loss'])
    return {'loss': float(np.mean(loss)), **scores, 'images': float(count)}

  def draw(self, variables, data, key, iterations):
    """See `Task.draw`."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import image_sets as image_figures
    from idspn_jax.figures import sets as set_figures

    batch = data.examples(EXAMPLES)
    image = jnp.asarray(batch['image'])
    decoded = {}
    for t in iterations:
      found = self.model(variables, image, key, iterations=t)
      decoded[t] = data.in_units(np.asarray(found.sets))
    truth = data.in_units(batch['target'])
    axes = _drawn_axes(self.config.data, self.layout.continuous)
    if axes is None and self.layout.continuous:
      figure = set_figures.draw_sets_with_presence(
        _with_presence(truth),
        {t: _with_presence(found) for t, found in decoded.items()},
        feature_names=self.layout.continuous,
        equal=False,
        trained_with=self.config.model.iterations,
      )
      return {'sets': figure}
    extents = None
    if self.config.data.draw_units == 'pixels':
      extents = data.extents(EXAMPLES)
    figure = image_figures.draw_images(
      batch['image'],
      truth,
      decoded,
      self.layout,
      axes,
      extents,
      trained_with=self.config.model.iterations,
    )
    return {'images': figure}


def _with_presence(elements):
  return np.concatenate(
    [elements.values, np.asarray(elements.presence)[..., None]], -1
  )


def _drawn_axes(config, continuous):
  """Columns of the features that are places in the image; None for none."""
  names = config.draw_x, config.draw_y
  if not all(name in continuous for name in names):
    return None
  return tuple(continuous.index(name) for name in names)


def _check(config, data_path):
  data = config.data
  checks.integer(data.image_size, 'config.data.image_size')
  checks.integer(data.split_seed, 'config.data.split_seed', least=0)
  checks.number(
    data.test_fraction, 'config.data.test_fraction', least=0, most=1
  )
  checks.number(data.distance_unit, 'config.data.distance_unit', positive=True)
  # The other models predict CLEVR objects only.
  checks.choice(config.model.name, 'config.model.name', ('set_decoder',))
  checks.choice(data.draw_units, 'config.data.draw_units', UNITS)
  if not data.path and data_path is None:
    raise errors.UserError(
      'own_images needs a file of sets, --config.data.path=SETS.json (or '
      '.npz), and --config.data.images=FOLDER; see docs/own_images.md.'
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
    record: what the run stored of its files.
    data_path: where its file of sets is now; or another file, which is then
      evaluated whole, scaled by the run's statistics.

  Raises:
    UserError: if a value is impossible, or a file does not fit or has changed.
  """
  _check(config, data_path)
  source = own_images_data.open_source(config.data, record, data_path)
  if source.other_file is None and source.missing is None:
    data_lib.check_batch_size(
      config.batch_size, len(source.split[0]), 'lower --config.batch_size'
    )
  built = OwnImages(config, source.sets.values.shape[1], source.layout)
  splits = own_images_batches.Splits(source, config.data.image_size)

  @functools.cache
  def of_seed(seed):
    return own_images_batches.OwnImagesData(config, seed, splits)

  return task.Experiment(built, of_seed, source.record, source.other_file)
