"""What grids of panels share: checks of their data and a note in a corner."""

from collections.abc import Mapping
import textwrap

import matplotlib.axes
import matplotlib.figure
import numpy as np

_TITLE_WIDTH = 36  # Letters.


def column_label(key: int | str, trained_with: int | None = None) -> str:
  """Heads a column: a number of inner steps as `T = …`, any text as it is.

  Args:
    key: number of inner steps, or text.
    trained_with: number of inner steps in training, which is marked.
  """
  if isinstance(key, str):
    return key
  return f'T = {key} (trained)' if key == trained_with else f'T = {key}'


def set_title(axes: matplotlib.axes.Axes, head: str, text: str) -> None:
  """Writes a heading, broken into lines, and a line of text over a panel."""
  lines = textwrap.wrap(head, _TITLE_WIDTH) or ['']
  # Names are users' own: a dollar sign is no mathematics.
  axes.set_title('\n'.join([*lines, text]), fontsize=8, parse_math=False)


def check_panels(
  targets: np.ndarray,
  predictions: Mapping[int | str, np.ndarray],
  num_features: int | None = None,
) -> tuple[np.ndarray, dict[int | str, np.ndarray]]:
  """Checks what a grid of panels shows.

  Args:
    targets: `(E, M, D)`.
    predictions: sets `(E, N, D)` by number of inner steps, or by label.
    num_features: the D that is required, or None for any.

  Returns:
    The same as NumPy arrays, numbered predictions in order.

  Raises:
    ValueError: if there is nothing to draw or shapes do not fit.
  """
  targets = np.asarray(targets)
  if targets.ndim != 3 or 0 in targets.shape:
    raise ValueError(
      f'Targets need shape (E, N, D), none zero; got {targets.shape}.'
    )
  if num_features is not None and targets.shape[-1] != num_features:
    raise ValueError(
      f'Targets need {num_features} features; got {targets.shape[-1]}.'
    )
  if not predictions:
    raise ValueError('There are no predictions to draw.')
  keys = list(predictions)
  if not any(isinstance(key, str) for key in keys):
    keys.sort()
  ordered = {key: np.asarray(predictions[key]) for key in keys}
  for key, sets in ordered.items():
    fits = sets.ndim == 3 and 0 not in sets.shape
    if not fits or sets.shape[::2] != targets.shape[::2]:
      raise ValueError(
        f'Predictions for {column_label(key)} have shape {sets.shape}; targets '
        f'of shape {targets.shape} need the same examples and features.'
      )
  return targets, ordered


def make_grid(
  num_rows: int, num_columns: int
) -> tuple[matplotlib.figure.Figure, np.ndarray]:
  """Makes a figure of square panels and room for a legend above.

  Returns:
    The figure, and its axes, `(num_rows, num_columns)`.
  """
  side = min(max(2.25, 5.0 / num_columns), 3.2)
  figure = matplotlib.figure.Figure(
    figsize=(
      max(side * num_columns + 0.6, 5.6),
      (side + 0.55) * num_rows + 0.6,
    ),
    layout='constrained',
  )
  grid = figure.subplots(num_rows, num_columns, squeeze=False)
  return figure, grid


def note_outside(axes: matplotlib.axes.Axes, count: int) -> None:
  """Writes into the lower right corner how many elements are off the panel."""
  if count:
    axes.text(
      0.97,
      0.03,
      f'{count} outside',
      transform=axes.transAxes,
      ha='right',
      va='bottom',
      fontsize=7,
      bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 1.5},
      zorder=9,
    )
