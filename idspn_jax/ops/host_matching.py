"""Minimum-cost matching on the host, by SciPy or lapx, for NumPy arrays."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

# Bytes; see `_pieces`. JAX's CPU client copies up to 100 kB at once.
_COPIED_AT_ONCE = 2**16


class Side(NamedTuple):
  """What is known of the rows, or of the columns, of a batch of problems.

  Attributes:
    groups: any integers, `(..., N)`; None if all are of group 0.
    mask: true for those that exist, `(..., N)`; None if all do.
  """

  groups: jax.Array | None
  mask: jax.Array | None


def _sorted_groups(side, batch, n):
  """Orders one side of `(batch, n)` by group, what is missing last.

  Returns:
    The order, the groups in this order, and how many exist, `(batch,)`.
  """
  if side.groups is None:
    groups = np.zeros((batch, n), np.int8)
  else:
    groups = side.groups.reshape(batch, n)
  if side.mask is None:
    order = np.argsort(groups, -1)
    count = np.full(batch, n)
  else:
    mask = side.mask.reshape(batch, n)
    order = np.lexsort((groups, ~mask))
    count = np.sum(mask, -1)
  return order, np.take_along_axis(groups, order, -1), count


def _solve_groups(cost, rows, columns, out):
  """Solves `(B, N, M)` group by group into `out`; -1 marks what is missing."""
  # Sorted by group, the problems of each set are blocks on its diagonal.
  by_row, rows, row_count = _sorted_groups(rows, *cost.shape[:2])
  by_column, columns, column_count = _sorted_groups(
    columns, cost.shape[0], cost.shape[2]
  )
  cost = np.take_along_axis(cost, by_row[:, :, None], 1)
  cost = np.take_along_axis(cost, by_column[:, None, :], 2)
  for b in np.flatnonzero((row_count > 0) & (column_count > 0)):
    of_row, of_column = rows[b, : row_count[b]], columns[b, : column_count[b]]
    changes = np.flatnonzero(of_row[1:] != of_row[:-1]) + 1
    row_ends = [0, *changes, len(of_row)]
    groups = of_row[row_ends[:-1]]
    column_starts = np.searchsorted(of_column, groups, 'left')
    column_ends = np.searchsorted(of_column, groups, 'right')
    for g in range(len(groups)):
      r, c = row_ends[g], column_starts[g]
      block = cost[b, r : row_ends[g + 1], c : column_ends[g]]
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


def _one_group(rows, columns):
  """Whether everything exists and is of one group."""
  masks = [side.mask for side in (rows, columns) if side.mask is not None]
  if not all(mask.all() for mask in masks):
    return False
  if rows.groups is None and columns.groups is None:
    return True
  first = 0 if rows.groups is None else rows.groups.flat[0]
  given = (side.groups for side in (rows, columns))
  return all(
    first == 0 if groups is None else (groups == first).all()
    for groups in given
  )


def match_on_host(
  cost: np.ndarray, rows: Side, columns: Side, *, use_lapx: bool
) -> np.ndarray:
  """Solves a batch of problems, each group of a problem by itself.

  Args:
    cost: finite, `(..., N, M)`.
    rows: groups and mask of the rows, each `(..., N)`.
    columns: groups and mask of the columns, each `(..., M)`.
    use_lapx: whether lapx solves the problems that have a single group.

  Returns:
    The column of every row, `(..., N)`, int32; -1 where there is none.
  """
  cost, rows, columns = jax.tree.map(np.asarray, (cost, rows, columns))
  *batch, n, m = cost.shape
  if cost.size == 0:
    return np.full((*batch, n), -1, np.int32)
  cost = cost.reshape(-1, n, m)
  out = np.full((cost.shape[0], n), -1, np.int32)
  if _one_group(rows, columns):
    for o, (i, j) in zip(out, _solve_whole(cost, use_lapx), strict=True):
      o[i] = j
  else:
    _solve_groups(cost, rows, columns, out)
  return out.reshape(*batch, n)


def is_reachable() -> bool:
  """Whether JAX can call the host, for which it needs its CPU platform.

  `JAX_PLATFORMS=cuda` alone, for example, leaves it out.
  """
  try:
    jax.local_devices(backend='cpu')
  except RuntimeError:
    return False
  return True


def call_host(
  cost: jax.Array, rows: Side, columns: Side, *, use_lapx: bool = False
) -> jax.Array:
  """`match_on_host` as a callback from traced code."""
  arrays, structure = jax.tree.flatten((cost, rows, columns))
  shapes = [array.shape for array in arrays]

  def on_host(pieces):
    whole = [
      np.concatenate(p).reshape(shape)
      for p, shape in zip(pieces, shapes, strict=True)
    ]
    return match_on_host(
      *jax.tree.unflatten(structure, whole), use_lapx=use_lapx
    )

  result = jax.ShapeDtypeStruct(cost.shape[:-1], jnp.int32)
  return jax.pure_callback(on_host, result, list(map(_pieces, arrays)))


def _pieces(array):
  """Flat parts of an array that `jax.pure_callback` copies at once.

  It copies larger ones on a thread of JAX's CPU client and waits for it. If all
  these threads run callbacks, as with one core or with as many devices as
  cores, they would wait for ever.
  """
  flat = array.reshape(-1)
  step = max(1, _COPIED_AT_ONCE // array.dtype.itemsize)
  return [flat[i : i + step] for i in range(0, max(1, flat.size), step)]
