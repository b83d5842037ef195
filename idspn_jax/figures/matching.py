"""The matching that a figure draws: small, NumPy only, one set at a time."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import scipy.optimize


class Pairs(NamedTuple):
  """Matched elements of one set.

  Attributes:
    predictions: indices of matched predictions, `(K,)`.
    targets: their targets, `(K,)`.
    loss: mean smooth-L1 cost of the pairs over all features; NaN if a value is
      not finite, and then nothing is matched.
  """

  predictions: np.ndarray
  targets: np.ndarray
  loss: float


def match(prediction: np.ndarray, target: np.ndarray) -> Pairs:
  """Matches `(N, D)` to `(M, D)` by least total smooth-L1 cost (β = 1)."""
  size = np.abs(prediction[:, None].astype(float) - target[None])
  cost = np.where(size < 1.0, 0.5 * np.square(size), size - 0.5).mean(axis=-1)
  if not np.all(np.isfinite(cost)):
    none = np.zeros(0, int)
    return Pairs(none, none, float('nan'))
  rows, columns = scipy.optimize.linear_sum_assignment(cost)
  return Pairs(rows, columns, float(cost[rows, columns].mean()))


def check_panels(
  targets: np.ndarray,
  predictions: Mapping[int, np.ndarray],
  num_features: int | None = None,
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
  """Checks what a grid of panels shows.

  Args:
    targets: `(E, M, D)`.
    predictions: sets `(E, N, D)` by number of inner steps.
    num_features: the D that is required, or None for any.

  Returns:
    The same as NumPy arrays, predictions in the order of their steps.

  Raises:
    ValueError: if there is nothing to draw or shapes do not fit.
  """
  targets = np.asarray(targets)
  if targets.ndim != 3 or 0 in targets.shape:
    raise ValueError(
      f'Targets need shape (E, N, D), none zero; got {targets.shape}.'
    )
  if num_features is not None and targets.shape[-1] != num_features:
    raise ValueError(
      f'Targets need {num_features} features; got {targets.shape[-1]}.'
    )
  if not predictions:
    raise ValueError('There are no predictions to draw.')
  ordered = {t: np.asarray(predictions[t]) for t in sorted(predictions)}
  for steps, sets in ordered.items():
    fits = sets.ndim == 3 and 0 not in sets.shape
    if not fits or sets.shape[::2] != targets.shape[::2]:
      raise ValueError(
        f'Predictions after {steps} steps have shape {sets.shape}; targets of '
        f'shape {targets.shape} need the same examples and features.'
      )
  return targets, ordered
