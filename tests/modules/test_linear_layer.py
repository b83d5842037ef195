"""PyTorch's default initialisation of linear layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.modules import linear


@pytest.mark.parametrize('fan_in', (1, 4, 100))
def test_torch_init_is_uniform_in_weight_and_bias(fan_in):
  layer = linear.linear(400, fan_in)
  params = layer.init(jax.random.key(0), jnp.zeros((1, fan_in)))['params']
  bound = 1 / np.sqrt(fan_in)
  assert params['kernel'].shape == (fan_in, 400)
  assert params['bias'].shape == (400,)
  for x in (np.asarray(params['kernel']), np.asarray(params['bias'])):
    assert 0.98 * bound < np.max(np.abs(x)) <= bound
    # A uniform variable's standard deviation is its bound over √3.
    np.testing.assert_allclose(np.std(x), bound / np.sqrt(3), rtol=0.1)
    np.testing.assert_allclose(np.mean(x), 0.0, atol=0.1 * bound)


def test_flax_init_has_zero_bias():
  layer = linear.linear(400, 4, 'flax')
  params = layer.init(jax.random.key(0), jnp.zeros((1, 4)))['params']
  np.testing.assert_array_equal(params['bias'], 0.0)
  np.testing.assert_allclose(np.std(params['kernel']), 0.5, rtol=0.1)


def test_other_inits_are_refused():
  with pytest.raises(ValueError, match="linear_init is 'he'; choose one of"):
    linear.linear(3, 4, 'he')
