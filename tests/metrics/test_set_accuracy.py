"""Accuracies of numberings, checked by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.metrics import set_accuracy
from idspn_jax.ops import assignment

CLASSES = jnp.array([[0, 0, 1, 1]] * 3)
TARGET = jnp.array([[0, 1, 0, 1]] * 3)
# Right in another order; one number twice; right numbers in the wrong class.
PREDICTED = jnp.array([[1, 0, 0, 1], [0, 0, 0, 1], [0, 2, 0, 1]])


def test_matched_accuracy():
  columns = jnp.array([[1, 0, 2, 3], [0, 1, 2, 3], [0, 1, -1, 3]])
  matching = assignment.Matching(columns, jnp.ones(3, bool))
  elements, sets = set_accuracy.matched_accuracy(PREDICTED, TARGET, matching)
  np.testing.assert_allclose(elements, [1.0, 0.75, 0.5])
  np.testing.assert_array_equal(sets, [1, 0, 0])


def test_multiset_equality_needs_no_matching():
  equal = set_accuracy.multiset_equal(PREDICTED, TARGET, CLASSES, 2)
  np.testing.assert_array_equal(equal, [1, 0, 0])
  swapped = jnp.array([[0, 1, 0, 1]])
  other_target = jnp.array([[0, 0, 1, 1]])
  equal = set_accuracy.multiset_equal(swapped, other_target, CLASSES[:1], 2)
  np.testing.assert_array_equal(equal, [0])


@pytest.mark.parametrize('bad', [jnp.nan, jnp.inf, -jnp.inf])
def test_scores_that_are_not_finite_are_never_right(bad):
  """argmax takes the first NaN for the greatest: the right number here."""
  scores = jnp.zeros((3, 4, 4)).at[:, jnp.arange(4), TARGET[0]].set(1.0)
  scores = scores.at[1, 0].set(bad).at[2].set(bad)
  predicted = set_accuracy.predicted_numbers(scores)
  np.testing.assert_array_equal(
    predicted, [[0, 1, 0, 1], [-1, 1, 0, 1], [-1] * 4]
  )
  columns = jnp.tile(jnp.arange(4), (3, 1))
  matching = assignment.Matching(columns, jnp.ones(3, bool))
  elements, sets = set_accuracy.matched_accuracy(predicted, TARGET, matching)
  np.testing.assert_allclose(elements, [1.0, 0.75, 0.0])
  np.testing.assert_array_equal(sets, [1, 0, 0])
  equal = set_accuracy.multiset_equal(predicted, TARGET, CLASSES, 2)
  np.testing.assert_array_equal(equal, [1, 0, 0])


def test_nothing_is_right_under_an_invalid_matching():
  columns = jnp.tile(jnp.arange(4), (2, 1))
  matching = assignment.Matching(columns, jnp.array([True, False]))
  both = (TARGET[:2], TARGET[:2], matching)
  np.testing.assert_array_equal(set_accuracy.matched_accuracy(*both)[0], [1, 0])


@pytest.mark.parametrize('number', [-1, 4])
def test_numbers_out_of_range_are_of_no_other_class(number):
  """Number 4 of class 0 is not number 0 of class 1."""
  target = jnp.array([[0, 1, 0, 3]])
  classes = jnp.array([[1, 0, 1, 0]]) if number < 0 else CLASSES[:1]
  wrong = {-1: jnp.array([[-1, 1, 0, 3]]), 4: jnp.array([[0, 4, 0, 3]])}
  near = {-1: jnp.array([[3, 1, 0, 3]]), 4: jnp.array([[0, 0, 0, 3]])}
  for other in (target, near[number]):
    equal = set_accuracy.multiset_equal(wrong[number], other, classes, 2)
    np.testing.assert_array_equal(equal, [0])
