"""Predicted numberings, errors marked (Table 8)."""

from collections.abc import Mapping
import os
import pathlib

import matplotlib.figure

from idspn_jax.figures import save
from idspn_jax.metrics import numbering_errors

_RIGHT = '#cfe3cf'
_WRONG = '#e8590c'


def draw_numberings(
  numberings: Mapping[str, numbering_errors.Numbering],
  path: str | os.PathLike[str],
) -> pathlib.Path:
  """Draws numberings side by side, one element per line, wrong ones marked.

  Args:
    numberings: by column heading; see `metrics.numbering_errors`.
    path: of the PNG file.

  Returns:
    The path.
  """
  lines = max(
    sum(map(len, numbering.rows)) for numbering in numberings.values()
  )
  figure = matplotlib.figure.Figure(
    figsize=(1.5 * len(numberings), 0.5 + 0.16 * lines),
    layout='constrained',
  )
  grid = figure.subplots(1, len(numberings), squeeze=False)[0]
  for axes, (label, found) in zip(grid, numberings.items(), strict=True):
    line = 0
    for k, row in enumerate(found.rows):
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
    axes.set_ylim(-lines, 1)
    axes.axis('off')
    axes.set_title(f'{label}\n{found.wrong} wrong', fontsize=8)
  return save.save_png(figure, path)
