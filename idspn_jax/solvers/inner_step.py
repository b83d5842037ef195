"""One step of the inner optimisation: gradient, clip, optimiser, projection."""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import optax

from idspn_jax.ops import clip
from idspn_jax.solvers import energy as energy_lib

Projection = Callable[[jax.Array], jax.Array]


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


@dataclasses.dataclass(frozen=True)
class ProjectedGradient:
  """jaxopt's `ProjectedGradient`, run for every set.

  Attributes:
    stepsize: fixed step size; 0 chooses one by line search at every step.
    acceleration: use FISTA's acceleration.
    max_linesearch_steps: most halvings of the step size.
  """

  stepsize: float = 0.0
  acceleration: bool = True
  max_linesearch_steps: int = 15


Optimizer = (
  GradientDescent | OptaxOptimizer | BacktrackingLineSearch | ProjectedGradient
)


class Step(NamedTuple):
  """The inner optimisation as two pure functions.

  Attributes:
    init: `(inputs, y) -> state`.
    update: `(inputs, y, state) -> (y, state)`.
  """

  init: Callable[[energy_lib.Inputs, jax.Array], Any]
  update: Callable[[energy_lib.Inputs, jax.Array, Any], tuple[jax.Array, Any]]


def _per_set_axes(inputs):
  """`vmap` axes of the inputs: all but the parameters have one row per set."""
  return energy_lib.Inputs(
    None, *(None if a is None else 0 for a in inputs[1:])
  )


def one_set(energy: energy_lib.Energy) -> Callable:
  """Turns an energy of a batch into the energy of one set, a scalar."""

  def single(y, inputs):
    rows = jax.tree.map(lambda a: a[None], tuple(inputs[1:]))
    return energy(energy_lib.Inputs(inputs.params, *rows), y[None])[0]

  return single


def over_sets(fn: Callable, inputs: energy_lib.Inputs) -> Callable:
  """Maps `fn(inputs, y, state)` for one set over a batch of sets."""
  return jax.vmap(fn, in_axes=(_per_set_axes(inputs), 0, 0))


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

  return Step(init, update)


def _line_search_step(energy, optimizer):
  single = one_set(energy)
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
    return over_sets(update_one, inputs)(inputs, y, state)

  return Step(init, update)


def make_step(
  energy: energy_lib.Energy,
  optimizer: Optimizer,
  grad_clip: float | None = None,
  projection: Projection | None = None,
) -> Step:
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
  if isinstance(optimizer, BacktrackingLineSearch | ProjectedGradient):
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
  if isinstance(optimizer, ProjectedGradient):
    # Here, because only this optimiser needs jaxopt.
    from idspn_jax.solvers import projected_gradient

    return projected_gradient.make_step(energy, optimizer, projection)
  raise ValueError(
    'optimizer must be GradientDescent, OptaxOptimizer, '
    f'BacktrackingLineSearch or ProjectedGradient; got {optimizer!r}.'
  )


def residual(
  energy: energy_lib.Energy, projection: Projection | None
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
