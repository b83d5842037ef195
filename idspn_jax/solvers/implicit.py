"""Implicit differentiation of the argmin through jaxopt's `custom_root`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import forward_mode
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_loop
from idspn_jax.solvers import jaxopt_import

Solver = Callable[[Any, energy_lib.Inputs], inner_loop.Run]
Optimality = Callable[[jax.Array, energy_lib.Inputs], jax.Array]


def _at_least_float32(tree):
  """Casts floating-point arrays of less than 32 bits to float32."""

  def cast(leaf):
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
      return leaf
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))

  return jax.tree.map(cast, tree)


def differentiate(
  solver: Solver,
  optimality: Optimality,
  gradient: gradients.Implicit,
  initial: Any,
  inputs: energy_lib.Inputs,
) -> inner_loop.Run:
  """Runs a solver and gives its result the implicit derivative.

  `custom_root` linearises at the set that the solver returns. To return `Y_T`
  and linearise at `Y_{T-1}`, the solver's root is `Y_{T-1}`, `Y_T` comes along
  as auxiliary data, and the two are joined outside so that the value is the
  one and the derivative the other's.

  A backward pass has no other output than gradients, so the sets that fell
  back are reported as one: a second unknown `m` with the condition
  `m - inputs.fallbacks = 0` has the gradient `-u_m` with respect to
  `inputs.fallbacks`, and the solve sets `u_m` to -1 where a set fell back.

  Args:
    solver: `(initial, inputs)` to a `Run`; never differentiated.
    optimality: `F(Y, inputs)`, zero at the minimiser.
    gradient: the implicit mode.
    initial: `Y_0` and a random key, or None; gets no gradient from here
      (`inputs.initial_set` does).
    inputs: what derivatives are taken with respect to.

  Returns:
    The solver's run; `final` carries the derivative.

  Raises:
    TypeError: under forward-mode differentiation; names the remedy.
  """
  at_final = gradient.linearize_at == 'final'
  precisely = _at_least_float32 if gradient.solves else lambda tree: tree

  def root(initial, inputs):
    run = solver(initial, inputs)
    y = run.final if at_final else run.penultimate
    return (precisely(y), inputs.fallbacks), run

  def condition(unknowns, inputs):
    y, fallbacks = unknowns
    if fallbacks is not None:
      fallbacks = fallbacks - inputs.fallbacks
    return optimality(y, precisely(inputs)), fallbacks

  def solve(matvec, b):
    b, unused = b
    u, failed = gradient.solve(lambda u: matvec((u, unused))[0], b)
    return u, None if unused is None else -failed.astype(unused.dtype)

  rooted = jaxopt_import.custom_root(condition, has_aux=True, solve=solve)(root)
  (solution, _), run = forward_mode.call_reverse_only(
    type(gradient).__name__, rooted, initial, inputs
  )
  run = jax.lax.stop_gradient(run)
  zero = solution - jax.lax.stop_gradient(solution)
  return run._replace(final=run.final + zero.astype(run.final.dtype))
