"""Both forms of the convolution against each other and by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.ops import convolution


def convolve(x, kernel, stride=1, padding=0, method=None, **options):
  """As `flax.linen.Conv` calls it."""
  return convolution.convolution_of(method)(
    x,
    kernel,
    (stride, stride),
    padding if isinstance(padding, str) else [(padding, padding)] * 2,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    **options,
  )


@pytest.mark.parametrize('size, stride, padding', [
  (1, 1, 0), (1, 2, 0), (2, 2, 0), (3, 1, 1), (3, 2, 1), (7, 2, 3), (4, 3, 2),
])  # fmt: skip
@pytest.mark.parametrize('edge', [7, 8])
@pytest.mark.usefixtures('x64')
def test_forms_agree(size, stride, padding, edge):
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], (2, edge, edge + 1, 3), jnp.float64)
  kernel = jax.random.normal(keys[1], (size, size, 3, 5), jnp.float64)

  @functools.partial(jax.jit, static_argnums=2)
  def value_and_gradients(x, kernel, method):
    value, pull_back = jax.vjp(
      lambda x, kernel: convolve(x, kernel, stride, padding, method), x, kernel
    )
    cotangent = jax.random.normal(keys[2], value.shape, jnp.float64)
    return value, pull_back(cotangent)

  (direct, im2col), gradients = zip(
    *(value_and_gradients(x, kernel, m) for m in convolution.METHODS),
    strict=True,
  )
  assert direct.shape[1] == (edge + 2 * padding - size) // stride + 1
  np.testing.assert_allclose(direct, im2col, rtol=1e-10, atol=1e-12)
  for one, other in zip(*gradients, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize('method', [*convolution.METHODS, None])
def test_by_hand(method):
  """Sums of neighbours: the kernel is not flipped."""
  x = jnp.arange(4.0).reshape(1, 2, 2, 1)
  kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0).at[1, 2].set(10.0)
  found = convolve(x, kernel, padding=1, method=method)
  np.testing.assert_array_equal(found[0, ..., 0], [[10, 1], [32, 3]])


def test_wrong_arguments():
  x, kernel = jnp.zeros((1, 2, 2, 1)), jnp.zeros((3, 3, 1, 1))
  with pytest.raises(ValueError, match='smaller than the kernel'):
    convolve(x, kernel)
  with pytest.raises(ValueError, match="'fft'"):
    convolve(x, kernel, padding=1, method='fft')
  for option in ({'rhs_dilation': (2, 2)}, {'feature_group_count': 2}):
    with pytest.raises(ValueError, match='without dilation and groups'):
      convolve(x, kernel, padding=1, method='im2col', **option)


@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
@pytest.mark.parametrize('stride', [1, 2])
@pytest.mark.usefixtures('x64')
def test_named_paddings(padding, stride):
  keys = jax.random.split(jax.random.key(0))
  x = jax.random.normal(keys[0], (2, 7, 8, 3), jnp.float64)
  kernel = jax.random.normal(keys[1], (5, 5, 3, 2), jnp.float64)
  direct, im2col = (
    convolve(x, kernel, stride, padding, m) for m in convolution.METHODS
  )
  np.testing.assert_allclose(direct, im2col, rtol=1e-10, atol=1e-12)
