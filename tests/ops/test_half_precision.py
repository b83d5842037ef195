"""bfloat16 and float16: as near as one rounding allows, in their own dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.losses import class_matching
from idspn_jax.losses import set_losses
from idspn_jax.ops import assignment
from idspn_jax.ops import clip
from idspn_jax.ops import cost_matrix
from idspn_jax.ops import fspool
from idspn_jax.ops import pooling
from idspn_jax.ops import simplex

LOSSES = {
  'hungarian': set_losses.hungarian_loss,
  'chamfer': set_losses.chamfer_loss,
  'sinkhorn': set_losses.sinkhorn_loss,
  'class matched': lambda a, b: class_matching.class_matched_loss(
    a, b, np.arange(6)[None].repeat(2, 0) // 3
  )[0],
}
COSTS = (
  cost_matrix.smooth_l1_cost,
  cost_matrix.squared_cost,
  cost_matrix.l2_cost,
  cost_matrix.cross_entropy_cost,
)
OF_ONE = {
  'sum': pooling.sum_pool,
  'mean': lambda x: pooling.mean_pool(x, jnp.ones(x.shape[:-1], bool)),
  'max': pooling.max_pool,
  'clip': lambda x: clip.clip_per_set(x, 0.5),
  'norm': clip.set_norm,
  'simplex': simplex.project_simplex,
  'simplex straight through': simplex.project_simplex_straight_through,
}
POOLS = (fspool.fspool, fspool.fspool_any_size, fspool.fspool_autodiff)


@pytest.fixture(params=('bfloat16', 'float16'))
def half(request):
  return jnp.dtype(request.param)


def check(run, *args):
  """Compares with float32 on the same rounded inputs."""
  exact = run(*(x.astype(jnp.float32) for x in args))
  out = run(*args)
  for x, y in zip(jax.tree.leaves(out), jax.tree.leaves(exact), strict=True):
    assert x.dtype == args[0].dtype
    bound = float(jnp.finfo(x.dtype).eps)
    largest = float(np.max(np.abs(y), initial=0.0))
    np.testing.assert_allclose(
      np.asarray(x, np.float32), y, rtol=bound, atol=0.1 * bound * largest
    )


def sets(rng, half, *shapes):
  return [jnp.asarray(rng.normal(size=s), half) for s in shapes]


def test_losses_and_their_gradients(rng, half, allow_rank_promotion):
  a, b = sets(rng, half, (2, 6, 3), (2, 6, 3))

  @jax.jit
  def run(a, b):
    return {
      name: (loss(a, b), jax.grad(lambda a, loss=loss: jnp.sum(loss(a, b)))(a))
      for name, loss in LOSSES.items()
    }

  check(run, a, b)


def test_costs_and_what_works_on_one_set(rng, half):
  a, b = sets(rng, half, (2, 6, 3), (2, 4, 3))

  @jax.jit
  def run(a, b):
    return [cost(a, b) for cost in COSTS], [f(a) for f in OF_ONE.values()]

  check(run, a, b)


@pytest.mark.parametrize('n', (6, 300))
def test_pools_with_weights(rng, half, n):
  # More elements than either precision can count one by one.
  x, w = sets(rng, half, (2, n, 3), (n, 3))
  check(jax.jit(lambda x, w: [pool(x, w) for pool in POOLS]), x, w)


def test_norms_of_large_float16_sets_do_not_overflow():
  x = jnp.full((1, 4, 4), 1000.0, jnp.float16)
  assert float(clip.set_norm(x)[0]) == 4000.0
  np.testing.assert_allclose(clip.clip_per_set(x, 1.0), 0.25, rtol=1e-3)


@pytest.mark.parametrize('method', ('auto', 'scipy', 'optax'))
def test_matching(rng, half, method):
  cost = jnp.asarray(rng.permutation(2 * 25).reshape(2, 5, 5), half)
  matching = assignment.match(cost, method=method)
  expected = assignment.match(cost.astype(jnp.float32), method='scipy')
  np.testing.assert_array_equal(matching.columns, expected.columns)
