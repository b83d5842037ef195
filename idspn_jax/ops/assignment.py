"""Batched minimum-cost matching between predicted and target elements."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from idspn_jax.ops import group_ids
from idspn_jax.ops import host_matching
from idspn_jax.ops import hungarian
from idspn_jax.ops import shards
from idspn_jax.ops import varying

METHODS = ('auto', 'scipy', 'optax', 'lapx')
# Largest size that a GPU solves itself rather than by a call of the host; an
# estimate, not measured on a GPU.
_ON_DEVICE = 16


class Matching(NamedTuple):
  """A minimum-cost matching of rows (predictions) to columns (targets).

  Attributes:
    columns: the column of every row, `(..., N)`, int32; -1 where there is none.
    valid: false for problems with a NaN or infinite cost, `(...,)`; all their
      columns are -1.
  """

  columns: jax.Array
  valid: jax.Array


def _allowed(rows, columns):
  """Which rows and columns may be matched, `(..., N, M)`; None if all may."""
  parts = []
  if rows.groups is not None:
    parts.append(rows.groups[..., :, None] == columns.groups[..., None, :])
  if rows.mask is not None:
    parts.append(rows.mask[..., :, None])
  if columns.mask is not None:
    parts.append(columns.mask[..., None, :])
  return functools.reduce(jnp.logical_and, parts) if parts else None


def _solve_on_device(cost, allowed):
  """Columns of one problem's rows, `(N, M)` to `(N,)`; -1 where none."""
  n, m = cost.shape
  # Scaled to [0, 1], so that a forbidden pair costs more than any matching of
  # allowed ones whatever the size of the costs. Halves do not overflow.
  cost = 0.5 * cost
  least = jnp.min(cost, where=allowed, initial=jnp.inf)
  most = jnp.max(cost, where=allowed, initial=-jnp.inf)
  cost = (cost - least) / jnp.where(most > least, most - least, 1.0)
  cost = jnp.where(allowed, cost, min(n, m) + 1.0)
  if n <= m:
    columns = hungarian.solve(cost)
  else:
    rows = hungarian.solve(cost.T)
    columns = jnp.full((n,), -1).at[rows].set(jnp.arange(m))
  matched = allowed[jnp.arange(n), columns] & (columns >= 0)
  return jnp.where(matched, columns, -1).astype(jnp.int32)


def _match_on_device(cost, rows, columns):
  """As the host's, by a Hungarian algorithm in JAX, for `(..., N, M)`."""
  if 0 in cost.shape[-2:]:
    return jnp.full(cost.shape[:-1], -1, jnp.int32)
  allowed = _allowed(rows, columns)
  if allowed is None:
    allowed = jnp.ones(cost.shape[-2:], bool)
  solve = _solve_on_device
  for _ in cost.shape[:-2]:
    solve = jax.vmap(solve)
  return solve(
    cost.astype(jnp.promote_types(cost.dtype, jnp.float32)),
    jnp.broadcast_to(allowed, cost.shape),
  )


def _match_on_host(cost, rows, columns, *, use_lapx=False):
  columns = host_matching.call_host(cost, rows, columns, use_lapx=use_lapx)
  # The type of a callback's result says that it is on no mesh, and varies over
  # none of its axes. The first changes with an operation on the costs.
  columns = columns + jnp.sum(0 * cost, -1).astype(jnp.int32)
  return varying.vary_like(columns, cost)


def _auto(cost, rows, columns):
  if jax.device_count() > 1 or not host_matching.is_reachable():
    # A host callback would gather a sharded batch onto one device.
    return _match_on_device(cost, rows, columns)
  small = max(cost.shape[-2:]) <= _ON_DEVICE
  return jax.lax.platform_dependent(
    cost,
    rows,
    columns,
    cpu=_match_on_host,
    cuda=_match_on_device if small else _match_on_host,
    default=_match_on_device,
  )


_SOLVERS = {
  name: shards.on_shards(solve, core_rank=2)
  for name, solve in (
    ('auto', _auto),
    ('scipy', _match_on_host),
    ('lapx', functools.partial(_match_on_host, use_lapx=True)),
    ('optax', _match_on_device),
  )
}


# Compiled, because a callback takes sharded arrays in compiled code only.
@functools.partial(jax.jit, static_argnames='method')
def _match(cost, rows, columns, *, method):
  if jnp.issubdtype(cost.dtype, jnp.floating):
    cost = cost.astype(jnp.promote_types(cost.dtype, jnp.float32))
  allowed = _allowed(rows, columns)
  finite = jnp.isfinite(cost)
  if allowed is not None:
    cost = jnp.where(allowed, cost, 0)
    finite |= ~allowed
  valid = jnp.all(finite, axis=(-2, -1))
  cost = jnp.where(valid[..., None, None], cost, 0)
  rows, columns = varying.vary_like((rows, columns), cost)
  assigned = _SOLVERS[method](cost, rows, columns)
  return Matching(jnp.where(valid[..., None], assigned, -1), valid)


def _as_mask(name, shape, mask):
  if mask is None:
    return None
  if mask.shape != shape:
    raise ValueError(
      f'The mask of the {name} needs shape {shape} to fit the costs; got '
      f'{mask.shape}.'
    )
  return mask.astype(bool)


def match(
  cost: jax.Array,
  row_mask: jax.Array | None = None,
  column_mask: jax.Array | None = None,
  method: str = 'auto',
  *,
  row_groups: jax.Array | None = None,
  column_groups: jax.Array | None = None,
) -> Matching:
  """Finds the matching of least total cost for every problem of a batch.

  As many existing rows and columns as possible are matched, each at most once.
  With groups, only rows and columns of one group meet; the host solves each
  group by itself, much faster than a penalty on mixed pairs would. The result
  is a constant under differentiation.

  Args:
    cost: `(..., N, M)`; entries of missing rows and columns, and of different
      groups, are ignored.
    row_mask: true for rows that exist, `(..., N)`; all exist if None.
    column_mask: true for columns that exist, `(..., M)`; all exist if None.
    method: 'scipy' and 'lapx' (an optional package) solve on the host. 'optax'
      solves on the device and finds what
      `optax.assignment.hungarian_algorithm` finds, faster and also inside
      `jax.shard_map`. 'auto' takes the host on a CPU and, for sizes above 16,
      on a single GPU (an estimate, not measured on a GPU), otherwise the
      device; it needs no CPU platform beside the accelerator.
    row_groups: a group for every row, `(..., N)`, any integers (negative or
      sparse ones too: only equality counts); group 0 for all if None. NumPy's
      64-bit integers keep their value here, but `jax.jit` cuts its arguments
      to 32 bits unless `jax_enable_x64` is set.
    column_groups: a group for every column, `(..., M)`, likewise.

  Returns:
    A `Matching`. Problems with a NaN or infinite cost are marked invalid, so
    that no loss can rest on an arbitrary permutation.

  Raises:
    ValueError: if the method is unknown, masks or groups do not fit, groups
      are no integers, or 'scipy' or 'lapx' is asked for where JAX has no CPU
      platform to call the host with.
    ImportError: if 'lapx' is asked for and not installed.
  """
  if method not in METHODS:
    raise ValueError(
      f'Unknown matching method {method!r}; choose one of {METHODS}.'
    )
  on_host = method in ('scipy', 'lapx')
  if on_host and not host_matching.is_reachable():
    raise ValueError(
      f'Matching on the host (method {method!r}) needs the CPU platform of JAX '
      'beside the accelerator: set JAX_PLATFORMS=cuda,cpu (or leave it unset), '
      "or choose method='optax'."
    )
  if cost.ndim < 2:
    raise ValueError(f'Costs need shape (..., N, M); got {cost.shape}.')
  if method == 'lapx':
    import lap  # noqa: F401  Fails here, not inside the callback.
  *batch, n, m = cost.shape
  row_groups, column_groups = group_ids.comparable(
    row_groups, column_groups, (*batch, n), (*batch, m)
  )
  rows = host_matching.Side(row_groups, _as_mask('rows', (*batch, n), row_mask))
  columns = host_matching.Side(
    column_groups, _as_mask('columns', (*batch, m), column_mask)
  )
  return _match(jax.lax.stop_gradient(cost), rows, columns, method=method)


def gather_matched(values: jax.Array, matching: Matching) -> jax.Array:
  """Orders the columns' values by row.

  Args:
    values: one row of features per column, `(..., M, D)`.
    matching: of shape `(..., N)`.

  Returns:
    Features per row, `(..., N, D)`; zero for unmatched rows.
  """
  columns = matching.columns
  if values.shape[-2] == 0:
    return jnp.zeros((*columns.shape, values.shape[-1]), values.dtype)
  index = jnp.maximum(columns, 0)[..., None]
  taken = jnp.take_along_axis(values, index, axis=-2)
  return jnp.where(columns[..., None] >= 0, taken, jnp.zeros_like(taken))


def gather_costs(cost: jax.Array, matching: Matching) -> jax.Array:
  """Picks each row's matched cost, `(..., N, M)` to `(..., N)`.

  Unmatched rows cost zero; problems marked invalid cost NaN, so that the loss
  built on them shows it.
  """
  columns = matching.columns
  if cost.shape[-1] == 0:
    return jnp.zeros(columns.shape, cost.dtype)
  index = jnp.maximum(columns, 0)[..., None]
  taken = jnp.take_along_axis(cost, index, axis=-1)[..., 0]
  taken = jnp.where(columns >= 0, taken, jnp.zeros_like(taken))
  return jnp.where(matching.valid[..., None], taken, jnp.nan)
