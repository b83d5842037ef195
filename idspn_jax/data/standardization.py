"""Standardisation of a user's own sets, in float64.

Models compute in float32, in which 1,000,000 and 1,000,000.01 are one number.
So features are standardised in float64 and rounded to float32 afterwards.
"""

from typing import NamedTuple

import numpy as np

from idspn_jax.data import set_files

# How much rounding to float32 may change a value, in standard deviations.
_MAX_ROUNDING = 0.01


class Standardization(NamedTuple):
  """Mean and standard deviation of every feature.

  Attributes:
    mean: `(D,)`, float64.
    std: `(D,)`, float64, positive.
  """

  mean: np.ndarray
  std: np.ndarray

  def apply(self, sets: np.ndarray) -> np.ndarray:
    """Standardises features: `(x - mean) / std`.

    Args:
      sets: `(..., D)`; padding too is standardised and must be masked after.

    Returns:
      `(..., D)`, float64.

    Raises:
      ValueError: if D differs or a result is beyond the range of float64; it
        names the place and the value.
    """
    sets = self._checked(sets)
    with np.errstate(over='ignore', invalid='ignore'):
      found = (sets - self.mean) / self.std
    wrong = np.argwhere(np.isfinite(sets) & ~np.isfinite(found))
    if len(wrong):
      place, d = tuple(wrong[0].tolist()), wrong[0, -1]
      raise ValueError(
        f'The value {sets[place]} at {place} cannot be standardised: feature '
        f'{d} has mean {self.mean[d]} and standard deviation {self.std[d]}; '
        'remove the set or rescale the feature.'
      )
    return found

  def invert(self, sets: np.ndarray) -> np.ndarray:
    """Returns to the original units: `x · std + mean`.

    Args:
      sets: standardised, `(..., D)`.

    Returns:
      `(..., D)`, float64; values that are not finite stay so.

    Raises:
      ValueError: if D differs.
    """
    with np.errstate(over='ignore', invalid='ignore'):
      return self._checked(sets) * self.std + self.mean

  def _checked(self, sets):
    sets = np.asarray(sets, np.float64)
    if sets.shape[-1:] != self.mean.shape:
      raise ValueError(
        f'Standardised for {len(self.mean)} features; got sets of shape '
        f'{sets.shape}.'
      )
    return sets


def identity(num_features: int) -> Standardization:
  """Leaves `num_features` features as they are."""
  return Standardization(np.zeros(num_features), np.ones(num_features))


def fit(sets: np.ndarray, sizes: np.ndarray) -> Standardization:
  """Measures mean and standard deviation of the elements of all sets.

  Differences from a feature's first value are averaged, in units of its
  greatest value, so that neither a large offset nor a huge or tiny scale costs
  precision.

  Args:
    sets: `(S, N, D)`, real numbers; padding may hold anything.
    sizes: number of elements of every set, `(S,)`, 0 to N.

  Returns:
    The `Standardization`; features that are constant get a standard deviation
    of 1, and without any element the mean is 0.

  Raises:
    ValueError: if shapes do not fit, a value is not finite, or a feature spans
      more than float64 can.
  """
  sets = np.asarray(sets, np.float64)
  mask = set_files.mask_of(sizes, sets.shape[1])
  elements = sets[mask]
  if not len(elements):
    return identity(sets.shape[-1])
  wrong = np.argwhere(mask[..., None] & ~np.isfinite(sets))
  if len(wrong):
    s, n, d = wrong[0].tolist()
    raise ValueError(
      f'Set {s}, element {n}, feature {d} is {sets[s, n, d]}; remove the set '
      'or replace the value.'
    )
  low, high = elements.min(axis=0), elements.max(axis=0)
  with np.errstate(over='ignore'):
    wide = np.flatnonzero(~np.isfinite(high - low))
  if wide.size:
    d = wide[0]
    raise ValueError(
      f'Feature {d} spans {low[d]} to {high[d]}, more than float64 can; '
      'rescale it or remove the set.'
    )
  # Powers of two: scaling with them rounds nothing.
  _, exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)))
  scaled = np.ldexp(elements, -exponent)
  differences = scaled - scaled[0]
  mean = np.ldexp(scaled[0] + differences.mean(axis=0), exponent)
  std = np.ldexp(differences.std(axis=0), exponent)
  # The std of denormal numbers may round to zero.
  std = np.maximum(std, np.finfo(np.float64).smallest_subnormal)
  return Standardization(
    np.clip(mean, low, high), np.where(high > low, std, 1.0)
  )


def to_float32(sets: np.ndarray, sizes: np.ndarray) -> np.ndarray:
  """Rounds standardised sets to what models compute with.

  Args:
    sets: `(S, N, D)`, float64.
    sizes: number of elements of every set, `(S,)`, 0 to N.

  Returns:
    `(S, N, D)`, float32, zero in padded rows.

  Raises:
    ValueError: if an element is beyond the range of float32.
  """
  sets = np.asarray(sets, np.float64)
  mask = set_files.mask_of(sizes, sets.shape[1])
  sets = np.where(mask[..., None], sets, 0.0)
  with np.errstate(over='ignore'):
    rounded = sets.astype(np.float32)
  wrong = np.argwhere(~np.isfinite(rounded))
  if len(wrong):
    s, n, d = wrong[0].tolist()
    raise ValueError(
      f'Set {s}, element {n}, feature {d} is {sets[s, n, d]}, beyond the range '
      'of float32; standardise the features, rescale this one or remove the '
      'set.'
    )
  return rounded


def check_float32(sets: np.ndarray, sizes: np.ndarray) -> None:
  """Refuses sets that are to be used as they are but need standardisation.

  Args:
    sets: `(S, N, D)`, float64, not standardised.
    sizes: number of elements of every set, `(S,)`, 0 to N.

  Raises:
    ValueError: if an element is beyond the range of float32, or rounding to
      float32 changes it by more than a hundredth of its feature's standard
      deviation.
  """
  mask = set_files.mask_of(sizes, np.shape(sets)[1])
  rounded, std = to_float32(sets, sizes)[mask], fit(sets, sizes).std
  elements = np.asarray(sets, np.float64)[mask]
  if not len(elements):
    return
  error = np.max(np.abs(rounded - elements), axis=0)
  varies = elements.min(axis=0) < elements.max(axis=0)
  lost = np.flatnonzero(varies & (error > _MAX_ROUNDING * std))
  if lost.size:
    d = lost[0]
    raise ValueError(
      f'Rounding to float32 would change feature {d} by up to {error[d]:.2g}, '
      f'but its standard deviation is {std[d]:.2g}; standardise the features '
      'or subtract an offset.'
    )
