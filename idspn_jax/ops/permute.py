"""Featurewise permutations with fast derivatives of every order.

Sorting a set feature by feature applies one permutation per set and feature.
This file represents such a permutation by its *ranks*: `ranks[..., i, c]` is
the position that element `i` takes when feature `c` is sorted ascending. Two
linear maps follow from it, `sort_by_ranks` and `unsort_by_ranks`; each is the
transpose (and the inverse) of the other. `jax.lax.custom_linear_solve` says so
to JAX, so that forward and reverse mode of any order stay permutations: the
derivative of `jnp.sort` goes through a scatter, which is many times slower.
"""

import functools

import jax
import jax.numpy as jnp

from idspn_jax.ops import shards
from idspn_jax.ops import varying

# Up to `_UNROLL` elements the n² comparisons are one fused loop; up to
# `_PAIRWISE` they run in blocks of that size; beyond, sorting is cheaper.
_UNROLL = 64
_PAIRWISE = 256


def _rank_dtype(n: int) -> jnp.dtype:
  return jnp.int8 if n <= 127 else jnp.int16 if n <= 32767 else jnp.int32


def _largest(dtype):
  if jnp.issubdtype(dtype, jnp.floating):
    return jnp.inf
  return jnp.iinfo(dtype).max


def _check_real(x):
  kinds = jnp.floating, jnp.integer
  if not any(jnp.issubdtype(x.dtype, kind) for kind in kinds):
    raise ValueError(
      f'Elements must be real numbers; got {x.dtype}. Convert them with '
      'astype(jnp.float32).'
    )


def _count_below(x, block, first, dtype):
  """How many elements of `block` precede each element of `x`."""
  j = jnp.arange(x.shape[-2], dtype=jnp.int32)[:, None]
  j = j.reshape((1,) * (x.ndim - 2) + j.shape)
  ranks = jnp.zeros(x.shape, dtype)
  for k in range(block.shape[-2]):
    other = block[..., k : k + 1, :]
    precedes = jnp.where(j > first + k, other <= x, other < x)
    ranks = ranks + precedes.astype(dtype)
  return ranks


def ascending_ranks(x: jax.Array) -> jax.Array:
  """Returns the rank of every element within its set, feature by feature.

  Ties keep the order of the elements (as a stable sort does). Processors may
  take numbers below the smallest normal one, such as 1e-40, for zero. Values
  that are NaN compare false with everything, so their ranks mean nothing;
  callers that multiply by `x` propagate the NaN.

  Args:
    x: sets of shape `(..., N, C)`; infinities are allowed.

  Returns:
    Integers in `[0, N)` of shape `(..., N, C)`, constant under
    differentiation.

  Raises:
    ValueError: if `x` has another rank, or is not of real numbers.
  """
  if x.ndim < 2:
    raise ValueError(f'Ranks need sets (..., N, C); got {x.shape}.')
  _check_real(x)
  x = jax.lax.stop_gradient(x)
  n = x.shape[-2]
  dtype = _rank_dtype(n)
  if n <= _UNROLL:
    return _count_below(x, x, 0, dtype)
  if n <= _PAIRWISE:
    blocks = -(-n // _UNROLL)
    padding = [(0, 0)] * x.ndim
    padding[-2] = (0, blocks * _UNROLL - n)
    # Behind every element and less than none, the padding is never counted.
    padded = jnp.pad(x, padding, constant_values=_largest(x.dtype))

    def add_block(b, ranks):
      block = jax.lax.dynamic_slice_in_dim(
        padded, b * _UNROLL, _UNROLL, axis=-2
      )
      return ranks + _count_below(x, block, b * _UNROLL, dtype)

    none = varying.vary_like(jnp.zeros(x.shape, dtype), x)
    return jax.lax.fori_loop(0, blocks, add_block, none)
  order = jnp.argsort(x, axis=-2, stable=True)
  ranks = jnp.argsort(order, axis=-2, stable=True).astype(dtype)
  # The type of what argsort returns does not say that it varies.
  return varying.vary_like(ranks, x)


def _unsort_impl(ranks, values):
  n = values.shape[-2]
  if n > _UNROLL:
    return jnp.take_along_axis(values, ranks.astype(jnp.int32), axis=-2)
  out = jnp.zeros(values.shape, values.dtype)
  for k in range(n):
    out = jnp.where(ranks == k, values[..., k : k + 1, :], out)
  return out


def _sort_impl(ranks, values):
  n = values.shape[-2]
  if n > _UNROLL:
    _, out = jax.lax.sort((ranks, values), dimension=ranks.ndim - 2, num_keys=1)
    return out
  k = jnp.arange(n, dtype=ranks.dtype)[:, None]
  k = k.reshape((1,) * (values.ndim - 2) + k.shape)
  out = jnp.zeros(values.shape, values.dtype)
  for j in range(n):
    here = ranks[..., j : j + 1, :] == k
    out = jnp.where(here, values[..., j : j + 1, :], out)
  return out


def _matvec_sort(ranks, values):
  """As `_sort_impl`; a gather, because `jax.lax.sort` has no transpose."""
  order = jnp.argsort(ranks, axis=-2).astype(jnp.int32)
  return jnp.take_along_axis(values, order, axis=-2)


def _matvec_unsort(ranks, values):
  return jnp.take_along_axis(values, ranks.astype(jnp.int32), axis=-2)


@functools.partial(jax.jit, static_argnames='unsort')
def _permute(ranks, values, *, unsort):
  """Unsorts (or sorts) as the solution of "sort (or unsort) gives `values`".

  `custom_linear_solve` differentiates the solution by solving again, with the
  transposed solve in reverse mode, so every derivative is a permutation too.
  It traces `matvec` but never computes it.
  """
  # The solution's type follows `values` alone, so these vary as the ranks do.
  ranks, values = shards.shard_alike(ranks, varying.vary_like(values, ranks))
  solve, transpose_solve, matvec = (
    functools.partial(f, ranks)
    for f in (
      (_unsort_impl, _sort_impl, _matvec_sort)
      if unsort
      else (_sort_impl, _unsort_impl, _matvec_unsort)
    )
  )
  return jax.lax.custom_linear_solve(
    matvec,
    values,
    solve=lambda _, b: solve(b),
    transpose_solve=lambda _, b: transpose_solve(b),
  )


def _check(ranks, values):
  if ranks.shape != values.shape or ranks.ndim < 2:
    raise ValueError(
      f'ranks and values need one shape (..., N, C); got {ranks.shape} and '
      f'{values.shape}.'
    )
  _check_real(values)


def unsort_by_ranks(ranks: jax.Array, values: jax.Array) -> jax.Array:
  """Gives each element the value of its sorted position.

  `out[..., i, c] = values[..., ranks[..., i, c], c]`.

  Args:
    ranks: permutations of shape `(..., N, C)` from `ascending_ranks`.
    values: values per sorted position, `(..., N, C)`.

  Returns:
    Values per element, `(..., N, C)`; linear in `values`.

  Raises:
    ValueError: if the two shapes differ, or `values` are no real numbers.
  """
  _check(ranks, values)
  return _permute(ranks, values, unsort=True)


def sort_by_ranks(ranks: jax.Array, values: jax.Array) -> jax.Array:
  """Puts the value of each element at the position that its rank names.

  `out[..., ranks[..., i, c], c] = values[..., i, c]`.

  Args:
    ranks: permutations of shape `(..., N, C)` from `ascending_ranks`.
    values: values per element, `(..., N, C)`.

  Returns:
    Values per sorted position, `(..., N, C)`; linear in `values`.

  Raises:
    ValueError: if the two shapes differ, or `values` are no real numbers.
  """
  _check(ranks, values)
  return _permute(ranks, values, unsort=False)
