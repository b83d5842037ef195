"""Implicit differentiation of the argmin through jaxopt's `custom_root`."""

from collections.abc import Callable

import jax
from jaxopt import implicit_diff

from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_loop

Solver = Callable[[jax.Array, energy_lib.Inputs], inner_loop.Run]
Optimality = Callable[[jax.Array, energy_lib.Inputs], jax.Array]


def differentiate(
  solver: Solver,
  optimality: Optimality,
  gradient: gradients.Implicit,
  initial_set: jax.Array,
  inputs: energy_lib.Inputs,
) -> inner_loop.Run:
  """Runs a solver and gives its result the implicit derivative.

  `custom_root` linearises at the set that the solver returns. To return `Y_T`
  and linearise at `Y_{T-1}`, the solver's root is `Y_{T-1}`, `Y_T` comes along
  as auxiliary data, and the two are joined outside so that the value is the
  one and the derivative the other's.

  Args:
    solver: `(Y_0, inputs)` to a `Run`; never differentiated.
    optimality: `F(Y, inputs)`, zero at the minimiser.
    gradient: the implicit mode.
    initial_set: `Y_0`; gets no gradient from here (`inputs.initial_set` does).
    inputs: what derivatives are taken with respect to.

  Returns:
    The solver's run; `final` carries the derivative.
  """
  at_final = gradient.linearize_at == 'final'

  def root(initial_set, inputs):
    run = solver(initial_set, inputs)
    return (run.final if at_final else run.penultimate), run

  rooted = implicit_diff.custom_root(
    optimality, has_aux=True, solve=gradient.solve
  )(root)
  solution, run = rooted(initial_set, inputs)
  run = jax.lax.stop_gradient(run)
  zero = solution - jax.lax.stop_gradient(solution)
  return run._replace(final=run.final + zero)
