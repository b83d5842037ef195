"""One step of the inner optimisation: gradient, clip, optimiser, projection."""

from collections.abc import Callable
import dataclasses

import jax
import optax

from idspn_jax.ops import clip
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import per_set
from idspn_jax.solvers import projected_gradient


@dataclasses.dataclass(frozen=True)
class GradientDescent:
  """Gradient descent, with Nesterov momentum if `momentum` is positive.

  Attributes:
    learning_rate: step size on the energy.
    momentum: decay of the velocity; it starts at the first gradient, so the
      first step is `(1 + momentum)` gradients long, as in PyTorch.
    nesterov: look ahead along the velocity, or plain heavy-ball momentum.
  """

  learning_rate: float = 1.0
  momentum: float = 0.9
  nesterov: bool = True

  def __post_init__(self):
    if not self.learning_rate > 0:
      raise ValueError(
        f'learning_rate must be positive; got {self.learning_rate}.'
      )
    if not 0 <= self.momentum < 1:
      raise ValueError(f'momentum must be in [0, 1); got {self.momentum}.')


@dataclasses.dataclass(frozen=True)
class OptaxOptimizer:
  """Any optax transformation, with a state of its own for every set.

  Attributes:
    transformation: for example `optax.adam(1e-2)`.
  """

  transformation: optax.GradientTransformation


@dataclasses.dataclass(frozen=True)
class BacktrackingLineSearch:
  """Gradient descent with a backtracking (Armijo) line search for every set.

  Attributes:
    learning_rate: first step size to try.
    max_steps: most times that it is decreased.
    decrease_factor: by how much.
  """

  learning_rate: float = 1.0
  max_steps: int = 15
  decrease_factor: float = 0.8


Optimizer = (
  GradientDescent
  | OptaxOptimizer
  | BacktrackingLineSearch
  | projected_gradient.ProjectedGradient
)


def _optax_step(energy, transformation, grad_clip, projection, elementwise):
  gradient = energy_lib.energy_gradient(energy)

  def init(inputs, y):
    del inputs
    start = (
      transformation.init if elementwise else jax.vmap(transformation.init)
    )
    return start(y)

  def update(inputs, y, state):
    g = gradient(inputs, y)
    if grad_clip is not None:
      g = clip.clip_per_set(g, grad_clip)
    advance = (
      transformation.update if elementwise else jax.vmap(transformation.update)
    )
    change, state = advance(g, state, y)
    y = optax.apply_updates(y, change)
    return (y if projection is None else projection(y)), state

  return per_set.Step(init, update)


def _line_search_step(energy, optimizer):
  single = per_set.one_set(energy)
  transformation = optax.chain(
    optax.sgd(optimizer.learning_rate),
    optax.scale_by_backtracking_linesearch(
      optimizer.max_steps, decrease_factor=optimizer.decrease_factor
    ),
  )

  def init(inputs, y):
    del inputs
    return jax.vmap(transformation.init)(y)

  def update_one(inputs, y, state):
    value, g = jax.value_and_grad(single)(y, inputs)
    change, state = transformation.update(
      g, state, y, value=value, grad=g, value_fn=single, inputs=inputs
    )
    return optax.apply_updates(y, change), state

  def update(inputs, y, state):
    return per_set.over_sets(update_one, inputs)(inputs, y, state)

  return per_set.Step(init, update)


def make_step(
  energy: energy_lib.Energy,
  optimizer: Optimizer,
  grad_clip: float | None = None,
  projection: per_set.Projection | None = None,
) -> per_set.Step:
  """Builds the inner step.

  Args:
    energy: what to minimise.
    optimizer: how to move.
    grad_clip: largest L2 norm of a set's gradient, or None.
    projection: maps sets `(B, N, D)` back to the feasible ones after each step.

  Returns:
    A `Step`.

  Raises:
    ValueError: if the optimiser is unknown or does not combine with the rest.
  """
  if isinstance(optimizer, GradientDescent):
    transformation = optax.sgd(
      optimizer.learning_rate,
      optimizer.momentum or None,
      optimizer.nesterov and optimizer.momentum > 0,
    )
    return _optax_step(energy, transformation, grad_clip, projection, True)
  if isinstance(optimizer, OptaxOptimizer):
    return _optax_step(
      energy, optimizer.transformation, grad_clip, projection, False
    )
  if isinstance(
    optimizer, BacktrackingLineSearch | projected_gradient.ProjectedGradient
  ):
    if grad_clip is not None:
      raise ValueError(
        f'{type(optimizer).__name__} chooses its own step sizes; set '
        'grad_clip=None or use GradientDescent or OptaxOptimizer.'
      )
  if isinstance(optimizer, BacktrackingLineSearch):
    if projection is not None:
      raise ValueError(
        'BacktrackingLineSearch searches along straight lines, which a '
        'projection bends; use ProjectedGradient (its step size 0 searches).'
      )
    return _line_search_step(energy, optimizer)
  if isinstance(optimizer, projected_gradient.ProjectedGradient):
    return projected_gradient.make_step(energy, optimizer, projection)
  raise ValueError(
    'optimizer must be GradientDescent, OptaxOptimizer, '
    f'BacktrackingLineSearch or ProjectedGradient; got {optimizer!r}.'
  )


def residual(
  energy: energy_lib.Energy, projection: per_set.Projection | None
) -> Callable[[jax.Array, energy_lib.Inputs], jax.Array]:
  """The optimality condition `F(Y, inputs)`, zero at a minimiser.

  `∇_Y L` (Equation 8), or `Y - proj(Y - ∇_Y L)` with a projection: Equation 10
  with its sign changed, so that `-F` is a step in both cases.
  """
  gradient = energy_lib.energy_gradient(energy)

  def optimality(y, inputs):
    g = gradient(inputs, y)
    return g if projection is None else y - projection(y - g)

  return optimality
