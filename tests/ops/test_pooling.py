"""Sum, mean and max pooling of padded sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.ops import pooling

POOLS = {
  'sum': (pooling.sum_pool, np.sum),
  'mean': (pooling.mean_pool, np.mean),
  'max': (pooling.max_pool, np.max),
}


@pytest.mark.parametrize('name', POOLS)
def test_without_a_mask_every_element_counts(rng, name):
  pool, reference = POOLS[name]
  x = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
  np.testing.assert_allclose(
    pool(jnp.asarray(x)), reference(x, axis=-2), rtol=1e-5, atol=1e-6
  )


@pytest.mark.parametrize('name', POOLS)
@pytest.mark.parametrize('garbage', (0.0, 1e9, np.nan, np.inf))
def test_padding_does_not_matter(rng, name, garbage):
  pool, reference = POOLS[name]
  mask = np.array([[1, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]], bool)
  x = rng.normal(size=(3, 4, 2)).astype(np.float32)
  x[~mask] = garbage

  out, pull = jax.vjp(lambda x: pool(x, jnp.asarray(mask)), jnp.asarray(x))
  (g,) = pull(jnp.ones_like(out))
  for b in range(2):
    np.testing.assert_allclose(
      out[b], reference(x[b, mask[b]], axis=0), rtol=1e-6
    )
  np.testing.assert_array_equal(out[2], 0.0)
  np.testing.assert_array_equal(np.asarray(g)[~mask], 0.0)
  assert np.all(np.isfinite(g))


@pytest.mark.parametrize('name', POOLS)
def test_a_mask_of_another_shape_is_refused(name):
  with pytest.raises(ValueError, match=r'mask needs shape \(2, 4\)'):
    POOLS[name][0](jnp.zeros((2, 4, 3)), jnp.ones((4,), bool))
