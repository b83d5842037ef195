"""Linear systems `A u = b` of the implicit backward pass, one per set.

`A` is block diagonal: one block per set of the batch, known only through its
product with a batch of vectors. Each solver has the signature that jaxopt's
`custom_root` asks for, `solve(matvec, b)`, with `b` of shape `(B, N, D)`.
Inner products, step sizes and stopping belong to each set alone.
"""

from collections.abc import Callable

import jax
from jax.extend import core
from jax.interpreters import ad
from jax.interpreters import batching
import jax.numpy as jnp
from jaxopt import linear_solve

Matvec = Callable[[jax.Array], jax.Array]
Solve = Callable[[Matvec, jax.Array], jax.Array]


def identity(matvec: Matvec, b: jax.Array) -> jax.Array:
  """`u = b`: the limit γ → ∞ of the paper (Equation 9)."""
  del matvec
  return b


def neumann(matvec: Matvec, b: jax.Array, terms: int) -> jax.Array:
  """`u = Σ_{i=0}^{terms} (I - A)^i b`; no terms give `identity`."""

  def add_term(_, carry):
    total, term = carry
    term = term - matvec(term)
    return total + term, term

  return jax.lax.fori_loop(0, terms, add_term, (b, b))[0]


# The product with the block of one set. It exists under `vmap` over sets only,
# where its batching rule is the product with all blocks at once. Operands: the
# set's index (so that it is always batched), the vector, and the arrays that
# the products in `jaxprs` (with `A`, with `Aᵀ`) close over.
_block_p = core.Primitive('idspn_block_product')


def _block_batch(args, dims, *, jaxprs, counts):
  (index, u, *arrays), u_dim = args, dims[1]
  if u_dim is None:
    u = jnp.broadcast_to(u[None], (index.shape[0], *u.shape))
  else:
    u = jnp.moveaxis(u, u_dim, 0)
  arrays = arrays[: counts[0]]
  return jax.core.eval_jaxpr(jaxprs[0], arrays, u)[0], 0


def _block_transpose(cotangent, index, u, *arrays, jaxprs, counts):
  del u  # The product is linear in it.
  swapped = (*arrays[counts[0] :], *arrays[: counts[0]])
  out = _block_p.bind(
    index, cotangent, *swapped, jaxprs=jaxprs[::-1], counts=counts[::-1]
  )
  return (None, out, *(None for _ in arrays))


_block_p.def_abstract_eval(lambda index, u, *arrays, **kwargs: u)
batching.primitive_batchers[_block_p] = _block_batch
ad.primitive_transposes[_block_p] = _block_transpose


def _vmapped(solve: Solve, matvec: Matvec, b: jax.Array) -> jax.Array:
  """Runs a solver for one system on every set, each with its own scalars."""
  forward = jax.make_jaxpr(matvec)(b)
  transpose = jax.linear_transpose(matvec, b)
  backward = jax.make_jaxpr(lambda u: transpose(u)[0])(b)

  def one(index, b):
    def block(u):
      return _block_p.bind(
        index,
        u,
        *forward.consts,
        *backward.consts,
        jaxprs=(forward.jaxpr, backward.jaxpr),
        counts=(len(forward.consts), len(backward.consts)),
      )

    return solve(block, b)

  return jax.vmap(one)(jnp.arange(b.shape[0]), b)


def conjugate_gradient(
  matvec: Matvec,
  b: jax.Array,
  iterations: int,
  tolerance: float = 0.0,
  gamma: float | None = None,
) -> jax.Array:
  """Conjugate gradient from `u = b`, for symmetric positive definite blocks.

  Args:
    matvec: product with `A`.
    b: right-hand sides, `(B, N, D)`.
    iterations: most steps to take.
    tolerance: a set stops once `‖b - A u‖ ≤ tolerance ‖b‖`.
    gamma: if given, solves `(A/γ + I) u = b` instead (Section 3).

  Returns:
    `u`, `(B, N, D)`.
  """

  def regularized(u):
    return matvec(u) if gamma is None else matvec(u) / gamma + u

  def solve(matvec, b):
    return linear_solve.solve_cg(
      matvec, b, init=b, maxiter=iterations, tol=tolerance
    )

  return _vmapped(solve, regularized, b)


def normal_conjugate_gradient(
  matvec: Matvec, b: jax.Array, iterations: int, tolerance: float = 0.0
) -> jax.Array:
  """Conjugate gradient on `Aᵀ A u = Aᵀ b`, for any invertible blocks."""
  transpose = jax.linear_transpose(matvec, b)

  def rmatvec(u):
    return transpose(u)[0]

  def normal(u):
    return rmatvec(matvec(u))

  def solve(matvec, b):
    return linear_solve.solve_cg(matvec, b, maxiter=iterations, tol=tolerance)

  return _vmapped(solve, normal, rmatvec(b))


def gmres(
  matvec: Matvec,
  b: jax.Array,
  iterations: int,
  restart: int = 20,
  tolerance: float = 1e-5,
) -> jax.Array:
  """GMRES with restarts, for any invertible blocks.

  Args:
    matvec: product with `A`.
    b: right-hand sides, `(B, N, D)`.
    iterations: most restarts.
    restart: size of the Krylov space between restarts.
    tolerance: a set stops once `‖b - A u‖ ≤ tolerance ‖b‖`.

  Returns:
    `u`, `(B, N, D)`.
  """

  def solve(matvec, b):
    return linear_solve.solve_gmres(
      matvec, b, tol=tolerance, restart=restart, maxiter=iterations
    )

  return _vmapped(solve, matvec, b)


def dense(matvec: Matvec, b: jax.Array) -> jax.Array:
  """Builds every block, `(B, N·D, N·D)`, and solves it exactly by LU."""
  batch, n, d = b.shape
  basis = jnp.eye(n * d, dtype=b.dtype).reshape(n * d, 1, n, d)
  basis = jnp.broadcast_to(basis, (n * d, batch, n, d))
  columns = jax.lax.map(matvec, basis).reshape(n * d, batch, n * d)
  blocks = jnp.moveaxis(columns, 0, -1)
  solution = jnp.linalg.solve(blocks, b.reshape(batch, n * d, 1))
  return solution.reshape(b.shape)
