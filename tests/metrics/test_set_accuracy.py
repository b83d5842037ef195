"""Accuracies of numberings, checked by hand."""

import jax.numpy as jnp
import numpy as np

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
