"""From latent vectors to sets: the argmin of Equation 7, differentiable."""

from typing import NamedTuple

import jax

from idspn_jax.ops import clip
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import implicit
from idspn_jax.solvers import inner_loop
from idspn_jax.solvers import inner_step
from idspn_jax.solvers import per_set


class Decoded(NamedTuple):
  """A decoded batch of sets.

  Attributes:
    set: `Y_T`, `(B, N, D)`.
    steps: inner steps that each set took, `(B,)`.
    trajectory: `Y_0 … Y_T`, `(T + 1, B, N, D)`, or None if not asked for.
    energy: the energy along the trajectory, `(T + 1, B)`, or None.
    residual: norm of the optimality condition along it, `(T + 1, B)`, or None.
  """

  set: jax.Array
  steps: jax.Array
  trajectory: jax.Array | None = None
  energy: jax.Array | None = None
  residual: jax.Array | None = None


def _check(inputs, y, iterations, tolerance):
  if y.ndim != 3 or inputs.z.ndim != 2 or y.shape[0] != inputs.z.shape[0]:
    raise ValueError(
      'decode needs z of shape (B, Z) and initial sets (B, N, D); got '
      f'{inputs.z.shape} and {y.shape}.'
    )
  if (
    isinstance(iterations, bool)
    or not isinstance(iterations, int)
    or (iterations < 0)
  ):
    raise ValueError(
      f'iterations must be an integer of at least 0; got {iterations!r}.'
    )
  if tolerance is not None and not tolerance >= 0:
    raise ValueError(f'tolerance must not be negative; got {tolerance}.')


def decode(
  energy: energy_lib.Energy,
  inputs: energy_lib.Inputs,
  *,
  iterations: int = 10,
  optimizer: inner_step.Optimizer = inner_step.GradientDescent(),  # noqa: B008
  gradient: gradients.Gradient = gradients.JacobianFree(),  # noqa: B008
  grad_clip: float | None = None,
  projection: per_set.Projection | None = None,
  project_initial_set: bool | None = None,
  tolerance: float | None = None,
  trajectory: bool = False,
) -> Decoded:
  """Minimises an energy over sets, differentiable in all of `inputs`.

  Derivatives reach only what is in `inputs`; an energy must not close over
  arrays that are to be differentiated.

  Args:
    energy: `energy(inputs, y)`, one number per set.
    inputs: parameters, latent vectors, initial sets and what is known.
    iterations: T, the (largest) number of inner steps; static.
    optimizer: the inner optimiser.
    gradient: how to differentiate the argmin.
    grad_clip: largest L2 norm of a set's inner gradient, or None.
    projection: maps `(B, N, D)` to the feasible sets, applied after each step.
    project_initial_set: project `Y_0` too; by default where the official code
      does, for implicit modes and not for `Unrolled`.
    tolerance: sets stop once their residual norm is at most this; None takes
      all T steps. Costs one more gradient per step.
    trajectory: also return all `Y_t`, their energies and residuals.

  Returns:
    A `Decoded`.

  Raises:
    ValueError: if shapes or settings do not fit, or if the gradient mode does
      not apply to projected problems; names the remedy.
  """
  y = inputs.initial_set
  _check(inputs, y, iterations, tolerance)
  gradients.check_applies(gradient, projection is not None)
  implicit_mode = isinstance(gradient, gradients.Implicit)
  step = inner_step.make_step(energy, optimizer, grad_clip, projection)
  if project_initial_set is None:
    project_initial_set = implicit_mode
  if projection is not None and project_initial_set:
    y = projection(y)

  def solve(y, inputs):
    return inner_loop.run(
      energy,
      step,
      inputs,
      y,
      iterations,
      projection=projection,
      tolerance=tolerance,
      trajectory=trajectory,
      differentiable=not implicit_mode,
      checkpoint=not implicit_mode and gradient.checkpoint,
    )

  if implicit_mode:
    optimality = inner_step.residual(energy, projection)
    run = implicit.differentiate(solve, optimality, gradient, y, inputs)
  else:
    run = solve(y, inputs)
  if not trajectory:
    return Decoded(run.final, run.steps)
  optimality = inner_step.residual(energy, projection)

  def measure(y):
    return energy(inputs, y), clip.set_norm(optimality(y, inputs))

  energies, residuals = jax.lax.map(measure, run.trajectory)
  return Decoded(run.final, run.steps, run.trajectory, energies, residuals)
