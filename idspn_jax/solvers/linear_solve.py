"""Linear systems `A u = b` of the implicit backward pass, one per set.

`A` is block diagonal: one block per set of the batch, known only through its
product with a batch of vectors, `(B, N, D)` to `(B, N, D)`. Each solver
returns a `Solution`: the vectors `u` and which sets failed. `solve` is what
the gradient modes call: it adds the ridge and puts `u = b` where a set failed.

Solvers other than the Neumann series are differentiated as solutions of their
systems, by `jax.lax.custom_linear_solve`, in every order.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from idspn_jax.ops import varying
from idspn_jax.solvers import krylov

Matvec = krylov.Matvec
Solution = krylov.Solution
Solver = Callable[[Matvec, jax.Array], Solution]


def _none_failed(b):
  return jnp.isnan(b).any(axis=(-2, -1)) & False


def _rows(x):
  return x[:, None, None]


def _set_norm(x):
  """L2 norm of every set, without overflow or underflow of the squares."""
  largest = jnp.max(jnp.abs(x), axis=(-2, -1))
  scale = jnp.where(largest > 0, largest, 1.0)
  return scale * jnp.sqrt(jnp.sum(jnp.square(x / _rows(scale)), axis=(-2, -1)))


def solve(
  solver: Solver,
  matvec: Matvec,
  b: jax.Array,
  *,
  ridge: float = 0.0,
  max_growth: float = 1e3,
) -> Solution:
  """Solves `(A + ridge I) u = b`; sets whose solve fails get `u = b`.

  A set's solve fails where the solver says so, where `u` is not finite, and
  where `‖u‖ > max_growth ‖b‖`. Sets with `b = 0` get `u = 0` and never fail.
  Whatever happens to a set leaves the others' `u` unchanged to the bit.

  Args:
    solver: `(matvec, b)` to a `Solution`.
    matvec: product with `A`.
    b: right-hand sides, `(B, N, D)`. Below 32 bits, all but the products with
      `A` is computed in float32.
    ridge: λ, added to the diagonal.
    max_growth: largest `‖u‖ / ‖b‖`.

  Returns:
    A `Solution` whose `u` is right to use for every set.
  """
  dtype = b.dtype
  precise = jnp.promote_types(dtype, jnp.float32)

  def ridged(u):
    product = matvec(u.astype(dtype)).astype(precise)
    return product + ridge * u if ridge else product

  b = b.astype(precise)
  u, failed = solver(ridged, b)
  size = _set_norm(jax.lax.stop_gradient(u))
  limit = max_growth * _set_norm(jax.lax.stop_gradient(b))
  # Not finite or too large; NaN compares as false.
  failed = failed | ~(jnp.isfinite(size) & (size <= limit))
  zero = jnp.all(b == 0, axis=(-2, -1))
  u = jnp.where(_rows(zero), 0.0, jnp.where(_rows(failed), b, u))
  return Solution(u.astype(dtype), failed & ~zero)


def _differentiable(solver, matvec, b, symmetric=False):
  """Runs a solver; derivatives solve the same system again, or its transpose.

  Where the solver fails, the solution is set to zero, so that no NaN enters
  the derivatives of the other sets.
  """

  def attempt(matvec, b):
    u, failed = solver(matvec, b)
    return jnp.where(_rows(failed), 0.0, u), failed

  u, failed = jax.lax.custom_linear_solve(
    matvec, b, attempt, attempt, symmetric=symmetric, has_aux=True
  )
  return Solution(u, failed)


def identity(matvec: Matvec, b: jax.Array) -> Solution:
  """`u = b`: the limit γ → ∞ of the paper (Equation 9); never fails."""
  del matvec
  return Solution(b, _none_failed(b))


def neumann(
  matvec: Matvec, b: jax.Array, terms: int, scale: float = 1.0
) -> Solution:
  """`u = s Σ_{i=0}^{terms} (I - s A)^i b`; no terms and s = 1 give `identity`.

  A set's solve fails where its last term is longer than its first: then the
  series diverges, or grows before it converges.

  Args:
    matvec: product with `A`.
    b: right-hand sides, `(B, N, D)`.
    terms: number of products with `A`.
    scale: s.

  Returns:
    A `Solution`.
  """
  first = b if scale == 1 else scale * b

  def add_term(_, carry):
    total, term = carry
    product = matvec(term)
    term = term - (product if scale == 1 else scale * product)
    return total + term, term

  total, last = jax.lax.fori_loop(0, terms, add_term, (first, first))
  first, last = jax.lax.stop_gradient((first, last))
  return Solution(total, ~(_set_norm(last) <= _set_norm(first)))


def conjugate_gradient(
  matvec: Matvec,
  b: jax.Array,
  iterations: int,
  tolerance: float = 0.0,
  gamma: float | None = None,
) -> Solution:
  """Conjugate gradient from `u = b`, for symmetric positive definite blocks.

  Args:
    matvec: product with `A`.
    b: right-hand sides, `(B, N, D)`.
    iterations: most steps to take.
    tolerance: a set stops once `‖b - A u‖ ≤ tolerance ‖b‖`.
    gamma: if given, solves `(A/γ + I) u = b` instead (Section 3).

  Returns:
    A `Solution`; `krylov.conjugate_gradient` says what fails.
  """

  def regularized(u):
    return matvec(u) if gamma is None else matvec(u) / gamma + u

  def solver(matvec, b):
    return krylov.conjugate_gradient(matvec, b, b, iterations, tolerance)

  return _differentiable(solver, regularized, b, symmetric=True)


def normal_conjugate_gradient(
  matvec: Matvec, b: jax.Array, iterations: int, tolerance: float = 0.0
) -> Solution:
  """Conjugate gradient on `Aᵀ A u = Aᵀ b` from `u = 0`, for any blocks.

  On a singular block it approaches the least-squares solution, which is not a
  failure unless `Aᵀ b = 0`.

  Args:
    matvec: product with `A`.
    b: right-hand sides, `(B, N, D)`.
    iterations: most steps, two products each.
    tolerance: a set stops once `‖Aᵀ (b - A u)‖ ≤ tolerance ‖Aᵀ b‖`.

  Returns:
    A `Solution`; `krylov.conjugate_gradient` says what fails.
  """
  transpose = jax.linear_transpose(matvec, b)

  def rmatvec(u):
    return transpose(u)[0]

  def normal(u):
    return rmatvec(matvec(u))

  def solver(matvec, b):
    start = varying.vary_like(jnp.zeros_like(b), b)
    return krylov.conjugate_gradient(matvec, b, start, iterations, tolerance)

  right = rmatvec(b)
  u, failed = _differentiable(solver, normal, right, symmetric=True)
  return Solution(u, failed | jnp.all(right == 0, axis=(-2, -1)))


def gmres(
  matvec: Matvec,
  b: jax.Array,
  iterations: int,
  restart: int = 20,
  tolerance: float = 1e-5,
) -> Solution:
  """GMRES with restarts from `u = 0`, for any invertible blocks.

  Args:
    matvec: product with `A`.
    b: right-hand sides, `(B, N, D)`.
    iterations: most restarts.
    restart: size of the Krylov space between restarts.
    tolerance: a set stops once `‖b - A u‖ ≤ tolerance ‖b‖`.

  Returns:
    A `Solution`; `krylov.gmres` says what fails.
  """

  def solver(matvec, b):
    return krylov.gmres(matvec, b, iterations, restart, tolerance)

  return _differentiable(solver, matvec, b)


def blocks(matvec: Matvec, b: jax.Array) -> jax.Array:
  """Every set's block of `A`, `(B, N·D, N·D)`.

  Args:
    matvec: product with `A`.
    b: any array of the vectors' shape and type, `(B, N, D)`.
  """
  batch, n, d = b.shape
  unit = jnp.eye(n * d, dtype=b.dtype).reshape(n * d, 1, n, d)
  basis = unit * jnp.ones_like(b)[None]
  columns = jax.lax.map(matvec, varying.vary_like(basis, b))
  return jnp.moveaxis(columns.reshape(n * d, batch, n * d), 0, -1)


def dense(matvec: Matvec, b: jax.Array) -> Solution:
  """Builds every block, `(B, N·D, N·D)`, and solves it directly by LU.

  A set's solve fails where its block is singular to working precision (the
  smallest pivot is at most `N D ε` times the largest, ε being the machine
  epsilon) or where `‖A u - b‖ > 0.01 ‖b‖`.

  Args:
    matvec: product with `A`.
    b: right-hand sides, `(B, N, D)`.

  Returns:
    A `Solution`.
  """

  def solver(matvec, b):
    a = blocks(matvec, b)
    right = b.reshape(b.shape[0], -1)
    size = right.shape[-1]
    lu, pivots, _ = jax.lax.linalg.lu(a)
    diagonal = jnp.abs(jnp.diagonal(lu, axis1=-2, axis2=-1))
    bound = size * jnp.finfo(b.dtype).eps * jnp.max(diagonal, axis=-1)
    singular = jnp.min(diagonal, axis=-1) <= bound

    @jax.vmap
    def substitute(lu, pivots, right, singular):
      lu = jnp.where(singular, jnp.eye(size, dtype=lu.dtype), lu)
      return jax.scipy.linalg.lu_solve((lu, pivots), right)

    u = substitute(lu, pivots, right, singular)
    product = jnp.einsum(
      'bij,bj->bi', a, u, precision=jax.lax.Precision.HIGHEST
    )
    residual = jnp.linalg.norm(product - right, axis=-1)
    exact = residual <= krylov.UNSOLVED * jnp.linalg.norm(right, axis=-1)
    return Solution(u.reshape(b.shape), singular | ~exact)

  return _differentiable(solver, matvec, b)
