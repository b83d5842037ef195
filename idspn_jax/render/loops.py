"""Loops over scenes whose results do not depend on how many there are."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def map_in_turn(function: Callable[[Any], Any], rows: Any) -> Any:
  """Like `jax.lax.map`, bit by bit the same for one row and for many.

  XLA compiles a loop over a single row differently: one device that renders
  four scenes and four that render one each would give other last bits, now and
  then another pixel.

  Args:
    function: takes a row without its leading axis.
    rows: a tree of arrays of the same leading axis, `(B, ...)`.

  Returns:
    The function's results, `(B, ...)`.
  """
  count = len(jax.tree.leaves(rows)[0])
  if count != 1:
    return jax.lax.map(function, rows)

  def step(i, found):
    row = jax.tree.map(lambda a: a[i], twice)
    return jax.tree.map(lambda a, b: a.at[i].set(b), found, function(row))

  # A second row that is not computed, and a number of steps unknown to XLA.
  twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), rows)
  found = jax.tree.map(
    lambda a: jnp.zeros((2, *a.shape), a.dtype),
    jax.eval_shape(lambda: function(jax.tree.map(lambda a: a[0], rows))),
  )
  steps = jax.lax.optimization_barrier(jnp.int32(1))
  found = jax.lax.fori_loop(0, steps, step, found)
  return jax.tree.map(lambda a: a[:1], found)
