"""Grids of predicted sets over their targets: examples by inner steps."""

from collections.abc import Mapping
import os
import pathlib

import matplotlib.colors
import matplotlib.figure
import matplotlib.lines
import numpy as np

from idspn_jax.figures import panels
from idspn_jax.figures import save
from idspn_jax.figures import set_panels

_TRUE = '#1f4e8c'
_GUESS = '#d9480f'
_LINE = '#9aa0a6'
_THRESHOLD = set_panels.THRESHOLD


def _draw(axes, panel, limits):
  there = panel.truth_presence > _THRESHOLD
  counted = panel.guess_presence > _THRESHOLD
  for i, j in zip(*panel.pairs[:2], strict=True):
    if counted[i] and there[j]:
      ends = np.stack([panel.guess[i], panel.truth[j]])
      axes.plot(*ends.T, color=_LINE, linewidth=0.8, zorder=1)
  axes.scatter(
    *panel.truth[there].T,
    s=34,
    facecolors='none',
    edgecolors=_TRUE,
    linewidths=1.1,
    zorder=2,
  )
  color = np.tile(matplotlib.colors.to_rgba(_GUESS), (len(panel.guess), 1))
  color[:, 3] = np.clip(panel.guess_presence, 0.0, 1.0)
  axes.scatter(
    *panel.guess.T, s=22, marker='x', color=color, linewidths=1.2, zorder=3
  )
  inside = np.all((panel.guess >= limits[0]) & (panel.guess <= limits[1]), -1)
  panels.note_outside(axes, int(np.sum(counted & ~inside)))


def _title(column, panel, has_presence):
  loss = panel.pairs.loss
  text = f'loss {loss:.2g}' if np.isfinite(loss) else 'not finite'
  if has_presence:
    predicted = np.sum(panel.guess_presence > _THRESHOLD)
    true = np.sum(panel.truth_presence > _THRESHOLD)
    text = f'{predicted} predicted / {true} true, {text}'
  return f'{panels.column_label(column)}\n{text}'


def _legend(figure, has_presence):
  def mark(label, **style):
    return matplotlib.lines.Line2D([], [], label=label, **style)

  guess = 'prediction (opacity: presence)' if has_presence else 'prediction'
  figure.legend(
    handles=[
      mark('true element', marker='o', ls='', mfc='none', mec=_TRUE),
      mark(guess, marker='x', ls='', color=_GUESS),
      mark('matched pair', color=_LINE, linewidth=1.0),
    ],
    loc='outside upper center',
    ncols=3,
    frameon=False,
    fontsize=8,
    handletextpad=0.4,
    columnspacing=1.4,
  )


def _dress(axes, e, column, num_rows, one_feature):
  """Labels at the left and lower edge of the grid only."""
  axes.tick_params(labelsize=7, length=2.5)
  axes.set_box_aspect(1)
  if one_feature:
    axes.set_yticks([])
  vertical = 'elements, by value' if one_feature else 'feature 2'
  if column == 0:
    axes.set_ylabel(f'set {e + 1}\n{vertical}', fontsize=8)
  else:
    axes.tick_params(labelleft=False)
  if e == num_rows - 1:
    axes.set_xlabel('feature 1', fontsize=8)


def _draw_grid(targets, predictions, path, has_presence):
  targets, predictions = panels.check_panels(targets, predictions)
  features = targets.shape[-1] - has_presence
  if features < 1:
    raise ValueError('Sets with presence need at least two features; got one.')
  figure, grid = panels.make_grid(len(targets), len(predictions))
  for e, truth in enumerate(targets):
    row = [
      set_panels.make_panel(truth, p[e], has_presence)
      for p in predictions.values()
    ]
    limits = set_panels.limits_of(row, equal=features > 1)
    for column, key in enumerate(predictions):
      axes = grid[e, column]
      _draw(axes, row[column], limits)
      axes.set_xlim(*limits[:, 0])
      axes.set_ylim(*limits[:, 1])
      axes.set_title(_title(key, row[column], has_presence), fontsize=8)
      _dress(axes, e, column, len(targets), features == 1)
  _legend(figure, has_presence)
  return save.save_png(figure, path)


def draw_random_sets(
  targets: np.ndarray,
  predictions: Mapping[int | str, np.ndarray],
  path: str | os.PathLike[str],
) -> pathlib.Path:
  """Draws predictions over targets, one row per set, one column per T
  (or label).

  The first two features are the axes; of a single feature, the second axis is
  the rank. Lines join the pairs of the best matching, whose smooth-L1 loss over
  all features is in the title. Scales are equal along a row.

  Args:
    targets: `(E, M, D)`.
    predictions: sets `(E, N, D)` by number of inner steps, or by label.
    path: of the PNG file.

  Returns:
    The path.

  Raises:
    ValueError: if there is nothing to draw or shapes do not fit.
  """
  return _draw_grid(targets, predictions, path, has_presence=False)


def draw_sets_with_presence(
  targets: np.ndarray,
  predictions: Mapping[int | str, np.ndarray],
  path: str | os.PathLike[str],
) -> pathlib.Path:
  """As `draw_random_sets`, for sets whose last feature is presence.

  A prediction is as opaque as it is present; above 0.5 it counts and is joined
  to its target. The loss is the training loss: over all features, presence
  and padding included.

  Args:
    targets: `(E, M, D + 1)`, padded rows zero.
    predictions: sets `(E, N, D + 1)` by number of inner steps, or by label.
    path: of the PNG file.

  Returns:
    The path.

  Raises:
    ValueError: if there is nothing to draw or shapes do not fit.
  """
  return _draw_grid(targets, predictions, path, has_presence=True)
