"""Featurewise sort pooling, the pooling that makes iDSPN exclusively
multiset-equivariant (Section 2.3 and Appendix A of the paper).

`FSPool(X)_c = Σ_r w[r, c] · sort(X[:, c])[r]`, sorted ascending. Written per
element it is `Σ_i x[i, c] · w[rank_i(x[:, c]), c]`: multiplications and a
permutation of the weights, which is how it is computed here (see `permute`).

References:
  Zhang, Hare, Prügel-Bennett: FSPool: Learning set representations with
  featurewise sort pooling. ICLR 2020.
"""

import jax
import jax.numpy as jnp

from idspn_jax.ops import permute
from idspn_jax.ops import precision
from idspn_jax.ops import shards
from idspn_jax.ops import varying


def _check_sets(x, weight):
  if x.ndim < 2 or weight.ndim != 2 or x.shape[-1] != weight.shape[-1]:
    raise ValueError(
      'FSPool needs sets (..., N, C) and weights (rows, C) with equal C; got '
      f'{x.shape} and {weight.shape}.'
    )


def fspool(x: jax.Array, weight: jax.Array) -> jax.Array:
  """Pools sets of a fixed size by a weighted sum of their sorted features.

  Args:
    x: sets, `(..., N, C)`.
    weight: one weight per sorted position and feature, `(N, C)`; row 0 meets
      the smallest value.

  Returns:
    Pooled features, `(..., C)`.

  Raises:
    ValueError: if `weight` has not one row per element or other features.
  """
  _check_sets(x, weight)
  if x.shape[-2] != weight.shape[0]:
    raise ValueError(
      f'FSPool weights are for sets of {weight.shape[0]} elements but the '
      f'sets have {x.shape[-2]}. For sets of other sizes give the set encoder '
      'piecewise-linear weights, SetEncoder(..., pieces=20) for example (the '
      'function fspool_any_size).'
    )
  table = jnp.broadcast_to(
    weight.reshape((1,) * (x.ndim - 2) + weight.shape), x.shape
  )
  per_element = permute.unsort_by_ranks(permute.ascending_ranks(x), table)
  return _weighted_sum(x, per_element)


def _weighted_sum(x, weights):
  product = precision.at_least_float32(x) * precision.at_least_float32(weights)
  return precision.as_inputs(jnp.sum(product, axis=-2), x, weights)


def fspool_autodiff(x: jax.Array, weight: jax.Array) -> jax.Array:
  """`fspool` as the formula reads, differentiated by JAX's rule for sorting.

  A reference for tests and benchmarks; use `fspool` everywhere else.

  Args:
    x: sets, `(..., N, C)`.
    weight: `(N, C)`.

  Returns:
    Pooled features, `(..., C)`.
  """
  _check_sets(x, weight)
  return jnp.einsum('...nc,nc->...c', jnp.sort(x, axis=-2), weight)


def piecewise_linear_table(
  weight: jax.Array, sizes: jax.Array, set_size: int
) -> jax.Array:
  """Evaluates piecewise-linear weight functions at the ranks of smaller sets.

  Row `k` of `weight` is the function's value at `k / K`; a set of `m` elements
  reads it at `r / (m - 1)` for `r = 0 … m - 1` (a single element at 0), as
  Section 3.2 of the FSPool paper does.

  Args:
    weight: `(K + 1, C)` values at equidistant points of `[0, 1]`.
    sizes: number of elements per set, `(...)`, integers.
    set_size: padded size `N`.

  Returns:
    Weights per sorted position, `(..., N, C)`; zero from position `m` on.
  """
  dtype, weight = weight.dtype, precision.at_least_float32(weight)
  pieces = weight.shape[0] - 1
  last = jnp.maximum(sizes - 1, 1).astype(weight.dtype)[..., None]
  r = jnp.arange(set_size, dtype=weight.dtype)
  r = r.reshape((1,) * (last.ndim - 1) + (-1,))
  position = jnp.minimum(r / last, 1.0) * pieces
  k = jnp.arange(pieces + 1, dtype=weight.dtype)
  k = k.reshape((1,) * position.ndim + (-1,))
  hat = jnp.maximum(1.0 - jnp.abs(position[..., None] - k), 0.0)
  inside = r < sizes[..., None].astype(weight.dtype)
  hat = jnp.where(inside[..., None], hat, jnp.zeros_like(hat))
  weight = shards.on_mesh_of(weight, hat)
  return jnp.einsum('...nk,kc->...nc', hat, weight).astype(dtype)


def fspool_any_size(
  x: jax.Array, weight: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
  """Pools padded sets of any size with piecewise-linear weight functions.

  Args:
    x: padded sets, `(..., N, C)`; what padded rows hold does not matter.
    weight: `(K + 1, C)`, see `piecewise_linear_table`.
    mask: true for elements that exist, `(..., N)`; all exist if None.

  Returns:
    Pooled features, `(..., C)`; zero for an empty set.

  Raises:
    ValueError: if feature counts differ or the mask does not fit the sets.
  """
  _check_sets(x, weight)
  if mask is None:
    mask = jnp.ones(x.shape[:-1], bool)
  if mask.shape != x.shape[:-1]:
    raise ValueError(
      f'The mask needs shape {x.shape[:-1]} (one entry per element); got '
      f'{mask.shape}.'
    )
  mask = mask.astype(bool)
  sizes = jnp.sum(mask, axis=-1)
  table = piecewise_linear_table(weight, sizes, x.shape[-2])
  mask_of_feature = mask[..., None]
  # Equal to a real +inf only in value: a stable rank by (padded, value).
  present = jnp.where(mask_of_feature, x, jnp.zeros_like(x))
  ranks = _masked_ranks(present, mask)
  per_element = permute.unsort_by_ranks(ranks, table)
  per_element = jnp.where(mask_of_feature, per_element, 0)
  return _weighted_sum(present, per_element)


def _masked_ranks(x, mask):
  """Ascending ranks with all padded elements behind the existing ones."""
  order = jnp.argsort(~mask, axis=-1, stable=True)
  order = varying.vary_like(order, mask)
  # Existing elements first, so that a padded +inf ties behind a real one.
  compact = jnp.take_along_axis(x, order[..., None], axis=-2)
  mask = jnp.take_along_axis(mask, order, axis=-1)[..., None]
  ranks = permute.ascending_ranks(jnp.where(mask, compact, jnp.inf))
  back = jnp.argsort(order, axis=-1, stable=True)
  return jnp.take_along_axis(ranks, back[..., None], axis=-2)
