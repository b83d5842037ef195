"""Predicted against true numberings, errors marked (Table 8)."""

from collections.abc import Mapping
import textwrap

import matplotlib.figure

from idspn_jax.figures import panels
from idspn_jax.metrics import numbering_errors

_RIGHT = '#cfe3cf'
_WRONG = '#e8590c'
_TITLE_WIDTH = 18  # Letters.


def draw_numberings(
  numberings: Mapping[int | str, numbering_errors.Numbering],
  *,
  trained_with: int | None = None,
) -> matplotlib.figure.Figure:
  """Draws numberings side by side, one element per line, wrong ones marked.

  A wrong number stands before the missing one in whose place it is.

  Args:
    numberings: by number of inner steps, or by label; see
      `metrics.numbering_errors`.
    trained_with: number of inner steps in training; its column is marked.

  Returns:
    The figure.

  Raises:
    ValueError: if there is nothing to draw.
  """
  if not numberings:
    raise ValueError('There are no numberings to draw.')
  lines = max(
    sum(map(len, numbering.rows)) for numbering in numberings.values()
  )
  figure = matplotlib.figure.Figure(
    figsize=(1.4 * len(numberings), 0.6 + 0.16 * lines),
    layout='constrained',
  )
  grid = figure.subplots(1, len(numberings), squeeze=False)[0]
  for axes, (key, found) in zip(grid, numberings.items(), strict=True):
    label = panels.column_label(key, trained_with)
    for line, text in enumerate(numbering_errors.labels(found)):
      axes.text(
        0.5,
        -line,
        text,
        ha='center',
        va='center',
        fontsize=7,
        bbox={
          'facecolor': _WRONG if '≠' in text else _RIGHT,
          'edgecolor': 'none',
          'pad': 1.2,
        },
      )
    axes.set_xlim(0, 1)
    axes.set_ylim(-lines, 1)
    axes.axis('off')
    title = f'{textwrap.fill(label, _TITLE_WIDTH)}\n{found.wrong} wrong'
    axes.set_title(title, fontsize=8, parse_math=False)
  return figure
