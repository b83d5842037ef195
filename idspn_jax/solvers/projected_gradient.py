"""jaxopt's `ProjectedGradient` as an inner optimiser, run set by set."""

import dataclasses

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
    option_checks.number('stepsize', self.stepsize, positive=False)
    option_checks.flag('acceleration', self.acceleration)
    option_checks.integer(
      'max_linesearch_steps', self.max_linesearch_steps, least=1
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

  def init(inputs, y):
    def one(inputs, y, _):
      return solver.init_state(y, None, inputs)

    return per_set.over_sets(one, inputs)(inputs, y, y)

  def update(inputs, y, state):
    def one(inputs, y, state):
      return tuple(solver.update(y, state, None, inputs))

    return per_set.over_sets(one, inputs)(inputs, y, state)

  return per_set.Step(init, update)
