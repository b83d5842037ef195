"""What explains an average precision: sizes, attributes and distances.

Every object is compared with the prediction that the loss matches it with.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from idspn_jax.data import clevr_features
from idspn_jax.data import set_layout
from idspn_jax.ops import assignment
from idspn_jax.ops import cost_matrix


class MatchedObjects(NamedTuple):
  """Objects beside their matched predictions; B images, M rows of the target.

  Attributes:
    exists: whether the row is an object, `(B, M)`, bool.
    distance: of CLEVR in scene units, `(B, M)`; infinite where the image's
      prediction is not finite.
    correct: by attribute, whether the likeliest class is the true one, `(B, M)`
      bool each; false where the prediction is not finite.
    set_size_correct: whether as many predictions have a presence above one
      half as there are objects, `(B,)`, bool; false where a prediction is not
      finite.
  """

  exists: np.ndarray
  distance: np.ndarray
  correct: dict[str, np.ndarray]
  set_size_correct: np.ndarray


def match_objects(
  prediction: np.ndarray,
  target: np.ndarray,
  layout: set_layout.Layout = clevr_features.LAYOUT,
) -> MatchedObjects:
  """Matches by the smooth L1 cost of all features, as training does.

  Args:
    prediction: features, `(B, P, D)`.
    target: likewise, `(B, M, D)`.
    layout: of the features.

  Raises:
    ValueError: if shapes do not fit.
  """
  prediction, target = np.asarray(prediction), np.asarray(target)
  guess, truth = layout.decode(prediction), layout.decode(target)
  exists = layout.mask_of(target)
  finite = np.all(np.isfinite(prediction), axis=(-2, -1))
  cost = cost_matrix.smooth_l1_cost(
    jnp.asarray(np.where(finite[:, None, None], prediction, 0)),
    jnp.asarray(target),
  )
  # Targets as rows: every object gets its prediction.
  matching = assignment.match(jnp.swapaxes(cost, -1, -2))
  columns = np.asarray(matching.columns)
  found = (columns >= 0) & finite[:, None]
  columns = np.maximum(columns, 0)

  def matched(values):
    return np.take_along_axis(values, columns, axis=1)

  with np.errstate(invalid='ignore', over='ignore'):
    scale = layout.distance_scale
    values = np.take_along_axis(
      guess.values * scale, columns[..., None], axis=1
    )
    distance = np.linalg.norm(values - truth.values * scale, axis=-1)
  correct = {
    key: found & (matched(guess.classes[key]) == truth.classes[key])
    for key in layout.columns
  }
  predicted = np.sum(layout.mask_of(prediction), axis=-1)
  return MatchedObjects(
    exists,
    np.where(found, distance, np.inf),
    correct,
    finite & (predicted == np.sum(exists, axis=-1)),
  )


def join(parts: list[MatchedObjects]) -> MatchedObjects:
  """Joins the images of several batches, at least one."""
  return MatchedObjects(
    np.concatenate([part.exists for part in parts]),
    np.concatenate([part.distance for part in parts]),
    {
      key: np.concatenate([part.correct[key] for part in parts])
      for key in parts[0].correct
    },
    np.concatenate([part.set_size_correct for part in parts]),
  )


def summarize(matched: MatchedObjects) -> dict[str, float]:
  """Numbers over all objects of all images.

  Returns:
    `set_size_accuracy`, a share of the images; `KEY_accuracy` of every
    attribute, and `attributes_accuracy` of all together, shares of the
    objects (if they have attributes); and `median_distance`, of CLEVR in scene
    units. NaN where there are no objects or no images.
  """
  exists = matched.exists
  shares = {f'{key}_accuracy': c[exists] for key, c in matched.correct.items()}
  if matched.correct:
    every = np.logical_and.reduce(list(matched.correct.values()))
    shares['attributes_accuracy'] = every[exists]
  shares = {'set_size_accuracy': matched.set_size_correct, **shares}
  found = {
    name: float(np.mean(values)) if values.size else math.nan
    for name, values in shares.items()
  }
  distance = matched.distance[exists]
  found['median_distance'] = (
    float(np.median(distance)) if distance.size else math.nan
  )
  return found
