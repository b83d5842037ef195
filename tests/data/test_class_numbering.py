"""Sets of class labels and their numbering."""

import numpy as np
import pytest

from idspn_jax.data import class_numbering


def test_numbering_by_hand():
  labels = np.array([[2, 0, 2, 2, 0, 1], [1, 1, 1, 1, 1, 1]])
  np.testing.assert_array_equal(
    class_numbering.numbering(labels),
    [[0, 0, 1, 2, 1, 0], [0, 1, 2, 3, 4, 5]],
  )


def test_labels_are_uniform_and_seeded():
  make = class_numbering.class_labels
  labels = make(500, 16, 4, seed=3, split='train')
  assert labels.shape == (500, 16) and labels.dtype == np.int32
  counts = np.bincount(labels.ravel(), minlength=4) / labels.size
  np.testing.assert_allclose(counts, 0.25, atol=0.02)
  np.testing.assert_array_equal(labels, make(500, 16, 4, 3, 'train'))
  assert (labels != make(500, 16, 4, 4, 'train')).any()
  assert (labels != make(500, 16, 4, 3, 'validation')).any()
  assert (labels != make(500, 16, 4, 3, 'test')).any()


def test_distinct_classes_limit_each_set_but_not_the_data():
  labels = class_numbering.class_labels(
    300, 32, 8, seed=0, split='test', distinct_classes=4
  )
  assert max(len(np.unique(row)) for row in labels) == 4
  assert len(np.unique(labels)) == 8
  everywhere = class_numbering.class_labels(300, 32, 8, 0, 'test')
  assert max(len(np.unique(row)) for row in everywhere) > 4


def test_permuting_keeps_every_multiset():
  labels = class_numbering.class_labels(20, 16, 4, seed=0, split='train')
  mixed = class_numbering.permuted(labels, np.random.default_rng(0))
  assert (mixed != labels).any()
  np.testing.assert_array_equal(np.sort(mixed), np.sort(labels))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'num_classes': 17}, 'between 1 and 16 classes; got 17'),
    ({'num_classes': 0}, 'got 0'),
    ({'distinct_classes': 5}, 'between 1 and 4'),
    ({'split': 'dev'}, "Unknown split 'dev'"),
  ],
)
def test_wrong_arguments_are_refused(change, message):
  right = {'count': 2, 'set_size': 16, 'num_classes': 4, 'seed': 0}
  with pytest.raises(ValueError, match=message):
    class_numbering.class_labels(**{**right, 'split': 'train', **change})
