"""Rows do not depend on how many there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.render import loops


def function(row):
  x = jnp.cumsum(jnp.exp(row['x']) / (1 + row['n']))
  return {'a': jnp.sin(x) * x.mean(), 'b': row['n'] + 1}


@pytest.mark.parametrize('count', [0, 1, 2, 5])
def test_results_are_those_of_all_rows(count, rng):
  rows = {'x': rng.normal(size=(6, 40)).astype('f'), 'n': np.arange(6)}
  in_turn = jax.jit(lambda rows: loops.map_in_turn(function, rows))
  expected = jax.lax.map(function, rows)
  found = in_turn(jax.tree.map(lambda a: a[:count], rows))
  for name in ('a', 'b'):
    assert found[name].dtype == expected[name].dtype
    np.testing.assert_array_equal(found[name], expected[name][:count])
