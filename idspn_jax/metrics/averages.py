"""Averages over a data set, of quantities that some sets do not have."""

from typing import Any, NamedTuple

import numpy as np


class Weighted(NamedTuple):
  """A quantity of every set that is undefined for some sets.

  The mean distance of a set's elements, for example, does not exist where the
  set is empty: there its weight is 0, and no average counts it.

  Attributes:
    value: of every set, `(B,)`; anything, NaN included, where the weight is 0.
    weight: how much each set counts, `(B,)`; 0 where the value is undefined.
  """

  value: Any
  weight: Any


def average(values: Any, mask: np.ndarray) -> float:
  """Averages a quantity over the sets of a data set.

  Args:
    values: one number per set, `(B,)`, or a `Weighted` of two such arrays.
    mask: which sets count, `(B,)`; false for those that only fill up a batch.

  Returns:
    The mean over the sets that count, accumulated in float64:
    `sum(weight · value) / sum(weight)` with the mask as a factor of the weight.
    NaN if a value of positive weight is NaN, or if all weights are 0.

  Raises:
    ValueError: if shapes differ or a weight is negative or not finite.
  """
  mask = np.asarray(mask)
  if not isinstance(values, Weighted):
    values = Weighted(values, np.ones(mask.shape))
  value = np.asarray(values.value).astype(np.float64)
  weight = np.asarray(values.weight).astype(np.float64)
  if not (value.ndim == 1 and value.shape == weight.shape == mask.shape):
    raise ValueError(
      'Averages need values, weights and mask of one shape (B,); got '
      f'{value.shape}, {weight.shape} and {mask.shape}.'
    )
  weight = np.where(mask.astype(bool), weight, 0.0)
  wrong = weight[~((weight >= 0) & np.isfinite(weight))]
  if wrong.size:
    raise ValueError(f'Weights must be finite and at least 0; got {wrong[0]}.')
  counted = weight > 0
  if not counted.any():
    return float('nan')
  value, weight = value[counted], weight[counted]
  # Infinities of both signs add up to NaN.
  with np.errstate(invalid='ignore', over='ignore'):
    return float(np.sum(weight * value) / np.sum(weight))
