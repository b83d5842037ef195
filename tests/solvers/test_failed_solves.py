"""Sets whose linear system cannot be solved, among sets whose can."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.solvers import gradients

N, D = 4, 3
SIZE = N * D

# With steps enough to solve, and with fewer.
EXACT = {
  'dense': gradients.Dense(),
  'cg': gradients.ConjugateGradient(40),
  'short cg': gradients.ConjugateGradient(9),
  'gmres': gradients.GMRES(),
  'restarted gmres': gradients.GMRES(4, 4),
}
MODES = {
  'neumann': gradients.Neumann(),
  'regularized_cg': gradients.RegularizedConjugateGradient(),
  'normal_cg': gradients.NormalConjugateGradient(),
  **EXACT,
}


def blocks(rng, ranks):
  """Symmetric float32 blocks with eigenvalues in [0.2, 1.8] or zero."""
  q = np.linalg.qr(rng.normal(size=(len(ranks), SIZE, SIZE)))[0]
  values = rng.uniform(0.2, 1.8, size=(len(ranks), SIZE))
  for row, rank in zip(values, ranks, strict=True):
    row[rank:] = 0.0
  blocks = (q * values[:, None]) @ np.swapaxes(q, 1, 2)
  return blocks.astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def solve(mode, a, b):
  def matvec(u):
    flat = jnp.einsum('bij,bj->bi', a, u.reshape(len(b), SIZE).astype(a.dtype))
    return flat.reshape(b.shape).astype(b.dtype)

  return mode.solve(matvec, b)


@pytest.mark.parametrize('name', MODES)
@pytest.mark.parametrize('damage', ('singular', 'zero', 'nan', 'huge'))
def test_a_failed_set_leaves_the_others_unchanged(rng, name, damage):
  a = blocks(rng, (SIZE, SIZE, SIZE))
  b = rng.normal(size=(3, N, D)).astype(np.float32)
  clean = solve(MODES[name], a, b)
  assert not np.any(clean.failed)
  a[1] = {
    'singular': blocks(rng, (SIZE // 2,))[0],
    'zero': np.zeros((SIZE, SIZE)),
    'nan': np.full((SIZE, SIZE), np.nan),
    'huge': 1e30 * a[1],
  }[damage]
  u, failed = solve(MODES[name], a, b)
  assert np.all(np.isfinite(u))
  assert not failed[0] and not failed[2]
  np.testing.assert_array_equal(u[::2], clean.u[::2])
  if failed[1]:
    np.testing.assert_array_equal(u[1], b[1])
  if damage == 'nan' or (name in EXACT and damage in ('singular', 'zero')):
    assert failed[1]


@pytest.mark.parametrize('name', MODES)
def test_zero_cotangents_give_zero_and_do_not_fail(rng, name):
  a = blocks(rng, (SIZE, 3, SIZE))
  a[2] = np.nan
  b = rng.normal(size=(3, N, D)).astype(np.float32)
  b[1:] = 0.0
  u, failed = solve(MODES[name], a, b)
  assert not np.any(failed)
  np.testing.assert_array_equal(u[1:], 0.0)
  assert np.any(u[0] != 0)


@pytest.mark.parametrize('name', ('cg', 'gmres', 'dense'))
def test_no_nan_appears_on_the_way(rng, name, debug_nans):
  a = blocks(rng, (SIZE, 3, 3))
  a[1] = 0.0
  b = jnp.asarray(rng.normal(size=(3, N, D)), jnp.float32).at[2].set(0.0)
  _, failed = solve.__wrapped__(EXACT[name], a, b)
  np.testing.assert_array_equal(failed, (False, True, False))


@pytest.mark.parametrize('name', ('dense', 'gmres', 'cg'))
@pytest.mark.parametrize('scale', (1e-3, 1e4))
def test_singular_blocks_of_any_scale_are_found(rng, name, scale):
  """Rounding errors hide them: LU's answer can be finite and of any size."""
  rank = SIZE - 1 if name == 'dense' else SIZE // 2
  a = scale * blocks(rng, (rank,) * 8)
  b = rng.normal(size=(8, N, D)).astype(np.float32)
  u, failed = solve(EXACT[name], a, b)
  assert np.all(failed)
  np.testing.assert_array_equal(u, b)


def test_dense_finds_singular_blocks_of_solvable_systems(rng):
  a = blocks(rng, (SIZE, 5))
  b = np.einsum('bij,bj->bi', a, rng.normal(size=(2, SIZE)))
  b = b.reshape(2, N, D).astype(np.float32)
  _, failed = solve(EXACT['dense'], a, b)
  np.testing.assert_array_equal(failed, (False, True))


@pytest.mark.parametrize('name', ('neumann', 'normal_cg', 'dense'))
def test_the_ridge_is_added_to_the_diagonal(rng, name):
  a = blocks(rng, (SIZE, SIZE // 2))
  b = rng.normal(size=(2, N, D)).astype(np.float32)
  ridged = type(MODES[name])(ridge=0.25)
  u, failed = solve(ridged, a, b)
  expected = solve(type(MODES[name])(), a + 0.25 * np.eye(SIZE, dtype='f'), b)
  np.testing.assert_allclose(u, expected.u, rtol=2e-4, atol=2e-4)
  assert not np.any(failed)


def test_answers_too_long_fall_back_and_the_limit_can_be_raised(rng):
  a = 5e-4 * np.eye(SIZE, dtype=np.float32)[None]
  b = rng.normal(size=(1, N, D)).astype(np.float32)
  u, failed = solve(gradients.Dense(), a, b)
  assert failed[0]
  np.testing.assert_array_equal(u, b)
  u, failed = solve(gradients.Dense(max_growth=1e4), a, b)
  assert not failed[0]
  np.testing.assert_allclose(u, 2000.0 * b, rtol=1e-5)


@pytest.mark.parametrize('iterations', (1, 3))
@pytest.mark.parametrize('mode', (gradients.ConjugateGradient, gradients.GMRES))
def test_too_few_iterations_are_no_failure(rng, mode, iterations):
  q = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0]
  a = ((q * np.geomspace(0.01, 1.0, SIZE)) @ q.T)[None].astype(np.float32)
  b = rng.normal(size=(1, N, D)).astype(np.float32)
  options = {'restart': 2} if mode is gradients.GMRES else {}
  u, failed = solve(mode(iterations, **options), a, b)
  assert not failed[0]
  residual = (a[0] @ np.ravel(u)).reshape(N, D) - b[0]
  assert np.linalg.norm(residual) > 1e-3 * np.linalg.norm(b)


def test_cg_on_an_indefinite_block_fails_where_it_is_worse_than_nothing():
  # b is chosen such that the first direction has hardly any curvature.
  values = np.array([3.0, -1.0, *np.ones(SIZE - 2)], np.float32)
  a = np.stack([np.diag(values), np.eye(SIZE, dtype=np.float32)])
  b = np.zeros((2, SIZE), np.float32)
  b[:, :2] = (1.0, 1.75)
  b = b.reshape(2, N, D)
  u, failed = solve(gradients.ConjugateGradient(1), a, b)
  np.testing.assert_array_equal(failed, (True, False))
  np.testing.assert_array_equal(u, b)


class TestNeumann:
  def test_diverges_where_an_eigenvalue_exceeds_two(self, rng):
    a = np.stack([np.diag(np.full(SIZE, h)) for h in (0.5, 2.1, -0.1)])
    b = rng.normal(size=(3, N, D)).astype(np.float32)
    u, failed = solve(gradients.Neumann(30), a.astype('f'), b)
    np.testing.assert_array_equal(failed, (False, True, True))
    np.testing.assert_array_equal(u[1:], b[1:])

  def test_a_scale_makes_it_converge(self, rng):
    a = 5.0 * blocks(rng, (SIZE, SIZE))
    b = rng.normal(size=(2, N, D)).astype(np.float32)
    assert np.all(solve(gradients.Neumann(300), a, b).failed)
    u, failed = solve(gradients.Neumann(300, scale=0.2), a, b)
    assert not np.any(failed)
    exact = np.linalg.solve(a, b.reshape(2, SIZE, 1)).reshape(b.shape)
    np.testing.assert_allclose(u, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  'name,dtype',
  [(name, 'bfloat16') for name in ('normal_cg', 'cg', 'gmres', 'dense')]
  + [('neumann', 'float16'), ('dense', 'float16')],
)
def test_low_precision_is_solved_in_float32(rng, name, dtype):
  a = blocks(rng, (SIZE, SIZE))
  b = jnp.asarray(rng.normal(size=(2, N, D)), dtype)
  u, failed = solve(MODES[name], a, b)
  assert u.dtype == dtype and not np.any(failed)
  expected = solve(MODES[name], a, b.astype('float32')).u
  error = np.linalg.norm(u.astype('float32') - expected)
  assert error < 0.1 * np.linalg.norm(expected)


def test_derivatives_of_a_batch_with_a_singular_block(rng):
  """Of second order in training: NaN of one set would reach all."""
  a = jnp.asarray(blocks(rng, (SIZE, 4)))
  b = jnp.asarray(rng.normal(size=(2, N, D)), jnp.float32)

  def value(mode, shift, b):
    eye = jnp.eye(SIZE, dtype=a.dtype)[None]
    u = solve(mode, a + shift * jnp.array([1.0, 0.0])[:, None, None] * eye, b).u
    return jnp.sum(jnp.square(u))

  for mode in (gradients.Dense(), gradients.GMRES()):
    by_shift, by_b = jax.jit(
      jax.grad(functools.partial(value, mode), argnums=(0, 1))
    )(0.0, b)
    # -2 uᵀ A⁻¹ u of the first set alone.
    exact = np.linalg.solve(np.asarray(a[0], np.float64), np.ravel(b[0]))
    expected = -2 * exact @ np.linalg.solve(np.asarray(a[0]), exact)
    np.testing.assert_allclose(by_shift, expected, rtol=1e-3)
    np.testing.assert_array_equal(by_b[1], 2 * b[1])


def test_norms_neither_overflow_nor_underflow():
  a = np.eye(SIZE, dtype=np.float32)[None] * np.ones((2, 1, 1), np.float32)
  b = np.ones((2, N, D), np.float32) * np.float32([1e25, 1e-25])[:, None, None]
  u, failed = solve(gradients.Dense(), a, b)
  assert not np.any(failed)
  np.testing.assert_allclose(u, b, rtol=1e-6)


@pytest.mark.parametrize(
  'name', ('neumann', 'cg', 'normal_cg', 'gmres', 'dense')
)
def test_solvers_run_in_shard_map(rng, name):
  """Loop carries have the type that the data have."""
  a = blocks(rng, (SIZE, 4))
  b = rng.normal(size=(2, N, D)).astype(np.float32)
  expected = solve(MODES[name], a, b)
  mesh, rows = jax.make_mesh((1,), ('data',)), jax.P('data')
  a, b = jax.device_put((a, b), jax.NamedSharding(mesh, rows))
  run = functools.partial(solve, MODES[name])
  run = jax.shard_map(run, mesh=mesh, in_specs=(rows, rows), out_specs=rows)
  computed = jax.jit(run)(a, b)
  np.testing.assert_allclose(computed.u, expected.u, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(computed.failed, expected.failed)
