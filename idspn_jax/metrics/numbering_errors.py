"""What is wrong with a predicted numbering (Table 8)."""

from typing import NamedTuple

import numpy as np


class Numbering(NamedTuple):
  """A predicted numbering beside a true one, sorted for reading.

  Attributes:
    rows: for every class, its predicted numbers ascending, each with the true
      number that it stands for: itself, or one that was not predicted.
    wrong: how many are not their true number.
  """

  rows: list[list[tuple[int, int]]]
  wrong: int


def wrong_numbers(
  classes: np.ndarray, predicted: np.ndarray, num_classes: int
) -> Numbering:
  """Sorts a set's predicted numbers by class and tells the wrong ones.

  A number is wrong if it repeats another of its class, or is not below the
  class's count, or is negative: so are the numbers of elements whose scores are
  not finite (see `set_accuracy.predicted_numbers`). Wrong numbers stand for
  those that are missing, both ascending.

  Args:
    classes: class of every element, `(N,)`.
    predicted: predicted number of every element, `(N,)`, integers.
    num_classes: number of classes.

  Raises:
    ValueError: if the predicted numbers are not integers.
  """
  predicted = _integers(predicted)
  rows = []
  for k in range(num_classes):
    numbers = np.sort(predicted[classes == k])
    missing = iter(np.setdiff1d(np.arange(len(numbers)), numbers).tolist())
    row, before = [], -1
    for number in numbers.tolist():
      right = number >= 0 and before != number < len(numbers)
      row.append((number, number if right else next(missing)))
      before = number
    rows.append(row)
  return Numbering(rows, sum(p != t for row in rows for p, t in row))


def count_wrong(
  classes: np.ndarray, predicted: np.ndarray, num_classes: int
) -> np.ndarray:
  """Counts the wrong numbers of many sets at once.

  As many numbers are wrong as there are elements beyond the distinct right
  ones; see `wrong_numbers`.

  Args:
    classes: `(B, N)`.
    predicted: `(B, N)`, integers; those outside `[0, N)` are wrong.
    num_classes: number of classes K.

  Returns:
    Counts, `(B,)`.

  Raises:
    ValueError: if the predicted numbers are not integers.
  """
  predicted = _integers(predicted)
  sets, size = classes.shape
  counts = np.zeros((sets, num_classes), np.int64)
  np.add.at(counts, (np.arange(sets)[:, None], classes), 1)
  allowed = np.take_along_axis(counts, classes, axis=1)
  found = np.zeros((sets, num_classes, size), bool)
  row, column = np.nonzero((predicted >= 0) & (predicted < allowed))
  found[row, classes[row, column], predicted[row, column]] = True
  return size - found.sum((1, 2))


def worst_numbering(
  classes: np.ndarray, predicted: np.ndarray, num_classes: int
) -> Numbering:
  """The first of the sets with most wrong numbers; `(B, N)` each."""
  worst = int(np.argmax(count_wrong(classes, predicted, num_classes)))
  return wrong_numbers(classes[worst], predicted[worst], num_classes)


def _integers(predicted):
  predicted = np.asarray(predicted)
  if predicted.dtype.kind not in 'iu':
    raise ValueError(
      f'Predicted numbers must be integers; got {predicted.dtype}. Take them '
      'from scores with set_accuracy.predicted_numbers.'
    )
  return predicted


def labels(numbering: Numbering) -> list[str]:
  """What to write of each element: `(a, 3)`, or `(a, 3) ≠ 2` if wrong.

  A negative number, of scores that are not finite, is written `(a, ?) ≠ 2`.
  """
  return [
    f'({chr(ord("a") + k)}, {predicted if predicted >= 0 else "?"})'
    + (f' ≠ {true}' if predicted != true else '')
    for k, row in enumerate(numbering.rows)
    for predicted, true in row
  ]


def format_numberings(numberings: dict[str, Numbering]) -> str:
  """Lays numberings out as text, a column each; see `labels`."""
  columns = []
  for label, numbering in numberings.items():
    column = [label, f'{numbering.wrong} wrong', *labels(numbering)]
    width = max(map(len, column))
    columns.append([cell.ljust(width) for cell in column])
  lines = ['  '.join(cells).rstrip() for cells in zip(*columns, strict=True)]
  return '\n'.join(lines)
