"""Linear solvers on random block systems, one block per set."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.solvers import linear_solve

B, N, D = 3, 2, 3
SIZE = N * D

CG = functools.partial(
  linear_solve.conjugate_gradient, iterations=60, tolerance=1e-13
)
NORMAL_CG = functools.partial(
  linear_solve.normal_conjugate_gradient, iterations=120, tolerance=1e-14
)
GMRES = functools.partial(
  linear_solve.gmres, iterations=20, restart=SIZE, tolerance=1e-12
)
NEUMANN = functools.partial(linear_solve.neumann, terms=600)
DENSE = linear_solve.dense

SYMMETRIC = {
  'cg': CG,
  'normal_cg': NORMAL_CG,
  'gmres': GMRES,
  'neumann': NEUMANN,
  'dense': DENSE,
}
GENERAL = {k: v for k, v in SYMMETRIC.items() if k not in ('cg', 'neumann')}
CASES = [('symmetric', k) for k in SYMMETRIC] + [
  ('general', k) for k in GENERAL
]


@pytest.fixture(autouse=True)
def in_float64(x64):
  pass


def blocks(rng, kind):
  """Well-conditioned blocks; symmetric ones have eigenvalues in (0, 2)."""
  a = rng.normal(size=(B, SIZE, SIZE))
  if kind == 'general':
    return a + 3.0 * np.sign(rng.normal(size=(B, 1, 1))) * np.eye(SIZE)
  q = np.linalg.qr(a)[0]
  values = rng.uniform(0.2, 1.8, size=(B, SIZE, 1))
  return np.swapaxes(q, 1, 2) @ (values * q)


def solve_blocks(solve, a, b):
  def matvec(u):
    flat = jnp.einsum('bij,bj->bi', a, u.reshape(b.shape[0], SIZE))
    return flat.reshape(b.shape)

  return solve(matvec, b)


def by_numpy(a, b):
  flat = np.asarray(b).reshape(len(a), SIZE, 1)
  return np.linalg.solve(np.asarray(a), flat).reshape(b.shape)


@pytest.mark.parametrize('kind,name', CASES)
def test_solution_equals_numpy_s(rng, kind, name):
  a, b = blocks(rng, kind), rng.normal(size=(B, N, D))
  u, failed = jax.jit(functools.partial(solve_blocks, SYMMETRIC[name]))(a, b)
  np.testing.assert_allclose(u, by_numpy(a, b), rtol=1e-8, atol=1e-9)
  assert not np.any(failed)


@pytest.mark.parametrize('name', SYMMETRIC)
def test_each_set_is_solved_alone(rng, name):
  """Neither the values nor the difficulty of other sets matter."""
  a, b = blocks(rng, 'symmetric'), rng.normal(size=(B, N, D))
  solve = jax.jit(functools.partial(solve_blocks, SYMMETRIC[name]))
  together = solve(a, b).u
  a[1] = np.diag(np.geomspace(1e-4, 1.9, SIZE))
  b[1] *= 1e6
  b[2] = np.nan
  disturbed = solve(a, b).u
  np.testing.assert_array_equal(disturbed[0], together[0])
  # A set in a batch of its own.
  alone = solve(a[:1], b[:1]).u
  np.testing.assert_allclose(alone[0], together[0], rtol=1e-12)


@pytest.mark.parametrize('name', ('cg', 'normal_cg', 'gmres', 'dense'))
def test_a_zero_right_hand_side_gives_zero(rng, name):
  a, b = blocks(rng, 'symmetric'), rng.normal(size=(B, N, D))
  b[1] = 0.0
  u, _ = jax.jit(functools.partial(solve_blocks, SYMMETRIC[name]))(a, b)
  np.testing.assert_allclose(u[1], 0.0, atol=1e-300)
  np.testing.assert_allclose(u[0], by_numpy(a, b)[0], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize('name', ('cg', 'dense'))
def test_eager_equals_jit(rng, name):
  a, b = blocks(rng, 'symmetric'), rng.normal(size=(B, N, D))
  solve = functools.partial(solve_blocks, SYMMETRIC[name])
  np.testing.assert_allclose(
    solve(jnp.asarray(a), jnp.asarray(b)).u,
    jax.jit(solve)(a, b).u,
    rtol=1e-11,
  )


@pytest.mark.parametrize('name', ('cg', 'normal_cg', 'gmres'))
def test_vmap_equals_a_python_loop(rng, name):
  a = np.stack([blocks(rng, 'symmetric') for _ in range(2)])
  b = rng.normal(size=(2, B, N, D))
  solve = functools.partial(solve_blocks, SYMMETRIC[name])
  u, failed = jax.jit(jax.vmap(solve))(a, b)
  assert not np.any(failed)
  for i in range(2):
    np.testing.assert_allclose(u[i], by_numpy(a[i], b[i]), rtol=1e-8, atol=1e-9)


def test_identity_returns_the_right_hand_side(rng):
  b = jnp.asarray(rng.normal(size=(B, N, D)))
  u, failed = linear_solve.identity(lambda u: 2.0 * u, b)
  assert u is b and not np.any(failed)


@pytest.mark.parametrize('terms', (0, 1, 2))
def test_neumann_by_hand(terms):
  # A = 0.5 I: the series is 1, 1 + 0.5, 1 + 0.5 + 0.25.
  u, failed = linear_solve.neumann(
    lambda u: 0.5 * u, jnp.ones((1, 1, 1)), terms
  )
  np.testing.assert_allclose(u, (1.0, 1.5, 1.75)[terms])
  assert not np.any(failed)


def test_regularized_cg_solves_the_regularized_system(rng):
  a, b = blocks(rng, 'symmetric'), rng.normal(size=(B, N, D))
  gamma = 2.5
  solve = functools.partial(
    linear_solve.conjugate_gradient, iterations=SIZE, gamma=gamma
  )
  u, _ = jax.jit(functools.partial(solve_blocks, solve))(a, b)
  expected = by_numpy(a / gamma + np.eye(SIZE), b)
  np.testing.assert_allclose(u, expected, rtol=1e-9, atol=1e-10)


def test_cg_takes_the_textbook_s_steps(rng):
  """Three iterations from `u = b`, with inner products of each set."""
  a, b = blocks(rng, 'symmetric'), rng.normal(size=(B, N, D))
  solve = functools.partial(linear_solve.conjugate_gradient, iterations=3)
  computed, _ = jax.jit(functools.partial(solve_blocks, solve))(a, b)
  for s in range(B):
    right = b[s].ravel()
    u = right.copy()
    r = right - a[s] @ u
    p = r.copy()
    for _ in range(3):
      step = (r @ r) / (p @ a[s] @ p)
      u = u + step * p
      new = r - step * a[s] @ p
      p = new + (new @ new) / (r @ r) * p
      r = new
    np.testing.assert_allclose(computed[s].ravel(), u, rtol=1e-10)
