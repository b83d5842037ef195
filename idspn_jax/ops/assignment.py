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


def _solve_masked(cost, rows, columns):
  out = np.full(cost.shape[0], -1, np.int32)
  r, c = np.flatnonzero(rows), np.flatnonzero(columns)
  i, j = scipy.optimize.linear_sum_assignment(cost[np.ix_(r, c)])
  out[r[i]] = c[j]
  return out


def _solve_whole(costs, use_lapx):
  if use_lapx:
    import lap  # Installed by the optional package lapx.

    return zip(
      *lap.lapjvh_batch(costs, extend_cost=True, return_cost=False), strict=True
    )
  return map(scipy.optimize.linear_sum_assignment, costs)


def _match_on_host(cost, rows, columns, *, use_lapx):
  """Solves flat batches of NumPy arrays `(B, N, M)`, `(B, N)`, `(B, M)`."""
  cost, rows, columns = (np.asarray(a) for a in (cost, rows, columns))
  *batch, n, m = cost.shape
  if min(n, m) == 0:
    return np.full((*batch, n), -1, np.int32)
  cost = cost.reshape(-1, n, m)
  rows, columns = rows.reshape(-1, n), columns.reshape(-1, m)
  out = np.full((cost.shape[0], n), -1, np.int32)
  if rows.all() and columns.all():
    for o, (i, j) in zip(out, _solve_whole(cost, use_lapx), strict=True):
      o[i] = j
  else:
    for o, *problem in zip(out, cost, rows, columns, strict=True):
      o[:] = _solve_masked(*problem)
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
    both = rows[:, None] & columns[None, :]
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


def match(
  cost: jax.Array,
  row_mask: jax.Array | None = None,
  column_mask: jax.Array | None = None,
  method: str = 'auto',
) -> Matching:
  """Finds the matching of least total cost for every problem of a batch.

  As many existing rows and columns as possible are matched, each at most once.
  The result is a constant under differentiation.

  Args:
    cost: `(..., N, M)`; entries of missing rows and columns are ignored.
    row_mask: true for rows that exist, `(..., N)`; all exist if None.
    column_mask: true for columns that exist, `(..., M)`; all exist if None.
    method: 'scipy' and 'lapx' (an optional package) solve on the host, 'optax'
      on the device; 'auto' picks by platform and size.

  Returns:
    A `Matching`. Problems with a NaN or infinite cost are marked invalid, so
    that no loss can rest on an arbitrary permutation.

  Raises:
    ValueError: if the method is unknown or the masks do not fit.
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
  rows, columns = row_mask, column_mask
  if rows is None:
    rows = jnp.ones(cost.shape[:-1], bool)
  if columns is None:
    columns = jnp.ones((*cost.shape[:-2], cost.shape[-1]), bool)
  if rows.shape != cost.shape[:-1] or columns.shape != (
    *cost.shape[:-2],
    cost.shape[-1],
  ):
    raise ValueError(
      f'Masks of shape {rows.shape} and {columns.shape} do not fit costs of '
      f'shape {cost.shape}.'
    )
  rows, columns = rows.astype(bool), columns.astype(bool)
  both = rows[..., :, None] & columns[..., None, :]
  valid = jnp.all(jnp.isfinite(cost) | ~both, axis=(-2, -1))
  cost = jnp.where(both & valid[..., None, None], cost, 0.0)
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
