"""The worst predicted numbering of a batch, errors marked (Table 8)."""

from collections.abc import Mapping
import os
import pathlib

import matplotlib.figure
import numpy as np

from idspn_jax.figures import panels
from idspn_jax.figures import save

_RIGHT = '#cfe3cf'
_WRONG = '#e8590c'


def wrong_numbers(
  classes: np.ndarray, predicted: np.ndarray, num_classes: int
) -> list[list[tuple[int, bool]]]:
  """Sorts a set's predicted numbers by class and marks the wrong ones.

  A number is wrong if it is not below the class's count or was there before.

  Args:
    classes: class of every element, `(N,)`.
    predicted: predicted number of every element, `(N,)`.
    num_classes: number of classes.

  Returns:
    For every class, its numbers ascending, each with whether it is wrong.
  """
  rows = []
  for k in range(num_classes):
    numbers = np.sort(predicted[classes == k])
    repeated = np.r_[False, numbers[1:] == numbers[:-1]][: len(numbers)]
    wrong = repeated | (numbers >= len(numbers))
    rows.append(
      [(int(n), bool(w)) for n, w in zip(numbers, wrong, strict=True)]
    )
  return rows


def _worst(classes, predicted, num_classes):
  """The set with the most wrong numbers, as rows of `wrong_numbers`."""
  all_rows = [
    wrong_numbers(c, p, num_classes)
    for c, p in zip(classes, predicted, strict=True)
  ]
  counts = [sum(w for row in rows for _, w in row) for rows in all_rows]
  return all_rows[int(np.argmax(counts))], max(counts)


def draw_worst_numbering(
  classes: np.ndarray,
  predicted: Mapping[int | str, np.ndarray],
  num_classes: int,
  path: str | os.PathLike[str],
) -> pathlib.Path:
  """Draws, column by column, the set with the most wrong numbers.

  Args:
    classes: class of every element, `(B, N)`.
    predicted: predicted numbers `(B, N)` by number of inner steps or label.
    num_classes: number of classes.
    path: of the PNG file.

  Returns:
    The path.
  """
  figure = matplotlib.figure.Figure(
    figsize=(1.5 * len(predicted), 0.5 + 0.16 * classes.shape[1]),
    layout='constrained',
  )
  grid = figure.subplots(1, len(predicted), squeeze=False)[0]
  for axes, (key, numbers) in zip(grid, predicted.items(), strict=True):
    rows, count = _worst(classes, np.asarray(numbers), num_classes)
    line = 0
    for k, row in enumerate(rows):
      for number, wrong in row:
        axes.text(
          0.5,
          -line,
          f'({chr(ord("a") + k)}, {number})',
          ha='center',
          va='center',
          fontsize=7,
          bbox={
            'facecolor': _WRONG if wrong else _RIGHT,
            'edgecolor': 'none',
            'pad': 1.2,
          },
        )
        line += 1
    axes.set_xlim(0, 1)
    axes.set_ylim(-line, 1)
    axes.axis('off')
    axes.set_title(f'{panels.column_label(key)}\n{count} wrong', fontsize=8)
  return save.save_png(figure, path)
