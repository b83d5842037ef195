"""Averages over data sets in which some sets lack a quantity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.metrics import averages

NAN = float('nan')


def test_plain_values_by_hand():
  mask = np.array([True, True, False, True])
  found = averages.average(np.array([1.0, 2.0, NAN, 6.0]), mask)
  assert found == 3.0 and isinstance(found, float)
  assert averages.average(jnp.array([1, 2, 9, 6]), mask.astype(int)) == 3.0
  assert averages.average(np.array([True, False, True, True]), mask) == 2 / 3


def test_a_perfect_model_scores_one_where_sets_are_empty():
  sizes = np.array([3, 0, 0, 5, 2, 0])
  right = np.where(sizes > 0, 1.0, 0.0)  # Of no element, none is right.
  found = averages.Weighted(right, sizes > 0)
  assert averages.average(found, np.ones(6, bool)) == 1.0


def test_weights_by_hand():
  values = averages.Weighted(
    np.array([1.0, NAN, 4.0, NAN]), np.array([1.0, 0.0, 3.0, 2.0])
  )
  mask = np.array([True, True, True, False])
  assert averages.average(values, mask) == (1 + 3 * 4) / 4
  # In the mask, NaN has a weight: it is told.
  assert np.isnan(averages.average(values, np.ones(4, bool)))


@pytest.mark.parametrize('weight, mask', [([0, 0], [1, 1]), ([1, 0], [0, 1])])
def test_nothing_to_average(weight, mask):
  values = averages.Weighted(np.ones(2), np.array(weight))
  assert np.isnan(averages.average(values, np.array(mask, bool)))
  assert np.isnan(averages.average(np.ones(2), np.zeros(2, bool)))
  assert np.isnan(averages.average(np.zeros(0), np.zeros(0, bool)))


@pytest.mark.parametrize('bad', [[NAN, 1], [np.inf, -np.inf]])
def test_what_is_not_finite_is_told(bad):
  assert np.isnan(averages.average(np.array(bad), np.ones(2, bool)))
  assert averages.average(np.array([np.inf, 1]), np.ones(2, bool)) == np.inf


def test_float64_accumulation():
  values = np.full(1_000_000, 0.1, np.float32)
  found = averages.average(values, np.ones(1_000_000, bool))
  assert found == pytest.approx(float(np.float32(0.1)), rel=1e-13)
  half = jnp.array([1.0, 2.0], jnp.bfloat16)
  assert averages.average(half, np.ones(2, bool)) == 1.5


def test_a_weighted_quantity_is_a_pytree():
  found = jax.tree.map(
    lambda a: a[:1],
    averages.Weighted([1, 2], [3, 4]),
    is_leaf=lambda a: isinstance(a, list),
  )
  assert found == averages.Weighted([1], [3])


@pytest.mark.parametrize(
  'value, weight, mask, words',
  [
    ((3,), None, (2,), r'\(3,\)'),
    ((2, 1), None, (2, 1), r'\(2, 1\)'),
    ((), None, (), r'\(\)'),
    ((2,), [1, 1, 1], (2,), r'\(3,\)'),
    ((2,), [1, -1], (2,), 'got -1'),
    ((2,), [1, NAN], (2,), 'got nan'),
    ((2,), [np.inf, 1], (2,), 'got inf'),
  ],
)
def test_what_does_not_fit(value, weight, mask, words):
  values = np.zeros(value)
  if weight is not None:
    values = averages.Weighted(values, np.array(weight))
  with pytest.raises(ValueError, match=words):
    averages.average(values, np.ones(mask, bool))
