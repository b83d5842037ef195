"""Featurewise sort pooling against the sort itself and against NumPy."""

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.ops import fspool

SIZES = (1, 2, 3, 5, 16, 63, 64, 65, 128, 129, 255, 256, 257, 1000, 4096)


def pool_by_numpy(x, weight):
  """Sorts, weighs and sums: the definition."""
  return np.sum(np.sort(x, axis=-2) * weight, axis=-2)


def weights_by_numpy(x, weight):
  """The gradient with respect to `x`: each element's weight."""
  ranks = np.argsort(np.argsort(x, -2, kind='stable'), -2, kind='stable')
  return np.take_along_axis(np.broadcast_to(weight, x.shape), ranks, axis=-2)


def sample(rng, n, c=3, batch=(2,), dtype=np.float64):
  x = rng.normal(size=(*batch, n, c)).astype(dtype)
  return x, rng.normal(size=(n, c)).astype(dtype)


def separated(rng, n, c):
  """Values whose order no small step can change."""
  return np.stack([rng.permutation(n) for _ in range(c)], -1) / n - 0.4


def curved(pool):
  """A scalar of pooled features with derivatives of every order."""
  return lambda x, w: jnp.sum(jnp.sin(pool(x, w)) * jnp.exp(0.1 * pool(x, w)))


FAST, SLOW = curved(fspool.fspool), curved(fspool.fspool_autodiff)


@pytest.mark.parametrize(
  'dtype,n',
  [('float64', n) for n in SIZES]
  + [('float32', n) for n in (1, 5, 64, 65, 128, 256, 257, 4096)],
  indirect=['dtype'],
)
def test_value_and_gradients_equal_numpy_s(rng, dtype, tolerance, n):
  x, w = sample(rng, n, dtype=dtype)
  v = rng.normal(size=(2, 3)).astype(dtype)

  @jax.jit
  def value_and_gradients(x, w, v):
    value, pull = jax.vjp(fspool.fspool, x, w)
    return value, *pull(v)

  expected = (
    pool_by_numpy(x, w),
    weights_by_numpy(x, w) * v[:, None],
    np.sum(np.sort(x, -2) * v[:, None], 0),
  )
  computed = value_and_gradients(x, w, v)
  for a, b in zip(computed, expected, strict=True):
    assert a.dtype == dtype
    np.testing.assert_allclose(
      a, b, rtol=tolerance, atol=np.sqrt(n) * tolerance
    )


@pytest.mark.parametrize('n', (2, 16, 64, 65, 256, 257))
def test_ties_share_out_each_weight_exactly_once(rng, n):
  x = rng.integers(-2, 3, size=(2, n, 3)).astype(np.float32)
  w = rng.permutation(3 * n).reshape(n, 3).astype(np.float32)
  pool = jax.jit(lambda x: jnp.sum(fspool.fspool(x, w)))
  np.testing.assert_array_equal(pool(x), np.sum(pool_by_numpy(x, w)))
  g = np.asarray(jax.grad(pool)(x))
  np.testing.assert_array_equal(
    np.sort(g, axis=-2), np.broadcast_to(np.sort(w, axis=-2), g.shape)
  )
  # In order of their weights' rows, the elements are sorted.
  row = np.argmax(g[:, :, None, :] == w[None, None], axis=2)
  ordered = np.empty_like(x)
  np.put_along_axis(ordered, row, x, axis=-2)
  assert np.all(np.diff(ordered, axis=-2) >= 0)


@pytest.mark.parametrize('n', (5, 257))
def test_infinite_values_take_their_place(rng, n):
  x, w = sample(rng, n, dtype=np.float32, batch=())
  x[1, 0], x[2, 1], x[3, 2], x[0, 2] = np.inf, -np.inf, np.inf, np.inf
  w[-2:, 2] = 1.5, 0.5

  @jax.jit
  def value_and_gradients(x, w):
    value, pull = jax.vjp(fspool.fspool, x, w)
    return value, *pull(jnp.ones(3))

  pooled, dx, dw = value_and_gradients(x, w)
  np.testing.assert_array_equal(pooled, pool_by_numpy(x, w))
  assert np.all(np.isinf(pooled))
  np.testing.assert_array_equal(dx, weights_by_numpy(x, w))
  np.testing.assert_array_equal(dw, np.sort(x, axis=-2))


@pytest.mark.parametrize('n', (4, 257))
def test_signed_zeros_are_equal(n):
  x = jnp.zeros((n, 1)).at[::2].set(-0.0)
  w = jnp.arange(1.0, n + 1)[:, None]
  assert float(fspool.fspool(x, w)[0]) == 0.0
  g = jax.grad(lambda x: fspool.fspool(x, w)[0])(x)
  np.testing.assert_array_equal(np.sort(g, axis=0), w)


@pytest.mark.parametrize('n', (4, 257))
def test_nan_poisons_its_set_and_feature_only(rng, n):
  x, w = sample(rng, n, dtype=np.float32)
  x[0, 1, 2] = np.nan
  out = np.asarray(fspool.fspool(jnp.asarray(x), jnp.asarray(w)))
  np.testing.assert_array_equal(
    np.isnan(out), [[False, False, True], [False, False, False]]
  )
  whole = pool_by_numpy(x, w)
  np.testing.assert_allclose(
    out[~np.isnan(out)], whole[~np.isnan(out)], rtol=1e-4, atol=1e-4
  )


@pytest.mark.parametrize('batch', ((), (2,), (2, 3)))
def test_leading_axes_are_batch_axes(rng, x64, batch):
  x, w = sample(rng, 5, batch=batch)
  eager = fspool.fspool(jnp.asarray(x), jnp.asarray(w))
  assert eager.shape == (*batch, 3)
  np.testing.assert_allclose(eager, pool_by_numpy(x, w), rtol=1e-12)
  np.testing.assert_allclose(jax.jit(fspool.fspool)(x, w), eager, rtol=1e-13)


def test_empty_set_pools_to_zero():
  out = fspool.fspool(jnp.zeros((2, 0, 3)), jnp.zeros((0, 3)))
  np.testing.assert_array_equal(out, np.zeros((2, 3)))


@pytest.mark.parametrize(
  'n,axes',
  ((5, (0, None)), (5, (None, 0)), (5, (0, 0)), (5, (1, 2)), (65, (1, 0))),
)
def test_vmap_equals_a_python_loop(rng, x64, n, axes):
  xs = rng.normal(size=(3, 2, n, 2))
  ws = rng.normal(size=(3, n, 2))
  args = [
    a[0] if axis is None else np.moveaxis(a, 0, axis)
    for a, axis in zip((xs, ws), axes, strict=True)
  ]
  value, dx = jax.jit(
    jax.vmap(
      lambda x, w: (fspool.fspool(x, w), jax.grad(FAST)(x, w)), in_axes=axes
    )
  )(*args)
  one_gradient = jax.jit(jax.grad(SLOW))
  for i in range(3):
    x, w = (
      a[0] if axis is None else a[i]
      for a, axis in zip((xs, ws), axes, strict=True)
    )
    np.testing.assert_allclose(value[i], pool_by_numpy(x, w), rtol=1e-11)
    np.testing.assert_allclose(dx[i], one_gradient(x, w), rtol=1e-9)


def test_nested_vmap_pairs_every_set_with_every_weight(rng, x64):
  xs, ws = rng.normal(size=(3, 5, 2)), rng.normal(size=(4, 5, 2))
  over_weights = jax.vmap(fspool.fspool, in_axes=(None, 0))
  out = jax.vmap(over_weights, in_axes=(0, None))(xs, ws)
  np.testing.assert_allclose(
    out, pool_by_numpy(xs[:, None], ws[None]), rtol=1e-12
  )


def grad_of_grad(f):
  def penalty(x, w):
    dx, dw = jax.grad(f, (0, 1))(x, w)
    return jnp.sum(jnp.square(dx)) + jnp.sum(jnp.sin(dw))

  return jax.grad(penalty, (0, 1))


def every_derivative(f):
  """First and second derivatives, in each combination of modes."""
  gradient = jax.jacrev(f, (0, 1))
  transforms = {
    'jacfwd': jax.jacfwd(f, (0, 1)),
    'jacrev': gradient,
    'hessian': jax.hessian(f, (0, 1)),
    'reverse over reverse': jax.jacrev(gradient, (0, 1)),
    'reverse over forward': jax.jacrev(jax.jacfwd(f, (0, 1)), (0, 1)),
    'gradient of a gradient': grad_of_grad(f),
  }
  return jax.jit(lambda x, w: {name: d(x, w) for name, d in transforms.items()})


def assert_trees_close(a, b):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), a, b
  )


@pytest.mark.parametrize('n', (1, 5))
def test_every_derivative_equals_the_sort_s(rng, x64, n):
  x, w = sample(rng, n, c=2, batch=())
  fast, slow = every_derivative(FAST)(x, w), every_derivative(SLOW)(x, w)
  assert_trees_close(fast, slow)


@pytest.mark.parametrize('n', (65, 257))
def test_second_derivatives_of_large_sets_equal_the_sort_s(rng, x64, n):
  x, w = sample(rng, n, c=2, batch=())
  fast, slow = (jax.jit(grad_of_grad(f))(x, w) for f in (FAST, SLOW))
  assert_trees_close(fast, slow)


@pytest.mark.parametrize('n', (4, pytest.param(65, marks=pytest.mark.deep)))
def test_numerical_gradients_of_second_order(rng, x64, n):
  x, w = separated(rng, n, 2), rng.normal(size=(n, 2)) / n
  test_util.check_grads(jax.jit(FAST), (x, w), order=2, rtol=1e-4, eps=1e-5)


def interpolated(w, size, rows):
  """The weight functions at the ranks of a set, by NumPy's interpolation."""
  knots = np.linspace(0.0, 1.0, w.shape[0])
  at = np.arange(size) / max(size - 1, 1)
  table = np.zeros((rows, w.shape[1]))
  table[:size] = np.stack([np.interp(at, knots, c) for c in w.T], -1)
  return table


@pytest.mark.parametrize('k', (1, 2, 3, 7))
def test_table_is_linear_interpolation(rng, x64, k):
  w = rng.normal(size=(k + 1, 2))
  sizes = np.array([[0, 1, 2], [3, 4, 9]])
  table = jax.jit(fspool.piecewise_linear_table, static_argnums=2)(w, sizes, 9)
  assert table.shape == (2, 3, 9, 2)
  for i in np.ndindex(sizes.shape):
    np.testing.assert_allclose(
      table[i], interpolated(w, sizes[i], 9), rtol=1e-12, atol=1e-12
    )


def test_table_by_hand():
  # f(0) = 0, f(1/2) = 3, f(1) = 9, read at 0, 1/4, 1/2, 3/4, 1.
  w = jnp.array([[0.0], [3.0], [9.0]])
  table = fspool.piecewise_linear_table(w, jnp.array(5), 6)
  np.testing.assert_allclose(table[:, 0], [0.0, 1.5, 3.0, 6.0, 9.0, 0.0])


def test_any_size_equals_fixed_size_with_one_piece_per_gap(rng, x64):
  x, w = sample(rng, 6)
  np.testing.assert_allclose(
    jax.jit(fspool.fspool_any_size)(x, w),
    pool_by_numpy(x, w),
    rtol=1e-11,
  )


def padded(rng, sizes, n, c, garbage):
  """Sets of several sizes, their padding anywhere and filled with garbage."""
  x = np.full((len(sizes), n, c), garbage)
  mask = np.zeros((len(sizes), n), bool)
  for b, size in enumerate(sizes):
    mask[b, rng.choice(n, size, replace=False)] = True
  x[mask] = rng.normal(size=(sum(sizes), c))
  return x, mask


@pytest.mark.parametrize(
  'n,garbage', ((7, 0.0), (7, np.nan), (7, np.inf), (7, -np.inf), (66, 1e6))
)
def test_padding_does_not_matter(rng, x64, n, garbage):
  sizes = (0, 1, 2, 4, 7)
  x, mask = padded(rng, sizes, n, 3, garbage)
  w = rng.normal(size=(5, 3))

  @jax.jit
  def pool_and_gradient(x):
    out, pull = jax.vjp(lambda x, w: fspool.fspool_any_size(x, w, mask), x, w)
    return out, *pull(jnp.ones_like(out))

  out, dx, dw = pool_and_gradient(x)
  total = np.zeros_like(w)
  for b, size in enumerate(sizes):
    present = x[b, mask[b]]
    table = interpolated(w, size, size)
    np.testing.assert_allclose(
      out[b], pool_by_numpy(present, table), rtol=1e-11, atol=1e-12
    )
    np.testing.assert_allclose(
      dx[b, mask[b]], weights_by_numpy(present, table), atol=1e-12
    )
    np.testing.assert_array_equal(dx[b, ~mask[b]], 0.0)
    knots = np.eye(len(w))
    total += interpolated(knots, size, size).T @ np.sort(present, axis=0)
  np.testing.assert_array_equal(out[0], 0.0)
  np.testing.assert_allclose(dw, total, rtol=1e-10, atol=1e-11)


def test_a_single_element_reads_the_function_at_zero():
  x = jnp.array([[9.0], [2.0]])
  mask = jnp.array([False, True])
  w = jnp.array([[5.0], [7.0]])
  np.testing.assert_allclose(fspool.fspool_any_size(x, w, mask), [10.0])


@pytest.mark.parametrize('where', (0, 2))
def test_a_real_infinity_beside_padding_keeps_its_weight(where):
  mask = jnp.arange(4) != where
  x = jnp.where(mask, jnp.arange(4.0), 50.0)
  last = int(jnp.max(jnp.where(mask, jnp.arange(4), 0)))
  x = x.at[last].set(jnp.inf)[:, None]
  w = jnp.array([[1.0], [2.0], [3.0]])
  out, g = jax.value_and_grad(lambda x: fspool.fspool_any_size(x, w, mask)[0])(
    x
  )
  assert out == np.inf
  expected = np.zeros(4)
  expected[np.asarray(mask)] = [1.0, 2.0, 3.0]
  np.testing.assert_array_equal(g[:, 0], expected)


def test_wrong_shapes_are_refused_with_a_remedy():
  x = jnp.zeros((2, 4, 3))
  with pytest.raises(
    ValueError, match='sets of 5 elements but the sets have 4'
  ):
    fspool.fspool(x, jnp.zeros((5, 3)))
  with pytest.raises(ValueError, match='fspool_any_size'):
    fspool.fspool(x, jnp.zeros((5, 3)))
  for pool in (fspool.fspool, fspool.fspool_autodiff, fspool.fspool_any_size):
    with pytest.raises(ValueError, match='equal C'):
      pool(x, jnp.zeros((4, 2)))
    with pytest.raises(ValueError, match='FSPool needs sets'):
      pool(jnp.zeros((3,)), jnp.zeros((4, 3)))
  with pytest.raises(ValueError, match=r'mask needs shape \(2, 4\)'):
    fspool.fspool_any_size(x, jnp.zeros((2, 3)), jnp.ones((4,), bool))


@pytest.mark.parametrize('n', (65, 100, 255))
def test_debug_nans_finds_none_where_there_are_none(rng, debug_nans, n):
  x, w = (jnp.asarray(a, jnp.float32) for a in sample(rng, n))

  def total(x, w):
    return jnp.sum(fspool.fspool(x, w)) + jnp.sum(fspool.fspool_any_size(x, w))

  assert np.all(np.isfinite(jax.grad(total)(x, w)))


def test_sets_of_another_size_are_refused_with_the_remedy():
  with pytest.raises(ValueError, match=r'SetEncoder\(..., pieces=20\)'):
    fspool.fspool(jnp.zeros((2, 4, 3)), jnp.zeros((5, 3)))
