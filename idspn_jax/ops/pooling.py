"""Sum, mean and max pooling over the elements of (padded) sets."""

import jax
import jax.numpy as jnp

from idspn_jax.ops import precision


def _feature_mask(x, mask):
  if mask is None:
    return jnp.ones((*x.shape[:-1], 1), bool)
  if mask.shape != x.shape[:-1]:
    raise ValueError(
      f'The mask needs shape {x.shape[:-1]} (one entry per element); got '
      f'{mask.shape}.'
    )
  return mask.astype(bool)[..., None]


def sum_pool(x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
  """Sums the elements of each set.

  Args:
    x: sets, `(..., N, C)`.
    mask: true for elements that exist, `(..., N)`; all exist if None.

  Returns:
    Pooled features, `(..., C)`; zero for an empty set.

  Raises:
    ValueError: if the mask does not fit the sets.
  """
  if mask is None:
    return jnp.sum(x, axis=-2)
  mask = _feature_mask(x, mask)
  return jnp.sum(jnp.where(mask, x, jnp.zeros_like(x)), axis=-2)


def mean_pool(x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
  """Averages the elements of each set; see `sum_pool`."""
  if mask is None:
    return jnp.mean(x, axis=-2)
  count = jnp.maximum(jnp.sum(_feature_mask(x, mask), axis=-2), 1)
  total = sum_pool(precision.at_least_float32(x), mask)
  return precision.as_inputs(total / count.astype(total.dtype), x)


def max_pool(x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
  """Takes the featurewise maximum of each set; see `sum_pool`."""
  if mask is None:
    return jnp.max(x, axis=-2)
  mask = _feature_mask(x, mask)
  largest = jnp.max(jnp.where(mask, x, jnp.full_like(x, -jnp.inf)), axis=-2)
  return jnp.where(jnp.any(mask, axis=-2), largest, jnp.zeros_like(largest))
