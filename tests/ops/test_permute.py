"""Featurewise ranks and the two permutations that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.ops import permute

# Both sides of every switch between algorithms and rank dtypes.
SIZES = (1, 2, 3, 5, 16, 63, 64, 65, 128, 129, 255, 256, 257, 1000, 4096)
SOME_SIZES = (1, 5, 64, 65)

PERMUTES = (permute.sort_by_ranks, permute.unsort_by_ranks)


def stable_ranks(x):
  """Ranks by NumPy: the inverse of a stable argsort."""
  order = np.argsort(x, axis=-2, kind='stable')
  return np.argsort(order, axis=-2, kind='stable')


def random_ranks(rng, shape):
  return jnp.asarray(stable_ranks(rng.normal(size=shape)).astype(np.int16))


@pytest.mark.parametrize('n', SIZES)
def test_ranks_are_those_of_a_stable_sort(rng, n):
  distinct = rng.normal(size=(n, 2)).astype(np.float32)
  tied = rng.integers(0, 4, size=(n, 2)).astype(np.float32)
  x = np.stack([distinct, tied])
  ranks = jax.jit(permute.ascending_ranks)(x)
  assert jnp.issubdtype(ranks.dtype, jnp.integer)
  np.testing.assert_array_equal(ranks, stable_ranks(x))


@pytest.mark.parametrize('n', (5, 65, 257))
def test_ranks_order_infinities_last_and_first(rng, n):
  x = rng.normal(size=(n, 3)).astype(np.float32)
  x[1, 0], x[2, 1], x[0, 2], x[3, 2] = np.inf, -np.inf, np.inf, np.inf
  ranks = np.asarray(permute.ascending_ranks(jnp.asarray(x)))
  np.testing.assert_array_equal(ranks, stable_ranks(x))
  assert ranks[1, 0] == n - 1
  assert ranks[2, 1] == 0
  assert ranks[0, 2] == n - 2
  assert ranks[3, 2] == n - 1


@pytest.mark.parametrize('n', (5, 65, 257))
def test_integers_are_ranked_too(rng, n):
  x = rng.integers(-3, 3, size=(n, 2)).astype(np.int32)
  x[0], x[1] = np.iinfo(np.int32).max, np.iinfo(np.int32).min
  ranks = permute.ascending_ranks(jnp.asarray(x))
  np.testing.assert_array_equal(ranks, stable_ranks(x))
  values = jnp.asarray(x)
  np.testing.assert_array_equal(
    permute.sort_by_ranks(ranks, values), np.sort(x, axis=0)
  )


@pytest.mark.parametrize('n', (4, 257))
def test_negative_and_positive_zero_tie(n):
  x = jnp.zeros((n, 1)).at[::2].set(-0.0)
  ranks = permute.ascending_ranks(x)
  np.testing.assert_array_equal(ranks[:, 0], np.arange(n))


def test_ranks_are_constant_under_differentiation(rng):
  x = jnp.asarray(rng.normal(size=(4, 2)))

  def f(x):
    return jnp.sum(permute.ascending_ranks(x).astype(x.dtype))

  np.testing.assert_array_equal(jax.grad(f)(x), 0.0)


@pytest.mark.parametrize('n', SIZES)
def test_unsort_gathers_and_sort_scatters(rng, n):
  ranks = random_ranks(rng, (2, n, 3))
  values = rng.normal(size=(2, n, 3)).astype(np.float32)
  unsorted = np.take_along_axis(values, np.asarray(ranks), axis=-2)
  scattered = np.empty_like(values)
  np.put_along_axis(scattered, np.asarray(ranks), values, axis=-2)
  np.testing.assert_array_equal(
    permute.unsort_by_ranks(ranks, values), unsorted
  )
  np.testing.assert_array_equal(permute.sort_by_ranks(ranks, values), scattered)


@pytest.mark.parametrize('n', SOME_SIZES)
def test_sort_by_ranks_sorts(rng, n):
  x = jnp.asarray(rng.integers(-3, 4, size=(2, n, 3)).astype(np.float32))
  ranks = permute.ascending_ranks(x)
  np.testing.assert_array_equal(
    permute.sort_by_ranks(ranks, x), np.sort(x, axis=-2)
  )


@pytest.mark.parametrize('n', SOME_SIZES)
def test_sort_and_unsort_are_inverses(rng, n):
  ranks = random_ranks(rng, (2, n, 3))
  v = jnp.asarray(rng.normal(size=(2, n, 3)).astype(np.float32))
  for first, second in (PERMUTES, PERMUTES[::-1]):
    np.testing.assert_array_equal(second(ranks, first(ranks, v)), v)


@pytest.mark.parametrize('n', SOME_SIZES)
def test_sort_and_unsort_are_transposes(x64, rng, n):
  ranks = random_ranks(rng, (2, n, 3))
  u = jnp.asarray(rng.normal(size=(2, n, 3)))
  v = jnp.asarray(rng.normal(size=(2, n, 3)))
  left = jnp.sum(u * permute.sort_by_ranks(ranks, v))
  right = jnp.sum(permute.unsort_by_ranks(ranks, u) * v)
  np.testing.assert_allclose(left, right, rtol=1e-12)
  for f, g in (PERMUTES, PERMUTES[::-1]):
    (transposed,) = jax.linear_transpose(lambda v: f(ranks, v), v)(u)  # noqa: B023
    np.testing.assert_array_equal(transposed, g(ranks, u))


@pytest.mark.parametrize('f', PERMUTES)
def test_permutations_are_their_own_derivative(rng, f):
  ranks = random_ranks(rng, (2, 5, 3))
  v, dv = (
    jnp.asarray(rng.normal(size=(2, 5, 3)).astype(np.float32)) for _ in range(2)
  )
  value, tangent = jax.jvp(lambda v: f(ranks, v), (v,), (dv,))
  np.testing.assert_array_equal(value, f(ranks, v))
  np.testing.assert_array_equal(tangent, f(ranks, dv))


@pytest.mark.parametrize('f', PERMUTES)
@pytest.mark.parametrize('axes', ((0, 0), (0, None), (None, 0), (0, 1), (2, 0)))
def test_vmap_equals_a_python_loop(rng, f, axes):
  ranks = random_ranks(rng, (4, 5, 3))
  values = jnp.asarray(rng.normal(size=(4, 5, 3)).astype(np.float32))
  args = [
    a[0] if axis is None else jnp.moveaxis(a, 0, axis)
    for a, axis in zip((ranks, values), axes, strict=True)
  ]
  mapped = jax.jit(jax.vmap(f, axes))(*args)
  for i in range(4):
    one = [
      a[0] if axis is None else a[i]
      for a, axis in zip((ranks, values), axes, strict=True)
    ]
    np.testing.assert_array_equal(mapped[i], f(*one))


@pytest.mark.parametrize('f', PERMUTES)
def test_shapes_that_differ_are_refused(f):
  with pytest.raises(ValueError, match=r'one shape \(\.\.\., N, C\)'):
    f(jnp.zeros((3, 2), jnp.int8), jnp.zeros((4, 2)))
  with pytest.raises(ValueError, match='ranks and values'):
    f(jnp.zeros((3,), jnp.int8), jnp.zeros((3,)))
