"""Losses between sets: by hand, by brute force, and what must not matter."""

import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.losses import set_losses
from idspn_jax.ops import cost_matrix


@pytest.fixture(
  params=(
    set_losses.hungarian_loss,
    set_losses.chamfer_loss,
    set_losses.sinkhorn_loss,
  ),
  ids=('hungarian', 'chamfer', 'sinkhorn'),
)
def loss(request):
  if request.param is set_losses.sinkhorn_loss:
    # ott-jax mixes ranks itself.
    request.getfixturevalue('allow_rank_promotion')
  return request.param


def sets(rng, batch, n, m, d=2):
  shapes = (batch, n, d), (batch, m, d)
  return [rng.normal(size=s).astype(np.float32) for s in shapes]


def hungarian_by_brute_force(a, b):
  cost = np.asarray(cost_matrix.smooth_l1_cost(jnp.asarray(a), jnp.asarray(b)))
  n = len(cost)
  return min(
    np.mean(cost[np.arange(n), list(p)])
    for p in itertools.permutations(range(n))
  )


def test_hungarian_equals_brute_force(rng):
  a, b = sets(rng, 5, 4, 4)
  loss = jax.jit(set_losses.hungarian_loss)(a, b)
  assert loss.shape == (5,)
  expected = [
    hungarian_by_brute_force(*pair) for pair in zip(a, b, strict=True)
  ]
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_hungarian_averages_over_matched_elements():
  a = jnp.array([[[0.0], [10.0]]])
  b = jnp.array([[[11.0], [0.5], [99.0]]])
  # 0 with 0.5 costs 0.125, 10 with 11 costs 0.5; 99 stays alone.
  np.testing.assert_allclose(
    set_losses.hungarian_loss(a, b), [(0.125 + 0.5) / 2]
  )


def test_hungarian_takes_any_cost(rng):
  a, b = sets(rng, 2, 3, 3)
  loss = set_losses.hungarian_loss(
    jnp.asarray(a), jnp.asarray(b), cost=cost_matrix.l2_cost
  )
  expected = [
    min(
      np.mean(np.linalg.norm(x - y[list(p)], axis=-1))
      for p in itertools.permutations(range(3))
    )
    for x, y in zip(a, b, strict=True)
  ]
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_hungarian_gradient_pulls_matched_pairs_together():
  a = jnp.array([[[0.0], [3.0]]])
  b = jnp.array([[[2.5], [0.2]]])
  g = jax.grad(lambda a: jnp.sum(set_losses.hungarian_loss(a, b)))(a)
  np.testing.assert_allclose(g, [[[-0.1], [0.25]]], rtol=1e-5)


def test_chamfer_by_hand():
  a = jnp.array([[[0.0], [4.0]]])
  b = jnp.array([[[0.5], [1.0], [9.0]]])
  # Nearest costs: 0.125, 2.5 from the left; 0.125, 0.5, 4.5 from the right.
  np.testing.assert_allclose(
    set_losses.chamfer_loss(a, b),
    [(0.125 + 2.5) / 2 + (0.125 + 0.5 + 4.5) / 3],
    rtol=1e-6,
  )


def test_sinkhorn_tends_to_hungarian(rng, x64, allow_rank_promotion):
  a, b = (s.astype(np.float64) for s in sets(rng, 3, 4, 4))
  exact = set_losses.hungarian_loss(jnp.asarray(a), jnp.asarray(b))
  gaps = []
  for epsilon in (0.1, 0.001):
    value = jax.jit(
      lambda a, b, e=epsilon: set_losses.sinkhorn_loss(a, b, epsilon=e)
    )(a, b)
    gaps.append(np.max(np.abs(value - exact)))
  assert gaps[0] > gaps[1]
  assert gaps[1] < 1e-3


def test_losses_do_not_depend_on_order(rng, loss):
  a, b = sets(rng, 2, 4, 4)
  run = jax.jit(loss)
  value = run(a, b)
  np.testing.assert_allclose(
    run(a[:, [2, 0, 3, 1]], b[:, [3, 2, 1, 0]]), value, rtol=1e-4
  )
  assert np.all(np.asarray(value) > 0)


@pytest.mark.parametrize('garbage', (1e6, np.nan))
def test_padding_does_not_matter(rng, loss, garbage):
  a, b = sets(rng, 2, 4, 5)
  rows = np.array([[1, 0, 1, 1], [1, 1, 1, 1]], bool)
  columns = np.array([[0, 1, 1, 0, 1], [1, 1, 1, 1, 0]], bool)
  a[~rows], b[~columns] = garbage, garbage

  @jax.jit
  def value_and_gradients(a, b):
    def total(a, b):
      losses = loss(a, b, prediction_mask=rows, target_mask=columns)
      return jnp.sum(losses), losses

    gradients, losses = jax.grad(total, (0, 1), has_aux=True)(a, b)
    return losses, gradients

  losses, (da, db) = value_and_gradients(a, b)
  for i in range(2):
    alone = jax.jit(loss)(a[i : i + 1, rows[i]], b[i : i + 1, columns[i]])
    np.testing.assert_allclose(losses[i : i + 1], alone, rtol=2e-3)
  np.testing.assert_array_equal(np.asarray(da)[~rows], 0.0)
  np.testing.assert_array_equal(np.asarray(db)[~columns], 0.0)
  assert np.all(np.isfinite(da)) and np.all(np.isfinite(db))
  assert np.any(np.asarray(da)[rows] != 0)


def test_a_nan_poisons_its_own_set_only(rng, loss):
  a, b = sets(rng, 3, 3, 3)
  clean = jax.jit(loss)(a, b)
  a[1, 0, 0] = np.nan
  losses = np.asarray(jax.jit(loss)(a, b))
  np.testing.assert_array_equal(np.isnan(losses), [False, True, False])
  np.testing.assert_allclose(losses[[0, 2]], clean[np.array([0, 2])], rtol=1e-5)


def test_empty_sets_cost_nothing(rng):
  a, b = (jnp.asarray(s) for s in sets(rng, 2, 3, 3))
  nothing = jnp.zeros((2, 3), bool)
  for loss in (set_losses.hungarian_loss, set_losses.chamfer_loss):
    np.testing.assert_array_equal(loss(a, b, target_mask=nothing), 0.0)
    np.testing.assert_array_equal(loss(a[:, :0], b), 0.0)


def test_an_empty_set_leaves_sinkhorn_s_other_sets_finite(
  rng, allow_rank_promotion
):
  a, b = sets(rng, 2, 3, 3)
  mask = np.array([[True] * 3, [False] * 3])
  losses = jax.jit(
    lambda a, b: set_losses.sinkhorn_loss(a, b, target_mask=mask)
  )(a, b)
  assert np.isfinite(losses[0])


def test_sets_that_do_not_fit_are_refused(loss):
  with pytest.raises(ValueError, match='equal batch and D'):
    loss(jnp.zeros((2, 3, 2)), jnp.zeros((2, 3, 4)))


def test_ott_is_imported_without_a_warning():
  code = (
    'import numpy, idspn_jax; x = numpy.zeros((1, 2, 1), "float32"); '
    'print(idspn_jax.sinkhorn_loss(x, x))'
  )
  done = subprocess.run(
    [sys.executable, '-W', 'error', '-c', code],
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.stdout.strip() == '[0.]', done.stderr
