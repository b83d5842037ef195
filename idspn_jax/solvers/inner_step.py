"""One step of the inner optimisation: gradient, clip, optimiser, projection."""

from collections.abc import Callable
import dataclasses

import jax
import optax

from idspn_jax.ops import clip
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import line_search
from idspn_jax.solvers import option_checks
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
    option_checks.store(
      self,
      learning_rate=option_checks.number(
        'learning_rate', self.learning_rate, positive=True
      ),
      momentum=option_checks.fraction(
        'momentum', self.momentum, with_zero=True
      ),
      nesterov=option_checks.flag('nesterov', self.nesterov),
    )


@dataclasses.dataclass(frozen=True)
class OptaxOptimizer:
  """Any optax transformation, with a state of its own for every set.

  Transformations that ask for more than the gradient, such as `optax.lbfgs()`
  and `optax.polyak_sgd()`, get the set's energy as `value`, its gradient as
  `grad` (before `grad_clip`) and the energy as a function of the set as
  `value_fn`.

  Attributes:
    transformation: for example `optax.adam(1e-2)`.
  """

  transformation: optax.GradientTransformation

  def __post_init__(self):
    if not isinstance(self.transformation, optax.GradientTransformation):
      raise ValueError(
        'OptaxOptimizer needs a transformation such as optax.adam(1e-2); got '
        f'{self.transformation!r}.'
      )


@dataclasses.dataclass(frozen=True)
class BacktrackingLineSearch:
  """Gradient descent with a backtracking (Armijo) line search for every set.

  Attributes:
    learning_rate: largest step size, and the first to try.
    max_steps: most times that it is decreased.
    decrease_factor: by how much, between 0 and 1.

  Raises:
    ValueError: if an attribute is of the wrong type or out of range.
  """

  learning_rate: float = 1.0
  max_steps: int = 15
  decrease_factor: float = 0.8

  def __post_init__(self):
    option_checks.store(
      self,
      learning_rate=option_checks.number(
        'learning_rate', self.learning_rate, positive=True
      ),
      max_steps=option_checks.integer('max_steps', self.max_steps, least=1),
      decrease_factor=option_checks.fraction(
        'decrease_factor', self.decrease_factor, with_zero=False
      ),
    )


Optimizer = (
  GradientDescent
  | OptaxOptimizer
  | BacktrackingLineSearch
  | projected_gradient.ProjectedGradient
)


def _advance(y, change, projection):
  y = optax.apply_updates(y, change)
  return y if projection is None else projection(y)


def _elementwise_step(energy, transformation, grad_clip, projection):
  """A transformation that treats every number alike: one for the batch."""
  gradient = energy_lib.energy_gradient(energy)

  def init(inputs, y):
    del inputs
    return transformation.init(y)

  def update(inputs, y, state):
    g = gradient(inputs, y)
    if grad_clip is not None:
      g = clip.clip_per_set(g, grad_clip)
    change, state = transformation.update(g, state, y)
    return _advance(y, change, projection), state

  return per_set.Step(init, update)


def _optax_step(energy, transformation, grad_clip, projection):
  """A transformation for each set, also of those that need the energy."""
  single = per_set.one_set(energy)
  gradient = energy_lib.energy_gradient(energy, with_energy=True)
  transformation = optax.with_extra_args_support(transformation)

  def init(inputs, y):
    del inputs
    return jax.vmap(transformation.init)(y)

  def update_one(inputs, y_and_energy, state):
    y, g, value, clipped = y_and_energy
    return transformation.update(
      clipped,
      state,
      y,
      value=value,
      grad=g,
      value_fn=lambda y: single(y, inputs),
    )

  def update(inputs, y, state):
    g, energies = gradient(inputs, y)
    clipped = g if grad_clip is None else clip.clip_per_set(g, grad_clip)
    try:
      change, state = per_set.over_sets(update_one, inputs)(
        inputs, (y, g, energies, clipped), state
      )
    except TypeError as e:
      if 'manual axis types' not in str(e):
        raise
      raise ValueError(
        'This optax transformation has a loop (a line search, for example) '
        'that does not run inside jax.shard_map with check_vma=True. Set '
        'check_vma=False, shard by jax.jit, or use BacktrackingLineSearch.'
      ) from e
    return _advance(y, change, projection), state

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
    ValueError: if the optimiser is unknown or does not combine with the rest,
      or if the clip is not a positive number.
  """
  if grad_clip is not None:
    grad_clip = option_checks.number('grad_clip', grad_clip, positive=True)
  if isinstance(optimizer, GradientDescent):
    transformation = optax.sgd(
      optimizer.learning_rate,
      optimizer.momentum or None,
      optimizer.nesterov and optimizer.momentum > 0,
    )
    return _elementwise_step(energy, transformation, grad_clip, projection)
  if isinstance(optimizer, OptaxOptimizer):
    return _optax_step(energy, optimizer.transformation, grad_clip, projection)
  if isinstance(
    optimizer,
    BacktrackingLineSearch | projected_gradient.ProjectedGradient,
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
    return line_search.make_step(
      energy,
      optimizer.learning_rate,
      optimizer.max_steps,
      optimizer.decrease_factor,
    )
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
