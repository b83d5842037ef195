"""The exact gradient of an argmin, and whether it means anything.

The inner problem is solved to rounding errors, its Hessian `H` is built whole,
and `H u = v` is solved densely (Equation 43). All of it is in float64.

A set's gradient is only called exact where the theorem applies: the optimum
has converged, `H` is regular and positive definite there. Where the energy has
kinks (ties in FSPool, zeros of ReLU), many minima sit on one: then the gradient
of the energy jumps over zero without ever being zero, and no set nearby has a
small residual.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.ops import clip
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import linear_solve
from idspn_jax.studies import gradient_status

# Largest N·D whose Hessian is built.
LARGEST = 1024
_SETTLING_STEPS = 500
_SETTLING = 0.95
_NEWTON_STEPS = 20
_HALVINGS = 20

Loss = Callable[[jax.Array], jax.Array]
Margins = Callable[[energy_lib.Inputs, jax.Array], jax.Array]


class Problem(NamedTuple):
  """An inner problem and what its solution is for.

  Attributes:
    energy: `energy(inputs, y)`, one number per set, `(B,)`.
    inputs: what the energy depends on; `initial_set` is where descent starts.
    loss: of sets `(B, N, D)`, one number per set, `(B,)`.
    margins: `(inputs, y)` to `(B, K)`: continuous functions such that the
      energy is smooth wherever none is zero; None if it is smooth, or its
      kinks are not known.
  """

  energy: energy_lib.Energy
  inputs: energy_lib.Inputs
  loss: Loss
  margins: Margins | None = None


class Reference(NamedTuple):
  """The optimum of every set and the exact gradient there.

  Attributes:
    y: the optimum, `(B, N, D)`.
    residual: norm of the energy's gradient there, `(B,)`.
    kink: distance to the nearest kink to first order, in the set's units,
      `(B,)`; infinite if the energy has none, NaN if they are not known.
    hessian: `(B, N·D, N·D)`.
    eigenvalues: of the Hessian, ascending, `(B, N·D)`.
    rank: of the Hessian, `(B,)`.
    status: one of `gradient_status.STATUSES` per set.
    v: gradient of the loss with respect to the set, `(B, N, D)`.
    u: solution of `H u = v`, `(B, N, D)`; zero unless exact.
    gradient: of the sum of the losses of the exact sets, an `Inputs`.
  """

  y: jax.Array
  residual: np.ndarray
  kink: np.ndarray
  hessian: jax.Array
  eigenvalues: np.ndarray
  rank: np.ndarray
  status: np.ndarray
  v: jax.Array
  u: jax.Array
  gradient: energy_lib.Inputs

  @property
  def exact(self) -> np.ndarray:
    """Which sets have an exact gradient, `(B,)` booleans."""
    return self.status == gradient_status.EXACT

  @property
  def counts(self) -> dict[str, int]:
    """The number of sets of every status, by status."""
    return {
      name: int(np.sum(self.status == name))
      for name in gradient_status.STATUSES
    }


def in_float64(tree: Any) -> Any:
  """Casts floating-point arrays to float64; needs 64-bit mode."""

  def cast(leaf):
    leaf = jnp.asarray(leaf)
    real = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.float64) if real else leaf

  return jax.tree.map(cast, tree)


def hessians(
  energy: energy_lib.Energy, inputs: energy_lib.Inputs, y: jax.Array
) -> jax.Array:
  """Every set's Hessian of the energy, `(B, N·D, N·D)`."""
  gradient = energy_lib.energy_gradient(energy)

  def product(u):
    return jax.jvp(lambda y: gradient(inputs, y), (y,), (u,))[1]

  return linear_solve.blocks(product, y)


def checked_loss(loss: Loss) -> Loss:
  """Wraps a loss so that a wrong result is refused when it is traced.

  Args:
    loss: any loss.

  Returns:
    The same loss.

  Raises:
    ValueError: from the loss returned, if the result is not one real number
      per set.
  """

  def with_checks(y):
    value = loss(y)
    shape, dtype = jnp.shape(value), jnp.result_type(value)
    if shape != y.shape[:1] or not jnp.issubdtype(dtype, jnp.floating):
      raise ValueError(
        f'loss must return one real number per set, shape {y.shape[:1]}; got '
        f'shape {shape} of {dtype}. Sum or average over all axes but the first.'
      )
    return value

  return with_checks


def standing_in(counted: jax.Array, tree: Any) -> Any:
  """Puts the first set that counts in the place of every one that does not.

  Whatever is not finite there would otherwise reach the parameters' gradient,
  which all sets share: zero times NaN is NaN.

  Args:
    counted: which sets count, `(B,)` booleans.
    tree: arrays of `(B, …)`, or `Inputs`, whose parameters stay.
  """
  rows = jnp.arange(counted.shape[0])
  rows = jnp.where(counted, rows, jnp.argmax(counted))
  if isinstance(tree, energy_lib.Inputs):
    by_set = jax.tree.map(lambda x: x[rows], tree._replace(params=None))
    return by_set._replace(params=tree.params)
  return jax.tree.map(lambda x: x[rows], tree)


def without_integers(gradient: Any) -> Any:
  """Puts None for the derivatives of what has none, such as integers."""
  return jax.tree.map(
    lambda x: None if x.dtype == jax.dtypes.float0 else x, gradient
  )


def pull_back(
  energy: energy_lib.Energy,
  inputs: energy_lib.Inputs,
  y: jax.Array,
  u: jax.Array,
  counted: jax.Array,
) -> energy_lib.Inputs:
  """The implicit gradient `-uᵀ ∂F/∂(θ, z, Y₀)` of the sum over sets.

  Args:
    energy: of the inner problem.
    inputs: what it depends on.
    y: where its derivatives are taken, `(B, N, D)`.
    u: `(B, N, D)`.
    counted: which sets count, `(B,)` booleans; the others add nothing.
  """
  gradient = energy_lib.energy_gradient(energy)
  inputs, y = standing_in(counted, inputs), standing_in(counted, y)
  _, transpose = jax.vjp(lambda inputs: gradient(inputs, y), inputs)
  # Not by a product: what is not finite stays in its own set.
  found = transpose(-jnp.where(counted[:, None, None], u, 0.0))[0]
  return without_integers(found)


def loss_gradient(loss: Loss, y: jax.Array) -> jax.Array:
  """The gradient of the sum of the losses with respect to the sets."""
  return jax.grad(lambda y: jnp.sum(loss(y)))(y)


def kink_distance(
  margins: Margins, inputs: energy_lib.Inputs, y: jax.Array
) -> jax.Array:
  """Distance of every set to the nearest kink, to first order, `(B,)`.

  That of a margin `m` is `|m| / ‖∂m/∂Y‖`. A margin that does not depend on the
  set is no kink.

  Raises:
    ValueError: if the margins are not real numbers of shape `(B, K)`.
  """
  value = margins(inputs, y)
  shape, dtype = jnp.shape(value), jnp.result_type(value)
  real = jnp.issubdtype(dtype, jnp.floating)
  if len(shape) != 2 or shape[0] != len(y) or not real:
    raise ValueError(
      f'margins must return K real numbers per set, shape ({len(y)}, K); got '
      f'shape {shape} of {dtype}.'
    )

  def directional(u):
    return jax.jvp(lambda y: margins(inputs, y), (y,), (u,))[1]

  batch, n, d = y.shape
  unit = jnp.eye(n * d, dtype=y.dtype).reshape(n * d, 1, n, d)
  basis = unit * jnp.ones_like(y)[None]

  def add(square, u):
    return square + jnp.square(directional(u)), None

  square, _ = jax.lax.scan(add, jnp.zeros_like(value), basis)
  moves = square > 0
  slope = jnp.sqrt(jnp.where(moves, square, 1.0))
  distance = jnp.where(moves, jnp.abs(value) / slope, jnp.inf)
  return jnp.min(distance, axis=-1, initial=jnp.inf)


def _settle(gradient, inputs, y, rate):
  """Gradient descent whose rate falls to nothing: it ends even on a kink."""

  def step(i, y):
    g = gradient(inputs, y)
    return y - rate * _SETTLING**i * g

  return jax.lax.fori_loop(0, _SETTLING_STEPS, step, y)


def _newton(energy, inputs, y):
  """Newton's steps with a line search; no step raises a set's energy."""
  gradient = energy_lib.energy_gradient(energy)

  def rows(x):
    return x[:, None, None]

  def step(_, y):
    g = gradient(inputs, y)
    values, vectors = jnp.linalg.eigh(hessians(energy, inputs, y))
    # Downhill in directions of negative curvature too.
    size = jnp.abs(values)
    size = jnp.maximum(size, 1e-8 * jnp.max(size, axis=-1, keepdims=True))
    size = jnp.where(size > 0, size, 1.0)
    flat = g.reshape(*size.shape)
    p = jnp.einsum('bji,bj->bi', vectors, flat) / size
    p = -jnp.einsum('bij,bj->bi', vectors, p).reshape(y.shape)
    before = energy(inputs, y)

    def attempt(k, best):
      best_y, best_energy = best
      candidate = y + 0.5**k * p
      value = energy(inputs, candidate)
      better = value < best_energy
      return (
        jnp.where(rows(better), candidate, best_y),
        jnp.where(better, value, best_energy),
      )

    searched, _ = jax.lax.fori_loop(0, _HALVINGS, attempt, (y, before))
    # Near the end, energies differ by rounding errors only.
    whole = y + p
    closer = clip.set_norm(gradient(inputs, whole)) < clip.set_norm(g)
    no_worse = energy(inputs, whole) <= before + 1e-12 * jnp.abs(before)
    return jnp.where(rows(closer & no_worse), whole, searched)

  return jax.lax.fori_loop(0, _NEWTON_STEPS, step, y)


def _solve(values, vectors, v):
  """`H⁻¹ v` by eigenvectors; without those of infinite eigenvalues."""
  flat = v.reshape(values.shape)
  u = jnp.einsum('bji,bj->bi', vectors, flat)
  u = u / jnp.where(values == 0, 1.0, values)
  return jnp.einsum('bij,bj->bi', vectors, u).reshape(v.shape)


def _norms(x):
  with np.errstate(all='ignore'):  # Sets that have diverged.
    return np.linalg.norm(np.asarray(x).reshape(len(x), -1), axis=-1)


class Solver:
  """Finds optima and exact gradients of a problem's inputs."""

  def __init__(self, problem: Problem, rate: float):
    """Prepares the compiled parts.

    Args:
      problem: in float64.
      rate: of the descent that settles on an optimum, like that of the inner
        optimiser.

    Raises:
      ValueError: if N·D is larger than `LARGEST`.
    """
    n, d = problem.inputs.initial_set.shape[1:]
    if n * d > LARGEST:
      raise ValueError(
        f'Hessians are built up to N·D = {LARGEST}; these sets of shape '
        f'({n}, {d}) have {n * d}. Compare gradients on smaller sets.'
      )
    self._problem = problem
    energy, loss, margins = problem.energy, problem.loss, problem.margins
    gradient = energy_lib.energy_gradient(energy)

    @jax.jit
    def optimum(inputs, y):
      y = _settle(gradient, inputs, y, rate)
      y = _newton(energy, inputs, y)
      hessian = hessians(energy, inputs, y)
      values, vectors = jnp.linalg.eigh(hessian)
      v = loss_gradient(loss, y)
      kink = jnp.full(y.shape[:1], jnp.nan)
      if margins is not None:
        kink = kink_distance(margins, inputs, y)
      return y, gradient(inputs, y), kink, hessian, values, vectors, v

    @jax.jit
    def finish(inputs, y, values, vectors, v, exact):
      u = jnp.where(exact[:, None, None], _solve(values, vectors, v), 0.0)
      return u, pull_back(energy, inputs, y, u, exact)

    self._optimum, self._finish, self._solve = optimum, finish, jax.jit(_solve)

  def __call__(self, y: jax.Array) -> Reference:
    """Converges from `y`, `(B, N, D)`, and differentiates the optimum."""
    inputs = self._problem.inputs
    y, g, kink, hessian, values, vectors, v = self._optimum(inputs, y)
    residual, kink, eigenvalues = map(np.asarray, (_norms(g), kink, values))
    # Flat directions have no Newton step; their sets are singular.
    stiff = np.where(
      gradient_status.is_regular(eigenvalues), eigenvalues, np.inf
    )
    newton = self._solve(jnp.asarray(stiff), vectors, g)
    size = np.maximum(_norms(y), _norms(y - inputs.initial_set))
    rank, status = gradient_status.judge(
      residual, _norms(newton), size, kink, eigenvalues, _norms(v)
    )
    exact = jnp.asarray(status == gradient_status.EXACT)
    u, gradient = self._finish(inputs, y, values, vectors, v, exact)
    return Reference(
      y, residual, kink, hessian, eigenvalues, rank, status, v, u, gradient
    )
