"""CLEVR: from a picture to the set of its objects (Section 4.3)."""

from collections.abc import Mapping
import functools
import os
from typing import Any

import jax
import ml_collections
import numpy as np

from idspn_jax import checks
from idspn_jax.data import clevr_features
from idspn_jax.data import clevr_tree
from idspn_jax.data import local_paths
from idspn_jax.metrics import scene_scores
from idspn_jax.render import batches as rendered_batches
from idspn_jax.tasks import clevr_pictures
from idspn_jax.tasks import clevr_predictions
from idspn_jax.tasks import clevr_sources
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import images
from idspn_jax.tasks import task

EXAMPLES = 4
# Of the confidence intervals.
_RESAMPLES = 200


class Clevr(images.ImagesToSets):
  """Predicts the objects of CLEVR pictures."""

  headline = scene_scores.HEADLINE

  def __init__(self, config: ml_collections.ConfigDict):
    """Builds the model.

    Args:
      config: the configuration.

    Raises:
      UserError: if a value is impossible.
    """
    data = config.data
    checks.number(
      data.coordinate_unit,
      'config.data.coordinate_unit',
      least=1e-3,
      most=1e3,
    )
    super().__init__(
      config,
      data.image_size,
      data.max_objects,
      clevr_features.NUM_FEATURES,
      clevr_features.unit_scale(data.coordinate_unit),
    )

  def fill(self, batch, key):
    """See `Task.fill`: renders the pictures if the data holds none."""
    if 'image' in batch:
      return batch
    data = self.config.data
    image, target = rendered_batches.batch(
      jax.random.split(key)[0],
      batch['row'].shape[0],
      (data.image_size, data.image_size),
      batch['row'][0],
      (data.min_objects, data.max_objects),
    )
    # Objects come first.
    return {'image': image, 'target': target[:, : data.max_objects]}

  def prepare(self, batch, key):
    """See `Task.prepare`: augments the images."""
    return super().prepare(batch, jax.random.split(key)[1])

  def summarize(self, metrics):
    """See `Task.summarize`: the mean loss, and `scene_scores.scene_scores`."""
    scores = scene_scores.scene_scores(
      metrics['prediction'], metrics['target'], _RESAMPLES
    )
    loss, count = metrics['loss'], len(metrics['loss'])
    return {'loss': float(np.mean(loss)), **scores, 'images': float(count)}

  def draw(self, variables, data, key, iterations):
    """See `Task.draw`: pictures with their objects, and scenes from above."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import scene_predictions
    from idspn_jax.figures import scenes

    shown = data.examples(EXAMPLES)
    found: dict[int | str, np.ndarray] = {}
    for steps in iterations:
      options = {'iterations': steps} if self.iterates else {}
      predict = jax.jit(functools.partial(self.predict, **options))
      label = 'prediction' if steps is None else steps
      batch = {'image': shown['image']}
      found[label] = np.asarray(predict(variables, batch, key)['sets'])
    trained_with = self.config.model.iterations if self.iterates else None
    return {
      'predictions': scene_predictions.draw_predictions(
        shown['image'], shown['target'], found, trained_with=trained_with
      ),
      'scenes': scenes.draw_scenes(
        shown['target'], found, trained_with=trained_with
      ),
    }


class ClevrData(clevr_pictures.ClevrPictures):
  """CLEVR pictures of one seed, and what predictions say of objects."""

  def to_units(self, predictions):
    """See `Data.to_units` and `clevr_predictions.to_units`."""
    return clevr_predictions.to_units(predictions)

  def to_json(self, predictions):
    """See `Data.to_json`; objects as in a scene file."""
    return clevr_predictions.to_json(predictions)


def build(
  config: ml_collections.ConfigDict,
  record: Mapping[str, Any] | None = None,
  data_path: str | None = None,
  num_objects: tuple[int, int] | None = None,
) -> task.Experiment:
  """Builds the experiment; see `task.Builder`.

  Args:
    config: the configuration.
    record: unused; caches know what they were made from.
    data_path: an unpacked archive on whose `val` pictures to test, instead of
      `config.data.path`.
    num_objects: smallest and largest number of objects of the test scenes;
      None for what the config says.

  Raises:
    UserError: if a value is impossible, or `data_path` is no such archive.
  """
  del record
  clevr_sources.check(config.data)
  if num_objects is not None:
    clevr_sources.check_num_objects(config.data, num_objects)
  other = None
  if data_path:
    # Before anything is computed.
    clevr_tree.find_tree(data_path)
    other = os.path.normpath(local_paths.local_path(data_path))
  data = config.data
  if data.source == 'rendered' and data.num_train:
    data_lib.check_batch_size(
      config.batch_size,
      data.num_train,
      'lower --config.batch_size or raise --config.data.num_train',
    )
  built = Clevr(config)
  sources = clevr_sources.open_splits(
    config.data, other or config.data.path, num_objects
  )

  @functools.cache
  def of_seed(seed):
    return ClevrData(
      config, seed, sources, jax.process_index(), jax.process_count()
    )

  return task.Experiment(built, of_seed, other_file=other)
