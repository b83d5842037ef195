"""Average precision of predicted objects (Section 4.3), both ways.

Every prediction is a detection, however low its presence; presence ranks them.
It can only find an object of its own image whose attributes all equal its own,
and does if it is closer than a threshold. Objects are those of CLEVR, or of
another `Layout`; without continuous features they are at distance 0. Two
definitions are in use:

*Dataset-level* (Slot Attention's; quote this one): the detections of all images
are ranked together. A detection stands for the nearest object with its
attributes, and is false if a better-ranked detection has found that object (or
all its equals, see `Layout.counts_repeats`).

*Per image* (the official code of the paper): the detections of one image are
ranked, and the average precisions of the images are averaged. A detection
stands for the nearest object with its attributes that no better-ranked one
stands for, however far that one was from it. It is systematically higher.

Axis letters: `B` images, `P` predictions per image, `M` rows of the target, `K`
thresholds; `D` features, 19 of CLEVR objects.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np

from idspn_jax.data import clevr_features
from idspn_jax.data import set_layout
from idspn_jax.metrics import element_distances

# In scene units; the first one asks for the attributes alone.
THRESHOLDS = (math.inf, 1.0, 0.5, 0.25, 0.125, 0.0625)


class Detections(NamedTuple):
  """What both definitions need of every image; the best-ranked ones first.

  Attributes:
    confidence: `(B, P)`, float64, descending in every image.
    dataset_hits: which detections find an object under each threshold, by the
      dataset-level definition, `(B, P, K)`, bool.
    image_hits: the same by the per-image definition, `(B, P, K)`, bool.
    objects: how many objects there are, `(B,)`, int64.
  """

  confidence: np.ndarray
  dataset_hits: np.ndarray
  image_hits: np.ndarray
  objects: np.ndarray


class Intervals(NamedTuple):
  """Confidence intervals over images, one per threshold.

  Attributes:
    dataset_low: lower ends of dataset-level average precision, `(K,)`.
    dataset_high: upper ends.
    image_low: lower ends of mean per-image average precision, `(K,)`.
    image_high: upper ends.
  """

  dataset_low: np.ndarray
  dataset_high: np.ndarray
  image_low: np.ndarray
  image_high: np.ndarray


def _check_thresholds(thresholds):
  found = np.asarray(thresholds, np.float64)
  if found.ndim != 1 or not found.size or not np.all(found > 0):
    raise ValueError(
      f'Thresholds must be positive distances, (K,); got {thresholds!r}.'
    )
  return found


def _nearest(distance):
  """Index and distance of the nearest object, `(..., M)` to `(...)` each."""
  if not distance.shape[-1]:
    empty = distance.shape[:-1]
    return np.full(empty, -1), np.full(empty, np.inf)
  return np.argmin(distance, axis=-1), np.min(distance, axis=-1)


def _dataset_hits(distance, repeats, thresholds):
  """See `Detections.dataset_hits`; detections are ranked.

  Args:
    distance: `(B, P, M)`.
    repeats: how many detections can find each object, `(B, M)`; of equal ones
      the first is always the nearest.
    thresholds: `(K,)`.
  """
  index, least = _nearest(distance)
  close = least[..., None] < thresholds
  ranks = np.arange(distance.shape[1])
  earlier = ranks[:, None] > ranks
  # (B, P, P): an earlier detection stands for the same object.
  rivals = (index[:, :, None] == index[:, None, :]) & earlier
  taken = np.einsum('bpq,bqk->bpk', rivals, close.astype(np.int64))
  if not repeats.shape[-1]:
    return close
  left = np.take_along_axis(repeats, index, axis=1)[..., None]
  return close & (taken < left)


def _image_hits(distance, thresholds):
  """See `Detections.image_hits`; detections are ranked."""
  hits = np.zeros((*distance.shape[:2], len(thresholds)), bool)
  left = distance.copy()
  images = np.arange(len(left))
  for rank in range(distance.shape[1] if distance.shape[2] else 0):
    index, least = _nearest(left[:, rank])
    hits[:, rank] = least[:, None] < thresholds
    some = np.isfinite(least)
    left[images[some], :, index[some]] = np.inf
  return hits


def detect(
  prediction: np.ndarray,
  target: np.ndarray,
  thresholds: Sequence[float] = THRESHOLDS,
  layout: set_layout.Layout = clevr_features.LAYOUT,
) -> Detections:
  """Ranks predictions and tells which of them find an object.

  Equal presences are ranked by position; a presence of NaN comes last. A
  prediction with another number that is not finite finds nothing.

  Args:
    prediction: features, `(B, P, D)`.
    target: likewise, `(B, M, D)`; rows whose presence is at most 0.5 are no
      objects.
    thresholds: distances, of CLEVR in scene units, `(K,)`.
    layout: of the features.

  Raises:
    ValueError: if shapes do not fit or a threshold is not positive.
  """
  thresholds = _check_thresholds(thresholds)
  prediction, target = element_distances.checked(prediction, target, layout)
  confidence = prediction[..., layout.presence]
  confidence = np.where(np.isnan(confidence), -np.inf, confidence)
  order = np.argsort(-confidence, axis=1, kind='stable')
  confidence = np.take_along_axis(confidence, order, axis=1)
  prediction = np.take_along_axis(prediction, order[..., None], axis=1)
  distance = element_distances.distances(prediction, target, layout)
  return Detections(
    confidence,
    _dataset_hits(
      distance, element_distances.repeats(target, layout), thresholds
    ),
    _image_hits(distance, thresholds),
    np.sum(layout.mask_of(target), axis=1),
  )


def join(parts: Sequence[Detections]) -> Detections:
  """Joins the detections of several batches.

  Raises:
    ValueError: if there is none, or they differ in predictions per image or in
      thresholds.
  """
  if not parts:
    raise ValueError('There are no images to score; add at least one batch.')
  shapes = {part.dataset_hits.shape[1:] for part in parts}
  if len(shapes) > 1:
    raise ValueError(
      'Batches need equal numbers of predictions per image and of thresholds; '
      f'got {sorted(shapes)}.'
    )
  return Detections(*map(np.concatenate, zip(*parts, strict=True)))


class _Ranking:
  """All detections in one order, to weigh images in many ways."""

  def __init__(self, detections):
    flat = detections.confidence.ravel()
    order = np.argsort(-flat, kind='stable')
    predictions = detections.confidence.shape[1]
    self._image = order // max(predictions, 1)
    thresholds = detections.dataset_hits.shape[2]
    hits = detections.dataset_hits.reshape(len(flat), thresholds)[order]
    # Precision is highest, between two hits, at a hit.
    self._places = [np.flatnonzero(column) for column in hits.T]
    self._objects = detections.objects

  def average_precision(self, weights):
    """Dataset-level, `(K,)`, if image b occurs `weights[b]` times."""
    total = np.dot(weights, self._objects)
    if not total:
      return np.full(len(self._places), np.nan)
    each = weights[self._image]
    count = np.cumsum(each)
    found = []
    for places in self._places:
      hits = each[places]
      # At least 1, because nothing may have been drawn so far.
      precision = np.cumsum(hits) / np.maximum(count[places], 1)
      envelope = np.maximum.accumulate(precision[::-1])[::-1]
      found.append(np.dot(hits, envelope) / total)
    return np.asarray(found)


def dataset_average_precision(detections: Detections) -> np.ndarray:
  """Dataset-level average precision.

  The area under precision as a function of recall, where the precision at a
  recall is the greatest at this or a higher one.

  Args:
    detections: of all images.

  Returns:
    `(K,)`, float64, between 0 and 1; NaN if there is no object.
  """
  once = np.ones(len(detections.objects))
  return _Ranking(detections).average_precision(once)


def image_average_precision(detections: Detections) -> np.ndarray:
  """Average precision of every image by itself.

  Args:
    detections: of all images.

  Returns:
    `(B, K)`, float64; NaN for images without objects.
  """
  hits = detections.image_hits
  ranks = np.arange(1, hits.shape[1] + 1)[:, None]
  precision = np.cumsum(hits, axis=1) / ranks
  envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
  objects = detections.objects[:, None]
  area = np.sum(hits * envelope, axis=1) / np.maximum(objects, 1)
  return np.where(objects > 0, area, np.nan)


def mean_over_images(
  values: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
  """Averages over the images that have objects.

  Args:
    values: `(B, K)`, NaN for images without objects.
    weights: how often each image counts, `(B,)`; once if None.

  Returns:
    `(K,)`; NaN if no image has objects.
  """
  some = ~np.isnan(values)
  weights = np.ones(len(values)) if weights is None else weights
  total = weights @ some
  sums = weights @ np.where(some, values, 0.0)
  return np.where(total > 0, sums / np.maximum(total, 1), np.nan)


def bootstrap(
  detections: Detections,
  resamples: int = 1000,
  seed: int = 0,
  level: float = 0.95,
) -> Intervals:
  """Confidence intervals: images drawn anew with replacement, percentiles.

  Args:
    detections: of all images.
    resamples: how often as many images are drawn as there are.
    seed: one seed, one result.
    level: share of the resamples inside the interval.

  Raises:
    ValueError: if there are no images or resamples, or the level is not
      between 0 and 1.
  """
  count = len(detections.objects)
  if count < 1 or resamples < 1 or not 0 < level < 1:
    raise ValueError(
      'A bootstrap needs images, resamples and a level between 0 and 1; got '
      f'{count}, {resamples} and {level}.'
    )
  rng = np.random.default_rng(seed)
  ranking, by_image = _Ranking(detections), image_average_precision(detections)
  dataset, image = [], []
  for _ in range(resamples):
    drawn = rng.integers(0, count, count)
    weights = np.bincount(drawn, minlength=count).astype(np.float64)
    dataset.append(ranking.average_precision(weights))
    image.append(mean_over_images(by_image, weights))
  ends = (0.5 - level / 2, 0.5 + level / 2)
  return Intervals(*_quantiles(dataset, ends), *_quantiles(image, ends))


def _quantiles(values, ends):
  """Of the resamples that drew an object; NaN if none did."""
  values = np.asarray(values)
  values = values[~np.isnan(values[:, 0])]
  if not len(values):
    return np.full((len(ends), values.shape[1]), np.nan)
  return np.quantile(values, ends, axis=0)


class AveragePrecision:
  """Collects batches, then computes both average precisions.

  Keeps ranks and hits of the images, not their predictions.
  """

  def __init__(
    self,
    thresholds: Sequence[float] = THRESHOLDS,
    layout: set_layout.Layout = clevr_features.LAYOUT,
  ):
    """Starts without images.

    Args:
      thresholds: distances, of CLEVR in scene units.
      layout: of the features.

    Raises:
      ValueError: if one is not positive.
    """
    self.thresholds = tuple(_check_thresholds(thresholds).tolist())
    self._layout = layout
    self._parts: list[Detections] = []

  def add(
    self,
    prediction: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray | None = None,
  ) -> None:
    """Adds a batch.

    Args:
      prediction: `(B, P, D)`, see `detect`.
      target: `(B, M, D)`.
      mask: false for rows that only fill up the batch, `(B,)`; all count if
        None.

    Raises:
      ValueError: if shapes do not fit.
    """
    found = detect(prediction, target, self.thresholds, self._layout)
    if mask is not None:
      found = Detections(*(part[np.asarray(mask, bool)] for part in found))
    self._parts.append(found)

  def detections(self) -> Detections:
    """Of all images so far.

    Raises:
      ValueError: if there are none.
    """
    return join(self._parts)

  def finish(self) -> tuple[np.ndarray, np.ndarray]:
    """Average precisions of all images so far.

    Returns:
      Dataset-level, and the mean over the images, `(K,)` each.

    Raises:
      ValueError: if there are no images.
    """
    found = self.detections()
    by_image = mean_over_images(image_average_precision(found))
    return dataset_average_precision(found), by_image
