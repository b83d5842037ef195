"""Sampled permutations, sizes of errors, and what cannot be measured."""

import numpy as np
import pytest

from idspn_jax.metrics import equivariance

PAIRS = np.array([[0.0], [1.0], [0.0], [1.0]])
EVERY = equivariance.all_permutations(4)


def test_permutations():
  assert EVERY.shape == (24, 4)
  assert len({tuple(p) for p in EVERY}) == 24
  some = equivariance.random_permutations(9, 5, seed=1)
  assert some.shape == (6, 9)
  np.testing.assert_array_equal(some[0], np.arange(9))
  np.testing.assert_array_equal(np.sort(some, axis=1), some[[0] * 6])
  assert len({tuple(p) for p in some}) == 6


def test_the_size_of_an_error():
  """Places count a hundredth each: two swapped elements differ by 0.03."""

  def places(x):
    return x + 0.01 * np.arange(4)[None, :, None]

  swapped = np.array([[3, 1, 2, 0]])
  error = equivariance.set_equivariance_error(places, PAIRS, swapped)
  assert error == pytest.approx(0.03)
  # Two equal elements in each other's place: the input remains the same.
  swapped = np.array([[2, 1, 0, 3]])
  error = equivariance.set_equivariance_error(places, PAIRS, swapped)
  assert error == pytest.approx(0.02)
  assert equivariance.multiset_equivariance_error(places, PAIRS, swapped) == 0


def test_equal_elements_may_swap_what_they_get():
  """Numbers the equal elements in the order in which they stand."""

  def numbering(x):
    before = np.tril(np.ones((4, 4)), -1)
    same = np.all(x[:, :, None] == x[:, None], axis=-1)
    return np.sum(same * before, axis=-1, keepdims=True)

  assert equivariance.set_equivariance_error(numbering, PAIRS, EVERY) == 1
  assert equivariance.multiset_equivariance_error(numbering, PAIRS, EVERY) == 0


def test_different_elements_may_not():
  def places(x):
    return np.broadcast_to(np.arange(4.0)[:, None], x.shape)

  distinct = np.arange(4.0)[:, None]
  error = equivariance.multiset_equivariance_error(places, distinct, EVERY)
  assert error == 3


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_outputs_that_are_not_finite_break_the_law(bad):
  def broken(x):
    return np.where(x == 1, bad, x)

  for law in (
    equivariance.set_equivariance_error,
    equivariance.multiset_equivariance_error,
  ):
    with np.errstate(invalid='ignore'):
      assert law(broken, PAIRS, EVERY) == np.inf


@pytest.mark.parametrize('scale', [1e300, 1.0, 1e-300])
def test_errors_of_any_scale(scale):
  """The matching of equal elements must survive what float32 cannot hold."""

  def numbering(x):
    before = np.tril(np.ones((4, 4)), -1)
    same = np.all(x[:, :, None] == x[:, None], axis=-1)
    return scale * np.sum(same * before, axis=-1, keepdims=True)

  assert equivariance.set_equivariance_error(numbering, PAIRS, EVERY) == scale
  assert equivariance.multiset_equivariance_error(numbering, PAIRS, EVERY) == 0


def test_a_difference_beyond_float64_is_infinite():
  def places(x):
    return np.broadcast_to([[1.7e308], [-1.7e308], [0.0], [0.0]], x.shape)

  distinct = np.arange(4.0)[:, None]
  for law in (
    equivariance.set_equivariance_error,
    equivariance.multiset_equivariance_error,
  ):
    assert law(places, distinct, EVERY) == np.inf
  # Different elements may be that far apart.
  identity = np.arange(4)[None]
  assert (
    equivariance.multiset_equivariance_error(places, distinct, identity) == 0
  )
