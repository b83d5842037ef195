"""A Hungarian algorithm that runs on the device and inside `jax.shard_map`."""

import jax
import jax.numpy as jnp

from idspn_jax.ops import varying


def _shortest_path(cost, u, v, row_of, start):
  """Dijkstra's search from row `start` to the nearest free column.

  Returns:
    The free column, the length of the path, the tentative length to every
    column, the columns visited, and the row before every column.
  """
  m = cost.shape[1]

  def extend(state):
    row, _, length, lengths, visited, before = state
    through = length + (cost[row] - u[row] - v)
    shorter = ~visited & (through < lengths)
    lengths = jnp.where(shorter, through, lengths)
    before = jnp.where(shorter, row, before)
    column = jnp.argmin(jnp.where(visited, jnp.inf, lengths))
    column = column.astype(jnp.int32)
    visited = visited.at[column].set(True)
    return row_of[column], column, lengths[column], lengths, visited, before

  first = (
    start,
    jnp.int32(0),
    jnp.zeros((), cost.dtype),
    jnp.full((m,), jnp.inf, cost.dtype),
    jnp.zeros((m,), bool),
    jnp.zeros((m,), jnp.int32),
  )
  end = jax.lax.while_loop(
    lambda state: state[0] >= 0, extend, varying.vary_like(first, cost)
  )
  return end[1:]


def _flip(row_of, column_of, before, start, column):
  """Exchanges matched and unmatched edges along the path to `column`."""

  def back(state):
    row_of, column_of, column, _ = state
    row = before[column]
    return (
      row_of.at[column].set(row),
      column_of.at[row].set(column),
      column_of[row],
      row == start,
    )

  done = varying.vary_like(jnp.zeros((), bool), before)
  return jax.lax.while_loop(
    lambda state: ~state[3], back, (row_of, column_of, column, done)
  )[:2]


def solve(cost: jax.Array) -> jax.Array:
  """Matches every row of a wide matrix at the least total cost.

  Successive shortest augmenting paths with dual variables, O(N² M), as SciPy's
  `linear_sum_assignment` has it. (`optax.assignment.hungarian_algorithm`
  cannot be traced inside `jax.shard_map`.)

  Args:
    cost: finite floating-point numbers, `(N, M)` with `N ≤ M`.

  Returns:
    The column of every row, `(N,)`, int32.

  References:
    Crouse: On implementing 2D rectangular assignment algorithms. IEEE
    Transactions on Aerospace and Electronic Systems 52, 2016.
  """
  n, m = cost.shape

  def add_row(state, start):
    u, v, row_of, column_of = state
    column, length, lengths, visited, before = _shortest_path(
      cost, u, v, row_of, start
    )
    slack = jnp.where(visited, length - lengths, 0.0)
    v = v - slack
    # Rows on the tree are the new one and those of the visited columns.
    u = u + jnp.where(column_of >= 0, slack[column_of], 0.0)
    u = u.at[start].add(length)
    return (u, v, *_flip(row_of, column_of, before, start, column)), None

  first = (
    jnp.zeros((n,), cost.dtype),
    jnp.zeros((m,), cost.dtype),
    jnp.full((m,), -1, jnp.int32),
    jnp.full((n,), -1, jnp.int32),
  )
  rows = jnp.arange(n, dtype=jnp.int32)
  (_, _, _, column_of), _ = jax.lax.scan(
    add_row, *varying.vary_like((first, rows), cost)
  )
  return column_of
