"""Ordered pairs of elements."""

import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.ops import pairs


def test_by_hand():
  x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
  expected = [[1, 2, 1, 2], [1, 2, 3, 4], [3, 4, 1, 2], [3, 4, 3, 4]]
  np.testing.assert_array_equal(pairs.all_pairs(x), expected)


@pytest.mark.parametrize('batch', ((), (2,), (2, 3)))
def test_row_is_first_times_n_plus_second(rng, batch):
  x = rng.normal(size=(*batch, 4, 3)).astype(np.float32)
  out = np.asarray(pairs.all_pairs(jnp.asarray(x)))
  assert out.shape == (*batch, 16, 6)
  for i in range(4):
    for j in range(4):
      np.testing.assert_array_equal(out[..., 4 * i + j, :3], x[..., i, :])
      np.testing.assert_array_equal(out[..., 4 * i + j, 3:], x[..., j, :])


def test_a_pair_exists_if_both_its_elements_do():
  mask = jnp.array([[True, False, True], [False, False, False]])
  out = np.asarray(pairs.pair_mask(mask)).reshape(2, 3, 3)
  m = np.asarray(mask)
  np.testing.assert_array_equal(out, m[:, :, None] & m[:, None, :])
