"""All numbers that are reported of predicted sets of objects, by name."""

import numpy as np

from idspn_jax.data import clevr_features
from idspn_jax.data import set_layout
from idspn_jax.metrics import average_precision
from idspn_jax.metrics import object_accuracy

# The number to quote: dataset-level average precision at this threshold.
HEADLINE = 'ap_0.125'


def threshold_name(threshold: float) -> str:
  """How a threshold is written in names: `inf`, `1`, `0.5`, …"""
  return f'{threshold:g}'


class SceneScores:
  """Collects predicted scenes batch by batch, then computes all numbers.

  Memory grows by some tens of bytes per prediction.
  """

  def __init__(self, layout: set_layout.Layout = clevr_features.LAYOUT):
    """Starts without images.

    Args:
      layout: of the features.
    """
    self._layout = layout
    self._precision = average_precision.AveragePrecision(layout=layout)
    self._matched: list[object_accuracy.MatchedObjects] = []

  def add(
    self,
    prediction: np.ndarray,
    target: np.ndarray,
    mask: np.ndarray | None = None,
  ) -> None:
    """Adds a batch.

    Args:
      prediction: features, `(B, P, D)`.
      target: likewise, `(B, M, D)`.
      mask: false for rows that only fill up the batch, `(B,)`; all count if
        None.

    Raises:
      ValueError: if shapes do not fit.
    """
    if mask is not None:
      mask = np.asarray(mask, bool)
      prediction, target = (
        np.asarray(prediction)[mask],
        np.asarray(target)[mask],
      )
    self._precision.add(prediction, target)
    self._matched.append(
      object_accuracy.match_objects(prediction, target, self._layout)
    )

  def finish(self, resamples: int = 0, seed: int = 0) -> dict[str, float]:
    """Computes all numbers.

    Args:
      resamples: of a bootstrap over images, for 95% confidence intervals; 0 for
        none.
      seed: of the bootstrap.

    Returns:
      Shares between 0 and 1 unless stated: `ap_T`, dataset-level average
      precision at the thresholds T (`inf`, `1`, `0.5`, …); `ap_per_image_T`,
      the mean of every image's own; with resamples `ap_T_low`, `ap_T_high` and
      the same of `ap_per_image_T`; and what `object_accuracy.summarize`
      returns.

    Raises:
      ValueError: if there are no images.
    """
    names = [threshold_name(t) for t in self._precision.thresholds]
    dataset, image = self._precision.finish()
    rows = {'ap': dataset, 'ap_per_image': image}
    found = {
      f'{kind}_{name}': float(value)
      for kind, values in rows.items()
      for name, value in zip(names, values, strict=True)
    }
    if resamples:
      ends = average_precision.bootstrap(
        self._precision.detections(), resamples, seed
      )
      for kind, low, high in (
        ('ap', ends.dataset_low, ends.dataset_high),
        ('ap_per_image', ends.image_low, ends.image_high),
      ):
        for i, name in enumerate(names):
          found[f'{kind}_{name}_low'] = float(low[i])
          found[f'{kind}_{name}_high'] = float(high[i])
    matched = object_accuracy.join(self._matched)
    return {**found, **object_accuracy.summarize(matched)}


def scene_scores(
  prediction: np.ndarray,
  target: np.ndarray,
  resamples: int = 0,
  seed: int = 0,
  batch_size: int = 1024,
  layout: set_layout.Layout = clevr_features.LAYOUT,
) -> dict[str, float]:
  """All numbers of predicted scenes at once; see `SceneScores`.

  Args:
    prediction: `(S, P, D)`.
    target: `(S, M, D)`.
    resamples: see `SceneScores.finish`.
    seed: of the bootstrap.
    batch_size: scenes that are compared at a time; bounds the memory.
    layout: of the features.

  Raises:
    ValueError: if shapes do not fit or there are no scenes.
  """
  if len(prediction) != len(target):
    raise ValueError(
      f'{len(prediction)} predicted scenes for {len(target)} scenes; give one '
      'for each.'
    )
  scores = SceneScores(layout)
  for i in range(0, len(target), batch_size):
    scores.add(prediction[i : i + batch_size], target[i : i + batch_size])
  return scores.finish(resamples, seed)
