"""jaxopt's `ProjectedGradient` as an inner optimiser, run set by set."""

import dataclasses

import jax
import jax.numpy as jnp

from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import jaxopt_import
from idspn_jax.solvers import option_checks
from idspn_jax.solvers import per_set


@dataclasses.dataclass(frozen=True)
class ProjectedGradient:
  """jaxopt's `ProjectedGradient`, run for every set.

  Attributes:
    stepsize: fixed step size; 0 chooses one by line search at every step.
    acceleration: use FISTA's acceleration.
    max_linesearch_steps: most halvings of the step size.

  Raises:
    ValueError: if an attribute is of the wrong type or out of range.
  """

  stepsize: float = 0.0
  acceleration: bool = True
  max_linesearch_steps: int = 15

  def __post_init__(self):
    option_checks.store(
      self,
      stepsize=option_checks.number('stepsize', self.stepsize, positive=False),
      acceleration=option_checks.flag('acceleration', self.acceleration),
      max_linesearch_steps=option_checks.integer(
        'max_linesearch_steps', self.max_linesearch_steps, least=1
      ),
    )


def make_step(
  energy: energy_lib.Energy,
  optimizer: ProjectedGradient,
  projection: per_set.Projection | None,
) -> per_set.Step:
  """Wraps jaxopt's solver as a `Step`.

  Only its forward steps are used: the derivative of the argmin comes from
  `implicit`, because jaxopt 0.8.5 ignores `implicit_diff_solve` here.

  Args:
    energy: what to minimise.
    optimizer: the solver's settings.
    projection: maps sets `(B, N, D)` to the feasible ones; None for no
      constraint.

  Returns:
    A `Step` whose state is jaxopt's, one per set.
  """

  def project(y, hyperparams):
    del hyperparams
    return y if projection is None else projection(y[None])[0]

  solver = jaxopt_import.ProjectedGradient(
    per_set.one_set(energy),
    project,
    stepsize=optimizer.stepsize,
    acceleration=optimizer.acceleration,
    maxls=optimizer.max_linesearch_steps,
    implicit_diff=False,
    jit=True,
    unroll=False,
  )
  # jaxopt's solver hands all work to this one.
  inner = solver._pg
  inner._fista_line_search = _line_search(inner)

  def init(inputs, y):
    def one(inputs, y, _):
      return solver.init_state(y, None, inputs)

    return per_set.over_sets(one, inputs)(inputs, y, y)

  def update(inputs, y, state):
    def one(inputs, y, state):
      return tuple(solver.update(y, state, None, inputs))

    return per_set.over_sets(one, inputs)(inputs, y, state)

  return per_set.Step(init, update)


def _line_search(solver):
  """The solver's own line search, as a loop that always ends under `vmap`.

  jaxopt's loop computes its condition twice, once to go on and once to choose
  what a set keeps. XLA may round the two differently, and then a loop over
  several sets goes on for ever. Here the answer is computed once and carried.
  """

  def search(
    max_steps, y, value, gradient, stepsize, factor, hyperparams, args, kwargs
  ):
    eps = jnp.finfo(value.dtype).eps

    def at(stepsize):
      new = solver._prox_grad(y, gradient, stepsize, hyperparams)
      moved = new - y
      # L(new) <= L(y) + moved · ∇L + ‖moved‖² / (2 stepsize), with tolerance.
      change = stepsize * (solver.fun(new, *args, **kwargs) - value)
      bound = stepsize * jnp.vdot(moved, gradient)
      bound += 0.5 * jnp.vdot(moved, moved)
      return new, stepsize, change > bound + eps

    def shorten(carry):
      steps, _, stepsize, _ = carry
      return steps + 1, *at(stepsize * factor)

    _, new, stepsize, _ = jax.lax.while_loop(
      lambda carry: carry[3] & (carry[0] < max_steps),
      shorten,
      (0, *at(stepsize)),
    )
    return new, stepsize

  return search
