"""Conjugate gradient and GMRES for a batch of linear systems, one per set.

`A` is block diagonal, one block per set, known through its product with a
batch of vectors `(B, N, D)`. The product is taken for all sets at once; inner
products, step sizes and stopping belong to each set alone. Loop carries are
computed from the right-hand side, so that inside `jax.shard_map` they vary
over the devices as the data do.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from idspn_jax.ops import varying

Matvec = Callable[[jax.Array], jax.Array]

# Relative residual above which a solve that should have converged counts as
# failed. Regular float32 systems with condition numbers up to 1,000 stay below.
UNSOLVED = 0.01
# GMRES stagnates if a restart leaves more than this share of the residual.
_STAGNATION = 0.9


class Solution(NamedTuple):
  """A batch of solutions.

  Attributes:
    u: solutions, `(B, N, D)`; unspecified where `failed`.
    failed: whether a set's solve failed, `(B,)` booleans.
  """

  u: jax.Array
  failed: jax.Array


class _ConjugateGradientState(NamedTuple):
  """Loop state; every field but `step` has one row per set."""

  step: jax.Array
  u: jax.Array
  residual: jax.Array
  direction: jax.Array
  square: jax.Array  # ‖residual‖²
  steepest: jax.Array  # Largest curvature |p·Ap| / p·p so far.
  active: jax.Array
  flat: jax.Array  # Met a direction with no curvature.
  indefinite: jax.Array  # Met a direction with negative curvature.


def _dot(x, y):
  return jnp.sum(x * y, axis=(-2, -1))


def _rows(x):
  return x[:, None, None]


def _cg_step(matvec, target, size, state):
  """One step of the sets that are still active; others keep what they have."""
  p = state.direction
  product = matvec(p)
  curvature, square = _dot(p, product), _dot(p, p)
  steepness = jnp.abs(curvature) / jnp.where(square > 0, square, 1.0)
  steepest = jnp.maximum(state.steepest, steepness)
  # Relative to the largest curvature, as numpy's matrix_rank has it. NaN
  # counts as no curvature.
  bound = size * jnp.finfo(p.dtype).eps * steepest * square
  curved = jnp.abs(curvature) > bound
  moves = state.active & curved
  length = state.square / jnp.where(curved, curvature, 1.0)
  residual = state.residual - _rows(length) * product
  new = _dot(residual, residual)
  ratio = new / jnp.where(moves, state.square, 1.0)

  def keep(new, old):
    return jnp.where(moves if new.ndim == 1 else _rows(moves), new, old)

  return _ConjugateGradientState(
    step=state.step + 1,
    u=keep(state.u + _rows(length) * p, state.u),
    residual=keep(residual, state.residual),
    direction=keep(residual + _rows(ratio) * p, p),
    square=keep(new, state.square),
    steepest=keep(steepest, state.steepest),
    active=moves & ~(new <= target),
    flat=state.flat | (state.active & ~curved),
    indefinite=state.indefinite | (moves & (curvature < 0)),
  )


def conjugate_gradient(
  matvec: Matvec,
  b: jax.Array,
  start: jax.Array,
  iterations: int,
  tolerance: float,
) -> Solution:
  """Conjugate gradient, for symmetric positive definite blocks.

  A set's solve fails where its residual is not finite; where it met a
  direction without curvature (a singular block), or took `2 N D` steps without
  reaching the tolerance, and its residual exceeds `0.01 ‖b‖`; or where it met
  negative curvature and its residual exceeds `‖b‖`, that of `u = 0`. Fewer
  steps than the tolerance needs are no failure.

  Args:
    matvec: product with `A`.
    b: right-hand sides, `(B, N, D)`.
    start: first approximation, `(B, N, D)`.
    iterations: most steps.
    tolerance: a set stops once `‖b - A u‖ ≤ tolerance ‖b‖`.

  Returns:
    A `Solution`.
  """
  size = b.shape[-2] * b.shape[-1]
  square_b = _dot(b, b)
  target = tolerance**2 * square_b
  residual = b - matvec(start)
  square = _dot(residual, residual)
  none = jnp.isnan(square) & False  # Varies over devices as the data do.
  state = _ConjugateGradientState(
    step=jnp.zeros((), jnp.int32),
    u=varying.vary_like(start, residual),
    residual=residual,
    direction=residual,
    square=square,
    steepest=varying.vary_like(jnp.zeros_like(square), square),
    active=~(square <= target),
    flat=none,
    indefinite=none,
  )
  state = jax.lax.while_loop(
    lambda s: (s.step < iterations) & jnp.any(s.active),
    lambda s: _cg_step(matvec, target, size, s),
    state,
  )
  unsolved = state.square > UNSOLVED**2 * square_b
  stopped = state.flat
  if iterations >= 2 * size:
    stopped |= state.active
  failed = ~jnp.isfinite(state.square) | (stopped & unsolved)
  failed |= state.indefinite & (state.square > square_b)
  return Solution(state.u, failed)


def _norm(x):
  return jnp.sqrt(jnp.sum(jnp.square(x), axis=-1))


def _combine(coefficients, vectors):
  return jnp.einsum(
    'bi,bik->bk', coefficients, vectors, precision=jax.lax.Precision.HIGHEST
  )


def _arnoldi(product, first, restart):
  """Orthonormal bases of the Krylov spaces and the Hessenberg matrices.

  Args:
    product: product with `A`, `(B, S)` to `(B, S)`.
    first: unit vectors, `(B, S)`.
    restart: m, the size of the spaces.

  Returns:
    `V`, `(B, m + 1, S)`, and `H`, `(B, m + 1, m)`, with `A V_m = V_{m+1} H`.
    Where a space is exhausted, further columns are zero.
  """
  size = first.shape[-1]
  # Products with unit vectors put a vector or a column in its place.
  rows = jnp.eye(restart + 1, dtype=first.dtype)
  columns = jnp.eye(restart, dtype=first.dtype)
  basis = rows[0][None, :, None] * first[:, None]
  hessenberg = basis[:, :, :1] * jnp.zeros((1, 1, restart), first.dtype)

  def extend(j, carry):
    basis, hessenberg, v = carry
    w = product(v)
    before = _norm(w)
    column = 0.0
    for _ in range(2):  # Once more, against rounding errors.
      overlap = jnp.einsum(
        'bik,bk->bi', basis, w, precision=jax.lax.Precision.HIGHEST
      )
      w = w - _combine(overlap, basis)
      column = column + overlap
    after = _norm(w)
    grows = after > 10 * size * jnp.finfo(w.dtype).eps * before
    v = w / jnp.where(grows, after, 1.0)[:, None]
    v = jnp.where(grows[:, None], v, 0.0)
    here = rows[j + 1][None]
    column = column + here * jnp.where(grows, after, 0.0)[:, None]
    basis = basis + here[:, :, None] * v[:, None]
    here = columns[j][None, None]
    return basis, hessenberg + here * column[:, :, None], v

  carry = (basis, hessenberg, first)
  basis, hessenberg, _ = jax.lax.fori_loop(0, restart, extend, carry)
  return basis, hessenberg


@jax.vmap
def _least_squares(hessenberg, norm):
  """Minimises `‖norm e_1 - H y‖`; directions that `H` lacks stay zero."""
  right = jnp.eye(hessenberg.shape[0], 1, dtype=hessenberg.dtype) * norm
  # Householder's R of [H, right]; below the diagonal are other numbers.
  raw, _ = jnp.linalg.qr(jnp.concatenate([hessenberg, right], 1), mode='raw')
  r, right = raw[:-1, :-1].T, raw[-1, :-1]
  diagonal = jnp.abs(jnp.diagonal(r))
  bound = diagonal.size * jnp.finfo(r.dtype).eps * jnp.max(diagonal)
  lacking = ~(diagonal > bound)
  right = jnp.where(lacking, 0.0, right)
  r = jnp.where(lacking[:, None], jnp.eye(diagonal.size, dtype=r.dtype), r)
  return jax.scipy.linalg.solve_triangular(r, right)


class _GmresState(NamedTuple):
  """Loop state; every field but `step` has one row per set."""

  step: jax.Array
  u: jax.Array  # Flattened, (B, S), as is the residual.
  residual: jax.Array
  norm: jax.Array  # ‖residual‖
  active: jax.Array
  stagnates: jax.Array


def gmres(
  matvec: Matvec,
  b: jax.Array,
  iterations: int,
  restart: int,
  tolerance: float,
) -> Solution:
  """Generalised minimal residuals with restarts, from `u = 0`.

  A set's solve fails where its residual is not finite; or where it is above
  the tolerance and exceeds `0.01 ‖b‖` though there were as many steps as
  unknowns, `N D`, or the last restart took less than a tenth off it. Fewer
  steps than the tolerance needs are no failure.

  Args:
    matvec: product with `A`.
    b: right-hand sides, `(B, N, D)`.
    iterations: most restarts.
    restart: size of the Krylov space between restarts.
    tolerance: a set stops once `‖b - A u‖ ≤ tolerance ‖b‖`.

  Returns:
    A `Solution`.
  """
  flat = b.reshape(b.shape[0], -1)
  size = flat.shape[-1]
  restart = min(restart, size)

  def product(v):
    return matvec(v.reshape(b.shape)).reshape(flat.shape)

  norm_b = _norm(flat)
  target = tolerance * norm_b

  def cycle(state):
    unit = state.residual / jnp.where(state.norm > 0, state.norm, 1.0)[:, None]
    basis, hessenberg = _arnoldi(product, unit, restart)
    y = _least_squares(hessenberg, state.norm)
    u = state.u + _combine(y, basis[:, :restart])
    residual = flat - product(u)
    norm = _norm(residual)
    better = state.active & (norm < state.norm)

    def keep(new, old):
      return jnp.where(better if new.ndim == 1 else better[:, None], new, old)

    slow = ~(norm <= _STAGNATION * state.norm) & (state.step > 0)
    return _GmresState(
      step=state.step + 1,
      u=keep(u, state.u),
      residual=keep(residual, state.residual),
      norm=keep(norm, state.norm),
      active=better & (norm > target),
      stagnates=jnp.where(state.active, slow, state.stagnates),
    )

  start = varying.vary_like(jnp.zeros_like(flat), flat)
  state = _GmresState(
    step=jnp.zeros((), jnp.int32),
    u=start,
    residual=flat,
    norm=norm_b,
    active=norm_b > target,
    stagnates=jnp.isnan(norm_b) & False,
  )
  state = jax.lax.while_loop(
    lambda s: (s.step < iterations) & jnp.any(s.active), cycle, state
  )
  failed = state.norm > UNSOLVED * norm_b
  if iterations * restart < size:
    failed &= state.stagnates
  failed = (failed & (state.norm > target)) | ~jnp.isfinite(state.norm)
  return Solution(state.u.reshape(b.shape), failed)
