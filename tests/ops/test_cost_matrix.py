"""Pairwise costs, each checked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from idspn_jax.ops import cost_matrix

COSTS = (
  cost_matrix.smooth_l1_cost,
  cost_matrix.squared_cost,
  cost_matrix.l2_cost,
  cost_matrix.cross_entropy_cost,
)


def test_smooth_l1_is_quadratic_inside_and_linear_outside():
  d = jnp.array([0.0, 0.5, -0.5, 1.0, -3.0])
  np.testing.assert_allclose(
    cost_matrix.smooth_l1(d), [0.0, 0.125, 0.125, 0.5, 2.5]
  )
  # With β = 2: 0.25 / 4, ..., 3 - 1.
  np.testing.assert_allclose(
    cost_matrix.smooth_l1(d, 2.0), [0.0, 0.0625, 0.0625, 0.25, 2.0]
  )
  slope = jax.vmap(jax.grad(cost_matrix.smooth_l1))(d)
  np.testing.assert_allclose(slope, [0.0, 0.5, -0.5, 1.0, -1.0])


def test_costs_by_hand():
  a = jnp.array([[0.0, 0.0], [3.0, 0.5]])
  b = jnp.array([[3.0, 4.0]])
  np.testing.assert_allclose(
    cost_matrix.smooth_l1_cost(a, b), [[(2.5 + 3.5) / 2], [3.0 / 2]]
  )
  np.testing.assert_allclose(
    cost_matrix.squared_cost(a, b), [[25 / 2], [3.5**2 / 2]]
  )
  np.testing.assert_allclose(cost_matrix.l2_cost(a, b), [[5.0], [3.5]])


def test_l2_at_distance_zero_has_gradient_zero(debug_nans):
  a = jnp.array([[1.0, 2.0], [0.0, 0.0]])
  cost, pull = jax.vjp(cost_matrix.l2_cost, a, a)
  np.testing.assert_allclose(jnp.diagonal(cost), 0.0)
  da, db = pull(jnp.eye(2))
  np.testing.assert_array_equal(da, 0.0)
  np.testing.assert_array_equal(db, 0.0)


def test_l2_at_distance_zero_has_second_derivatives_zero(debug_nans):
  a = jnp.array([[1.0, 2.0]])
  hessian = jax.hessian(lambda x: cost_matrix.l2_cost(x, a)[0, 0])(a)
  np.testing.assert_array_equal(hessian, 0.0)


def test_l2_keeps_nan():
  a = jnp.array([[jnp.nan, 0.0]])
  assert np.isnan(cost_matrix.l2_cost(a, jnp.zeros((1, 2)))[0, 0])


def test_cross_entropy_equals_optax(rng):
  logits = jnp.asarray(rng.normal(size=(2, 3, 5)).astype(np.float32))
  labels = jnp.asarray([[0, 4], [2, 2]])
  target = jax.nn.one_hot(labels, 5)
  cost = cost_matrix.cross_entropy_cost(logits, target)
  assert cost.shape == (2, 3, 2)
  for n in range(3):
    for m in range(2):
      np.testing.assert_allclose(
        cost[:, n, m],
        optax.softmax_cross_entropy(logits[:, n], target[:, m]),
        rtol=1e-5,
      )


@pytest.mark.parametrize('cost', COSTS)
@pytest.mark.parametrize('batch', ((), (2,), (2, 3)))
def test_leading_axes_are_batch_axes(rng, cost, batch):
  a = rng.normal(size=(*batch, 3, 4)).astype(np.float32)
  b = rng.normal(size=(*batch, 2, 4)).astype(np.float32)
  out = cost(jnp.asarray(a), jnp.asarray(b))
  assert out.shape == (*batch, 3, 2)
  pair = cost(jnp.asarray(a[..., 1:2, :]), jnp.asarray(b[..., :1, :]))
  np.testing.assert_allclose(out[..., 1:2, :1], pair, rtol=1e-5)


@pytest.mark.parametrize('cost', COSTS)
@pytest.mark.parametrize('b', ((2, 3, 5), (3, 3, 4), (3, 4)))
def test_sets_that_do_not_fit_are_refused(cost, b):
  with pytest.raises(ValueError, match='equal batch and D'):
    cost(jnp.zeros((2, 3, 4)), jnp.zeros(b))
