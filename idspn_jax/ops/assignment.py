"""Batched minimum-cost matching between predicted and target elements."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize

METHODS = ('auto', 'scipy', 'optax', 'lapx')
# Largest size at which a GPU's own solver beats a trip to the host.
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


def _solve_groups(cost, rows, columns, out):
  """Solves `(B, N, M)` group by group into `out`; -1 marks what is missing."""
  # Sorted by group, the problems of each set are blocks on its diagonal.
  by_row, by_column = np.argsort(rows, -1), np.argsort(columns, -1)
  cost = np.take_along_axis(cost, by_row[:, :, None], 1)
  cost = np.take_along_axis(cost, by_column[:, None, :], 2)
  rows = np.take_along_axis(rows, by_row, 1)
  columns = np.take_along_axis(columns, by_column, 1)
  for b in range(len(cost)):
    groups = range(max(rows[b, 0], 0), rows[b, -1] + 1)
    row_ends = np.searchsorted(rows[b], [*groups, rows[b, -1] + 1])
    column_ends = np.searchsorted(columns[b], [*groups, rows[b, -1] + 1])
    for g in range(len(groups)):
      r, c = row_ends[g], column_ends[g]
      block = cost[b, r : row_ends[g + 1], c : column_ends[g + 1]]
      if block.size:
        i, j = scipy.optimize.linear_sum_assignment(block)
        out[b, by_row[b, r + i]] = by_column[b, c + j]


def _solve_whole(costs, use_lapx):
  if use_lapx:
    import lap  # Installed by the optional package lapx.

    return zip(
      *lap.lapjvh_batch(costs, extend_cost=True, return_cost=False), strict=True
    )
  return map(scipy.optimize.linear_sum_assignment, costs)


def _match_on_host(cost, rows, columns, *, use_lapx):
  """Solves batches `(..., N, M)` with groups `(..., N)` and `(..., M)`."""
  cost, rows, columns = (np.asarray(a) for a in (cost, rows, columns))
  *batch, n, m = cost.shape
  if min(n, m) == 0:
    return np.full((*batch, n), -1, np.int32)
  cost = cost.reshape(-1, n, m)
  rows, columns = rows.reshape(-1, n), columns.reshape(-1, m)
  out = np.full((cost.shape[0], n), -1, np.int32)
  if not (rows.any() or columns.any()):
    for o, (i, j) in zip(out, _solve_whole(cost, use_lapx), strict=True):
      o[i] = j
  else:
    _solve_groups(cost, rows, columns, out)
  return out.reshape(*batch, n)


def _callback(cost, rows, columns, *, use_lapx=False):
  return jax.pure_callback(
    functools.partial(_match_on_host, use_lapx=use_lapx),
    jax.ShapeDtypeStruct(cost.shape[:-1], jnp.int32),
    cost,
    rows,
    columns,
    vmap_method='broadcast_all',
  )


def _match_on_device(cost, rows, columns):
  """As the host's, by optax's Hungarian algorithm, for `(..., N, M)`."""
  n, m = cost.shape[-2:]
  if min(n, m) == 0:
    return jnp.full(cost.shape[:-1], -1, jnp.int32)

  def solve(cost, rows, columns):
    both = (rows[:, None] == columns[None, :]) & (rows[:, None] >= 0)
    # Scaled to [0, 1], so that a forbidden pair costs more than any matching
    # of allowed ones whatever the size of the costs.
    least = jnp.min(cost, where=both, initial=jnp.inf)
    most = jnp.max(cost, where=both, initial=-jnp.inf)
    cost = (cost - least) / jnp.where(most > least, most - least, 1.0)
    forbidden = min(n, m) + 1.0
    i, j = optax.assignment.hungarian_algorithm(
      jnp.where(both, cost, forbidden)
    )
    j = jnp.where(both[i, j], j, -1).astype(jnp.int32)
    return jnp.full((n,), -1, jnp.int32).at[i].set(j)

  for _ in cost.shape[:-2]:
    solve = jax.vmap(solve)
  return solve(cost, rows, columns)


def _auto(cost, rows, columns):
  if jax.device_count() > 1:
    # A host callback would gather a sharded batch onto one device.
    return _match_on_device(cost, rows, columns)
  small = max(cost.shape[-2:]) <= _ON_DEVICE
  return jax.lax.platform_dependent(
    cost,
    rows,
    columns,
    cpu=_callback,
    cuda=_match_on_device if small else _callback,
    default=_match_on_device,
  )


def _groups(name, shape, mask, groups):
  """Group per element, -1 for missing ones."""
  for given in (mask, groups):
    if given is not None and given.shape != shape:
      raise ValueError(
        f'The mask and groups of the {name} need shape {shape} to fit the '
        f'costs; got {given.shape}.'
      )
  if groups is None:
    groups = jnp.zeros(shape, jnp.int32)
  groups = groups.astype(jnp.int32)
  return groups if mask is None else jnp.where(mask.astype(bool), groups, -1)


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
    method: 'scipy' and 'lapx' (an optional package) solve on the host, 'optax'
      on the device; 'auto' picks by platform and size.
    row_groups: a group for every row, `(..., N)`, integers from 0; one group
      if None.
    column_groups: a group for every column, `(..., M)`, likewise.

  Returns:
    A `Matching`. Problems with a NaN or infinite cost are marked invalid, so
    that no loss can rest on an arbitrary permutation.

  Raises:
    ValueError: if the method is unknown or masks or groups do not fit.
    ImportError: if 'lapx' is asked for and not installed.
  """
  if method not in METHODS:
    raise ValueError(
      f'Unknown matching method {method!r}; choose one of {METHODS}.'
    )
  if cost.ndim < 2:
    raise ValueError(f'Costs need shape (..., N, M); got {cost.shape}.')
  if method == 'lapx':
    import lap  # noqa: F401  Fails here, not inside the callback.
  cost = jax.lax.stop_gradient(cost)
  *batch, n, m = cost.shape
  rows = _groups('rows', (*batch, n), row_mask, row_groups)
  columns = _groups('columns', (*batch, m), column_mask, column_groups)
  finite = jnp.isfinite(cost)
  if any(
    given is not None
    for given in (row_mask, column_mask, row_groups, column_groups)
  ):
    both = rows[..., :, None] == columns[..., None, :]
    both &= rows[..., :, None] >= 0
    cost = jnp.where(both, cost, 0.0)
    finite |= ~both
  valid = jnp.all(finite, axis=(-2, -1))
  cost = jnp.where(valid[..., None, None], cost, 0.0)
  solvers = {
    'auto': _auto,
    'scipy': _callback,
    'lapx': functools.partial(_callback, use_lapx=True),
    'optax': _match_on_device,
  }
  assigned = solvers[method](cost, rows, columns)
  return Matching(jnp.where(valid[..., None], assigned, -1), valid)


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
  return taken + jnp.where(matching.valid, 0.0, jnp.nan)[..., None]
