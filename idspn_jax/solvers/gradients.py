"""How to differentiate the argmin, as values to pass to the decoder.

The implicit function theorem (Equation 43, Appendix D) turns a cotangent `v`
of the minimiser into `-uᵀ ∂F/∂(z, θ)` with `Aᵀ u = v`, `A = ∂F/∂Y`. Here `F`
is `∇_Y L` (Equation 8) or, with a projection, `Y - proj(Y - ∇_Y L)` (Equation
10). The implicit modes differ in how they solve for `u`; `Unrolled` does not
use the theorem at all.

Implicit modes take `linearize_at`: 'penultimate' evaluates the derivatives of
`F` at `Y_{T-1}` while the value returned is `Y_T`, as the official code does;
it saves one evaluation of the encoder. 'final' uses `Y_T` for both.
"""

import abc
import dataclasses

import jax

from idspn_jax.solvers import linear_solve

LINEARIZE_AT = ('penultimate', 'final')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Implicit(abc.ABC):
  """Base of the implicit modes.

  Attributes:
    linearize_at: 'penultimate' (the paper's code) or 'final'.
  """

  linearize_at: str = 'penultimate'

  # Whether `solve` is right for systems that are not symmetric, as they are
  # with a projection.
  general = True

  def __post_init__(self):
    if self.linearize_at not in LINEARIZE_AT:
      raise ValueError(
        f'linearize_at is {self.linearize_at!r}; choose one of {LINEARIZE_AT}.'
      )
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name in ('iterations', 'restart') and value < 1:
        raise ValueError(f'{field.name} must be at least 1; got {value}.')
      if field.name == 'terms' and value < 0:
        raise ValueError(f'terms must not be negative; got {value}.')
      if field.name == 'tolerance' and value < 0:
        raise ValueError(f'tolerance must not be negative; got {value}.')
      if field.name == 'gamma' and not value > 0:
        raise ValueError(f'gamma must be positive; got {value}.')

  @abc.abstractmethod
  def solve(self, matvec: linear_solve.Matvec, b: jax.Array) -> jax.Array:
    """Returns `u ≈ A⁻ᵀ b` given products with `Aᵀ`, `(B, N, D)`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JacobianFree(Implicit):
  """`u = v`: the paper's approximation (Equation 9)."""

  def solve(self, matvec, b):
    return linear_solve.identity(matvec, b)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Neumann(Implicit):
  """`u = Σ_{i=0}^{terms} (I - Aᵀ)^i v`; no terms give `JacobianFree`.

  Attributes:
    terms: number of products with `Aᵀ`.
  """

  terms: int = 5

  def solve(self, matvec, b):
    return linear_solve.neumann(matvec, b, self.terms)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegularizedConjugateGradient(Implicit):
  """Conjugate gradient on `(H/γ + I) u = v` (Section 3, Appendix D).

  Attributes:
    gamma: γ; large values approach `JacobianFree`.
    iterations: steps, each one Hessian-vector product.
  """

  gamma: float = 100.0
  iterations: int = 3
  general = False

  def solve(self, matvec, b):
    return linear_solve.conjugate_gradient(
      matvec, b, self.iterations, gamma=self.gamma
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConjugateGradient(Implicit):
  """Conjugate gradient on `H u = v`; needs a positive definite Hessian.

  Attributes:
    iterations: most steps.
    tolerance: relative residual at which a set stops.
  """

  iterations: int = 20
  tolerance: float = 1e-6
  general = False

  def solve(self, matvec, b):
    return linear_solve.conjugate_gradient(
      matvec, b, self.iterations, self.tolerance
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalConjugateGradient(Implicit):
  """Conjugate gradient on the normal equations `A Aᵀ u = A v`.

  Attributes:
    iterations: most steps, two products each.
    tolerance: relative residual at which a set stops.
  """

  iterations: int = 20
  tolerance: float = 1e-6

  def solve(self, matvec, b):
    return linear_solve.normal_conjugate_gradient(
      matvec, b, self.iterations, self.tolerance
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GMRES(Implicit):
  """Generalised minimal residuals, for any invertible system.

  Attributes:
    iterations: most restarts.
    restart: size of the Krylov space between restarts.
    tolerance: relative residual at which a set stops.
  """

  iterations: int = 5
  restart: int = 20
  tolerance: float = 1e-6

  def solve(self, matvec, b):
    return linear_solve.gmres(
      matvec, b, self.iterations, self.restart, self.tolerance
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dense(Implicit):
  """Builds each set's `N·D × N·D` system and solves it exactly."""

  def solve(self, matvec, b):
    return linear_solve.dense(matvec, b)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unrolled:
  """Back-propagation through all steps: DSPN.

  Attributes:
    checkpoint: recompute each step in the backward pass instead of keeping its
      activations; memory then grows by one set and one optimiser state a step.
  """

  checkpoint: bool = False


Gradient = Implicit | Unrolled

MODES = {
  'jacobian_free': JacobianFree,
  'neumann': Neumann,
  'regularized_cg': RegularizedConjugateGradient,
  'cg': ConjugateGradient,
  'normal_cg': NormalConjugateGradient,
  'gmres': GMRES,
  'dense': Dense,
  'unrolled': Unrolled,
  'unrolled_checkpointed': lambda **options: Unrolled(
    checkpoint=True, **options
  ),
}


def gradient_mode(name: str, **options) -> Gradient:
  """Builds a mode from its name, for flags and configs.

  Args:
    name: a key of `MODES`.
    **options: the mode's attributes.

  Returns:
    The mode.

  Raises:
    ValueError: if the name, an option or its value is wrong.
  """
  if name not in MODES:
    raise ValueError(
      f'Unknown gradient {name!r}; choose one of {", ".join(MODES)}.'
    )
  try:
    return MODES[name](**options)
  except TypeError as e:
    raise ValueError(f'gradient {name!r} has no such option: {e}') from e


def check_applies(gradient: Gradient, projected: bool) -> None:
  """Refuses modes for symmetric systems where a projection makes them not so.

  Args:
    gradient: the mode.
    projected: whether the inner problem has a projection.

  Raises:
    ValueError: if the mode does not apply; names those that do.
  """
  if not isinstance(gradient, Implicit | Unrolled):
    raise ValueError(
      f'gradient must be a mode such as JacobianFree(); got {gradient!r}.'
    )
  if projected and isinstance(gradient, Implicit) and not gradient.general:
    raise ValueError(
      f'{type(gradient).__name__} needs a symmetric system, which the '
      'optimality condition with a projection is not. Use JacobianFree, '
      'Neumann, NormalConjugateGradient, GMRES, Dense or Unrolled.'
    )
