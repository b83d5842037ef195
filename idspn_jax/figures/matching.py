"""The matching that a figure draws: small, NumPy only, one set at a time."""

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
