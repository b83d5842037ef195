"""The device's Hungarian algorithm against SciPy's and optax's."""

import jax
import numpy as np
import optax
import pytest
import scipy.optimize

from idspn_jax.ops import hungarian


@pytest.mark.parametrize('n,m', ((1, 1), (1, 5), (4, 6), (12, 12)))
def test_equals_scipy_and_optax(rng, n, m, allow_rank_promotion):
  cost = rng.normal(size=(20, n, m)).astype(np.float32)
  cost[10:] = rng.integers(0, 4, size=(10, n, m))  # With many ties.
  columns = np.asarray(jax.jit(jax.vmap(hungarian.solve))(cost))
  assert columns.dtype == np.int32
  assert all(len(set(row)) == n for row in columns.tolist())
  totals = np.take_along_axis(cost, columns[:, :, None], 2).sum((1, 2))
  least = [
    c[scipy.optimize.linear_sum_assignment(c)].sum()
    for c in cost.astype(np.float64)
  ]
  np.testing.assert_allclose(totals, least, rtol=1e-5, atol=1e-5)
  if n == m:
    solve = jax.jit(jax.vmap(optax.assignment.hungarian_algorithm))
    rows, expected = (np.asarray(x) for x in solve(cost))
    np.testing.assert_array_equal(
      np.take_along_axis(columns, rows, 1), expected
    )
