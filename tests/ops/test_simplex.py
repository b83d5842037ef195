"""Projection onto the simplex: values, Jacobian, groups."""

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from idspn_jax.ops import simplex


def jacobian_by_formula(y):
  """`diag(s) - s sᵀ / |s|` with s the support of the projection."""
  s = (np.asarray(y) > 0).astype(float)
  return np.diag(s) - np.outer(s, s) / np.sum(s)


def test_by_hand():
  x = jnp.array([[0.2, 0.3, 0.5], [2.0, 0.0, 0.0], [1.0, 1.0, -5.0]])
  expected = [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
  np.testing.assert_allclose(simplex.project_simplex(x), expected, atol=1e-6)


@pytest.mark.parametrize('n,radius', ((1, 0.3), (2, 1.0), (5, 7.0), (40, 1.0)))
def test_equals_optax(rng, dtype, tolerance, n, radius, allow_rank_promotion):
  scales = np.array([0.1, 1.0, 10.0, 100.0])[:, None]
  x = (rng.normal(size=(4, n)) * scales).astype(dtype)
  ours = jax.jit(lambda x: simplex.project_simplex(x, radius=radius))(x)
  theirs = jax.jit(
    jax.vmap(lambda x: optax.projections.projection_simplex(x, radius))
  )(x)
  assert ours.dtype == dtype
  np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=5 * tolerance)
  np.testing.assert_allclose(np.sum(ours, -1), radius, rtol=n * tolerance)
  assert np.all(np.asarray(ours) >= 0)


@pytest.mark.parametrize('axis', (0, 1, 2, -2))
def test_axis_is_the_one_that_sums_to_the_radius(rng, axis):
  x = jnp.asarray(rng.normal(size=(2, 3, 4)).astype(np.float32))
  y = simplex.project_simplex(x, axis=axis)
  assert y.shape == x.shape
  np.testing.assert_allclose(np.sum(y, axis=axis), 1.0, rtol=1e-5)
  moved = simplex.project_simplex(jnp.moveaxis(x, axis, -1))
  np.testing.assert_array_equal(jnp.moveaxis(y, axis, -1), moved)


def test_projection_is_idempotent(rng, x64):
  project = jax.jit(simplex.project_simplex)
  once = project(5.0 * rng.normal(size=(6, 8)))
  np.testing.assert_allclose(project(once), once, rtol=1e-13, atol=1e-15)


def test_a_single_feature_is_the_radius():
  x = jnp.array([[-3.0], [0.0], [8.0]])
  np.testing.assert_array_equal(simplex.project_simplex(x), 1.0)


@pytest.mark.parametrize('shift', (1e4, -1e4, 1e8, -1e8, 1e30))
def test_huge_values_lose_no_mass(shift):
  x = jnp.array([shift, shift, shift * 0.5 if shift > 0 else shift * 2])
  np.testing.assert_allclose(
    simplex.project_simplex(x), [0.5, 0.5, 0.0], atol=1e-6
  )


def test_a_row_of_nan_poisons_no_other_row():
  x = jnp.array([[0.1, jnp.nan, 0.2], [0.0, 0.0, 3.0]])
  y = np.asarray(simplex.project_simplex(x))
  assert np.all(np.isnan(y[0]))
  np.testing.assert_array_equal(y[1], [0.0, 0.0, 1.0])


def test_jacobian_equals_formula_and_finite_differences(rng, x64):
  project = jax.jit(simplex.project_simplex)
  forward = jax.jit(jax.jacfwd(simplex.project_simplex))
  backward = jax.jit(jax.jacrev(simplex.project_simplex))
  for scale in (0.1, 1.0, 3.0):
    x = scale * rng.normal(size=6)
    expected = jacobian_by_formula(project(x))
    np.testing.assert_allclose(forward(x), expected, atol=1e-14)
    np.testing.assert_allclose(backward(x), expected, atol=1e-14)
    eps = 1e-6 * np.eye(6)
    differences = (project(x + eps) - project(x - eps)) / 2e-6
    np.testing.assert_allclose(differences, expected, atol=1e-8)


def test_derivatives_of_second_order(rng, x64):
  x = rng.normal(size=(2, 5))

  def f(x):
    return jnp.sum(jnp.sin(simplex.project_simplex(3.0 * x)))

  test_util.check_grads(jax.jit(f), (x,), order=2, rtol=1e-5, eps=1e-5)


def test_vmap_equals_batch(rng, x64):
  x = rng.normal(size=(3, 4, 5))
  batch = jax.jit(simplex.project_simplex)(x)
  for axis in (0, 1, 2):
    mapped = jax.jit(
      jax.vmap(
        lambda row: simplex.project_simplex(row),
        in_axes=axis if axis < 2 else 0,
        out_axes=axis if axis < 2 else 0,
      )
    )(x)
    np.testing.assert_allclose(mapped, batch, rtol=1e-13, atol=1e-15)


def test_groups_are_projected_apart_and_the_rest_is_left(rng):
  x = jnp.asarray(rng.normal(size=(2, 3, 9)).astype(np.float32))
  y = simplex.project_simplex_groups(x, ((5, 8), (1, 3)))
  np.testing.assert_array_equal(
    y[..., 1:3], simplex.project_simplex(x[..., 1:3])
  )
  np.testing.assert_array_equal(
    y[..., 5:8], simplex.project_simplex(x[..., 5:8])
  )
  rest = np.array([0, 3, 4, 8])
  np.testing.assert_array_equal(y[..., rest], x[..., rest])
  np.testing.assert_array_equal(simplex.project_simplex_groups(x, ()), x)


@pytest.mark.parametrize(
  'groups', (((0, 3), (2, 4)), ((2, 2),), ((3, 1),), ((-1, 2),), ((0, 6),))
)
def test_groups_that_do_not_fit_are_refused(groups):
  with pytest.raises(ValueError, match=r'disjoint ranges within \[0, 5\]'):
    simplex.project_simplex_groups(jnp.zeros((2, 5)), groups)


class TestStraightThrough:
  @pytest.mark.parametrize('axis,radius', ((-1, 1.0), (0, 1.0), (1, 0.3)))
  def test_values_are_the_projection(self, rng, dtype, axis, radius):
    x = jnp.asarray(3.0 * rng.normal(size=(4, 5, 6)), dtype)
    y = simplex.project_simplex_straight_through(x, axis, radius)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, simplex.project_simplex(x, axis, radius))

  def test_half_precision(self):
    x = jnp.array([[1.0, -2.0, 0.5]], jnp.bfloat16)
    y, pullback = jax.vjp(simplex.project_simplex_straight_through, x)
    np.testing.assert_array_equal(y, simplex.project_simplex(x))
    (cotangent,) = pullback(jnp.ones_like(y).at[0, 0].set(4.0))
    assert cotangent.dtype == jnp.bfloat16
    np.testing.assert_array_equal(cotangent, [[2.0, -1.0, -1.0]])

  def test_the_derivative_is_that_of_the_plane(self, rng, x64):
    project = simplex.project_simplex_straight_through
    x = np.concatenate([rng.normal(size=5), [9.0]])  # A vertex.
    expected = np.eye(6) - 1 / 6
    np.testing.assert_array_equal(jax.jacrev(simplex.project_simplex)(x), 0.0)
    for jacobian in (jax.jacfwd, jax.jacrev):
      found = jax.jit(jacobian(project))(x)
      np.testing.assert_allclose(found, expected, atol=1e-15)
      rows = jax.vmap(jacobian(project))(np.stack([x, -x]))
      np.testing.assert_allclose(rows[1], expected, atol=1e-15)

  def test_wrong_settings_are_refused(self):
    with pytest.raises(ValueError, match='positive radius'):
      simplex.project_simplex_straight_through(jnp.zeros(3), radius=0.0)
    with pytest.raises(ValueError, match='axis 2 does not exist'):
      simplex.project_simplex_straight_through(jnp.zeros((2, 3)), axis=2)


def test_wrong_settings_are_refused():
  with pytest.raises(ValueError, match='positive radius'):
    simplex.project_simplex(jnp.zeros(3), radius=0.0)
  with pytest.raises(ValueError, match='axis 2 does not exist'):
    simplex.project_simplex(jnp.zeros((2, 3)), axis=2)
  with pytest.raises(ValueError, match='does not exist'):
    simplex.project_simplex(jnp.zeros(()))
