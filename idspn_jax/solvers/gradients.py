"""How to differentiate the argmin, as values to pass to the decoder.

Symbols: `Y` is the set that is optimised, `θ` the encoder's parameters, `z`
the latent vectors, `v` the cotangent of the minimiser (the loss's gradient
with respect to the decoded set). `F(Y)` is `∇_Y L` (Equation 8) or, with a
projection, `Y - proj(Y - ∇_Y L)` (Equation 10). `A = ∂F/∂Y` is its Jacobian,
one `N·D × N·D` block per set; without a projection it is the Hessian `H` of
the energy and symmetric.

The implicit function theorem (Equation 43, Appendix D) gives the gradient
`-uᵀ ∂F/∂(z, θ)` with `Aᵀ u = v`. The implicit modes differ in how they solve
for `u`; `Unrolled` does not use the theorem at all.

*Exact* means that `u` solves this system to the solver's tolerance. Then the
gradient is that of the argmin, provided that the inner optimisation has
converged to a minimum away from kinks (ties in FSPool, zeros of ReLU), and
that `A` is nonsingular there. `A` is singular with `N·D > Z` and a piecewise
linear encoder (ReLU with FSPool, max or sum pooling) unless the energy is
`regularized`; a `ridge` makes it regular otherwise.

Where a set's solve fails (see `linear_solve` and `krylov` for what fails in
each mode), is not finite, or is longer than `max_growth · ‖v‖`, that set, and
no other, gets the Jacobian-free `u = v`. `energy.Inputs.fallbacks` counts
these sets.

The modes differ in scale. At converged optima of an encoder with tanh and sum
pooling, whose Hessian has small eigenvalues, the parameters' gradient has these
cosines with, and norms relative to, that of `Dense` (`make compare`):
JacobianFree 0.92 and 0.02, Neumann(50) 0.98 and 0.51;
RegularizedConjugateGradient with γ = 100 equals JacobianFree there. A learning
rate tuned for one mode does not suit another.

Implicit modes take `linearize_at`: 'penultimate' evaluates the derivatives of
`F` at `Y_{T-1}` while the value returned is `Y_T`, as the official code does;
it saves one evaluation of the encoder. 'final' uses `Y_T` for both.

Implicit modes support reverse mode (`jax.grad`, `jax.vjp`, `jax.jacrev`), once
or repeatedly; forward mode (`jax.jvp`, `jax.jacfwd`, `jax.hessian`) needs
`Unrolled`.
"""

import abc
import dataclasses

import jax

from idspn_jax.solvers import linear_solve
from idspn_jax.solvers import option_checks

LINEARIZE_AT = ('penultimate', 'final')

_CHECKS = {
  'checkpoint': option_checks.flag,
  'gamma': lambda *a: option_checks.number(*a, positive=True),
  'iterations': lambda *a: option_checks.integer(*a, least=1),
  'max_growth': lambda *a: option_checks.number(*a, positive=True),
  'restart': lambda *a: option_checks.integer(*a, least=1),
  'ridge': lambda *a: option_checks.number(*a, positive=False),
  'scale': lambda *a: option_checks.number(*a, positive=True),
  'terms': lambda *a: option_checks.integer(*a, least=0),
  'tolerance': lambda *a: option_checks.number(*a, positive=False),
}


class _Checked:
  """Checks the attributes of a mode at construction."""

  def __post_init__(self):
    names = [field.name for field in dataclasses.fields(self)]
    option_checks.store(
      self,
      **{
        name: _CHECKS[name](name, getattr(self, name))
        for name in names
        if name in _CHECKS
      },
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Implicit(_Checked, abc.ABC):
  """Base of the implicit modes.

  Attributes:
    linearize_at: 'penultimate' (the paper's code) or 'final'.
  """

  linearize_at: str = 'penultimate'

  # Whether `solve` is right for systems that are not symmetric, as they are
  # with a projection.
  general = True
  # Whether there is a system to solve, in float32 at least.
  solves = True

  def __post_init__(self):
    super().__post_init__()
    if self.linearize_at not in LINEARIZE_AT:
      raise ValueError(
        f'linearize_at is {self.linearize_at!r}; choose one of {LINEARIZE_AT}.'
      )

  @abc.abstractmethod
  def solve(
    self, matvec: linear_solve.Matvec, b: jax.Array
  ) -> linear_solve.Solution:
    """Returns `u ≈ A⁻ᵀ b` given products with `Aᵀ`, `(B, N, D)`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JacobianFree(Implicit):
  """`u = v`: the paper's approximation (Equation 9); never fails."""

  solves = False

  def solve(self, matvec, b):
    return linear_solve.identity(matvec, b)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolvingMode(Implicit):
  """Base of the modes that solve a system, exactly or not.

  Attributes:
    ridge: λ: solves with `A + λI` (`H + λI` without a projection), which makes
      a singular system regular; biases the gradient toward `v / λ`.
    max_growth: a set whose `‖u‖` exceeds `max_growth · ‖v‖` falls back to
      `u = v`. Raise it where `A` has eigenvalues below its inverse by right,
      for example a regulariser below `N·D / 1000`.
  """

  ridge: float = 0.0
  max_growth: float = 1000.0

  @abc.abstractmethod
  def solver(
    self, matvec: linear_solve.Matvec, b: jax.Array
  ) -> linear_solve.Solution:
    """Solves one system per set; `solve` adds the ridge and the fall back."""

  def solve(self, matvec, b):
    return linear_solve.solve(
      self.solver, matvec, b, ridge=self.ridge, max_growth=self.max_growth
    )


@dataclasses.dataclass(frozen=True)
class Neumann(SolvingMode):
  """`u = s Σ_{i=0}^{terms} (I - s Aᵀ)^i v`; `Neumann(0)` is `JacobianFree`.

  As `terms` grows, the series converges to the exact `u` if every eigenvalue
  of `I - s A` is less than 1 in magnitude; without a projection that is
  `0 < s h < 2` for every eigenvalue `h` of `H`. Convergence is slow where
  `s h` is small. Otherwise it diverges: a set whose last term is longer than
  its first falls back. Large eigenvalues need a smaller `scale`, for example
  1 over the largest; a direction of negative curvature diverges with any.

  Attributes:
    terms: number of products with `Aᵀ`.
    scale: s; a keyword.
  """

  terms: int = 5
  scale: float = dataclasses.field(default=1.0, kw_only=True)

  def solver(self, matvec, b):
    return linear_solve.neumann(matvec, b, self.terms, self.scale)


@dataclasses.dataclass(frozen=True)
class RegularizedConjugateGradient(SolvingMode):
  """Conjugate gradient on `(H/γ + I) u = v` (Section 3, Appendix D).

  γ is itself a ridge, `(H + γI) u = γ v`: the gradient is bounded by that of
  `JacobianFree`, which it approaches where γ exceeds H's eigenvalues. It is
  never exact. With `ridge`, `H + ridge I` stands for `H`.

  Attributes:
    gamma: γ; large values approach `JacobianFree`.
    iterations: steps, each one Hessian-vector product.
  """

  gamma: float = 100.0
  iterations: int = 3
  general = False

  def solver(self, matvec, b):
    return linear_solve.conjugate_gradient(
      matvec, b, self.iterations, gamma=self.gamma
    )


@dataclasses.dataclass(frozen=True)
class ConjugateGradient(SolvingMode):
  """Conjugate gradient on `H u = v`; needs a positive definite Hessian.

  Exact where it reaches the tolerance; fewer iterations give an approximation
  and no fall back.

  Attributes:
    iterations: most steps.
    tolerance: relative residual at which a set stops.
  """

  iterations: int = 20
  tolerance: float = 1e-6
  general = False

  def solver(self, matvec, b):
    return linear_solve.conjugate_gradient(
      matvec, b, self.iterations, self.tolerance
    )


@dataclasses.dataclass(frozen=True)
class NormalConjugateGradient(SolvingMode):
  """Conjugate gradient on the normal equations `A Aᵀ u = A v`.

  Exact where it reaches the tolerance and `A` is nonsingular; on a singular
  system it approaches the least-squares solution, without a fall back.

  Attributes:
    iterations: most steps, two products each.
    tolerance: relative residual at which a set stops.
  """

  iterations: int = 20
  tolerance: float = 1e-6

  def solver(self, matvec, b):
    return linear_solve.normal_conjugate_gradient(
      matvec, b, self.iterations, self.tolerance
    )


@dataclasses.dataclass(frozen=True)
class GMRES(SolvingMode):
  """Generalised minimal residuals, for any invertible system.

  Exact where it reaches the tolerance; fewer iterations give an approximation
  and no fall back, unless the residual stagnates.

  Attributes:
    iterations: most restarts.
    restart: size of the Krylov space between restarts.
    tolerance: relative residual at which a set stops.
  """

  iterations: int = 5
  restart: int = 20
  tolerance: float = 1e-6

  def solver(self, matvec, b):
    return linear_solve.gmres(
      matvec, b, self.iterations, self.restart, self.tolerance
    )


@dataclasses.dataclass(frozen=True)
class Dense(SolvingMode):
  """Builds each set's `N·D × N·D` system and solves it directly, by LU.

  Exact to rounding errors where the system is nonsingular; sets with a
  singular one fall back.
  """

  def solver(self, matvec, b):
    return linear_solve.dense(matvec, b)


@dataclasses.dataclass(frozen=True)
class Unrolled(_Checked):
  """Back-propagation through all steps: DSPN.

  The gradient of what the loop computes after T steps, converged or not. It
  supports forward mode too. Reverse mode cannot follow the loops inside the
  steps of `BacktrackingLineSearch`, `ProjectedGradient` and L-BFGS: give those
  an implicit mode.

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
