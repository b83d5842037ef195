"""Wrong numbers: marked, counted, found, and laid out as text."""

import numpy as np
import pytest

from idspn_jax.metrics import numbering_errors

CLASSES = np.array([0, 1, 1, 0, 0, 1])
#                   a  b  b  a  a  b
RIGHT = np.array([2, 0, 1, 0, 1, 2])
WRONG = np.array([1, 0, 0, 3, 1, 2])


def test_repeated_and_too_large_numbers_are_wrong():
  found = numbering_errors.wrong_numbers(CLASSES, WRONG, 3)
  assert found.rows == [
    [(1, 1), (1, 0), (3, 2)],
    [(0, 0), (0, 1), (2, 2)],
    [],
  ]
  assert found.wrong == 3
  assert numbering_errors.wrong_numbers(CLASSES, RIGHT, 2).wrong == 0


def test_true_numbers_are_each_class_in_full(rng):
  for _ in range(50):
    classes, predicted = rng.integers(0, 3, 9), rng.integers(0, 9, 9)
    found = numbering_errors.wrong_numbers(classes, predicted, 3)
    for k, row in enumerate(found.rows):
      assert [p for p, _ in row] == sorted(predicted[classes == k])
      assert sorted(t for _, t in row) == list(range(len(row)))


def test_counting_many_sets_agrees_with_marking_each(rng):
  classes = rng.integers(0, 3, (200, 7))
  predicted = rng.integers(0, 7, (200, 7)) // rng.integers(1, 4, (200, 1))
  counts = numbering_errors.count_wrong(classes, predicted, 4)
  each = [
    numbering_errors.wrong_numbers(c, p, 4).wrong
    for c, p in zip(classes, predicted, strict=True)
  ]
  np.testing.assert_array_equal(counts, each)
  assert len(set(each)) > 3
  worst = numbering_errors.worst_numbering(classes, predicted, 4)
  assert worst.wrong == max(each)


def test_text():
  numberings = {
    name: numbering_errors.wrong_numbers(CLASSES, predicted, 2)
    for name, predicted in (('good', RIGHT), ('bad', WRONG))
  }
  lines = numbering_errors.format_numberings(numberings).splitlines()
  assert lines[0].split() == ['good', 'bad']
  assert lines[1] == '0 wrong  3 wrong'
  assert lines[2:] == [
    '(a, 0)   (a, 1)',
    '(a, 1)   (a, 1) ≠ 0',
    '(a, 2)   (a, 3) ≠ 2',
    '(b, 0)   (b, 0)',
    '(b, 1)   (b, 0) ≠ 1',
    '(b, 2)   (b, 2)',
  ]


@pytest.mark.parametrize('number', [-1, -2])
def test_negative_numbers_are_wrong(number):
  """They stand for scores that are not finite."""
  classes, predicted = np.zeros(3, int), np.array([0, 1, number])
  found = numbering_errors.wrong_numbers(classes, predicted, 1)
  assert found.rows == [[(number, 2), (0, 0), (1, 1)]]
  assert found.wrong == 1
  counts = numbering_errors.count_wrong(classes[None], predicted[None], 1)
  np.testing.assert_array_equal(counts, [1])
  assert numbering_errors.labels(found)[0] == '(a, ?) ≠ 2'


def test_numbers_that_are_not_integers_are_refused():
  predicted = np.array([[0.0, np.nan]])
  for count in (numbering_errors.count_wrong, numbering_errors.worst_numbering):
    with pytest.raises(ValueError, match='integers; got float64'):
      count(np.zeros((1, 2), int), predicted, 1)
