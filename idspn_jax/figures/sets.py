"""Grids of predicted sets over their targets: examples by inner steps."""

from collections.abc import Mapping, Sequence
import textwrap

import matplotlib.colors
import matplotlib.figure
import matplotlib.lines
import numpy as np

from idspn_jax.figures import panels
from idspn_jax.figures import set_panels

_TRUE = '#1f4e8c'
_GUESS = '#d9480f'
_LINE = '#9aa0a6'
_THRESHOLD = set_panels.THRESHOLD
_NAME_WIDTH = 28  # Letters.
_TICKS = 6  # At most; their labels must not meet.


def _draw(axes, panel, limits):
  exists = panel.truth_presence > _THRESHOLD
  counted = panel.guess_presence > _THRESHOLD
  for i, j in zip(*panel.pairs[:2], strict=True):
    if counted[i] and exists[j]:
      ends = np.stack([panel.guess[i], panel.truth[j]])
      axes.plot(*ends.T, color=_LINE, linewidth=0.8, zorder=1)
  axes.scatter(
    *panel.truth[exists].T,
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


def _text(panel, has_presence):
  loss = panel.pairs.loss
  text = f'loss {loss:.2g}' if np.isfinite(loss) else 'non-finite'
  if has_presence:
    predicted = np.sum(panel.guess_presence > _THRESHOLD)
    true = np.sum(panel.truth_presence > _THRESHOLD)
    text = f'{predicted} predicted / {true} true, {text}'
  return text


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


def _axis_names(feature_names, features):
  """What the two axes show."""
  if feature_names is None:
    names = [f'feature {d + 1}' for d in range(features)]
  elif isinstance(feature_names, str) or len(feature_names) != features:
    raise ValueError(
      f'feature_names needs {features} names, one per feature (presence is '
      f'none); got {feature_names!r}.'
    )
  else:
    names = [textwrap.fill(str(name), _NAME_WIDTH) for name in feature_names]
  return (names[0], names[1] if features > 1 else 'elements, by value')


def _dress(axes, names, row, is_first, is_last):
  """Labels at the left and lower edge of the grid only."""
  axes.tick_params(labelsize=7, length=2.5)
  axes.locator_params(nbins=_TICKS)
  for axis in (axes.xaxis, axes.yaxis):
    axis.get_offset_text().set_fontsize(7)
  axes.set_box_aspect(1)
  style = {'fontsize': 8, 'parse_math': False}
  if is_first:
    axes.set_ylabel(f'set {row + 1}\n{names[1]}', **style)
  else:
    axes.tick_params(labelleft=False)
  if is_last:
    axes.set_xlabel(names[0], **style)


def _draw_grid(
  targets, predictions, has_presence, feature_names, equal, trained_with
):
  targets, predictions = panels.check_panels(targets, predictions)
  features = targets.shape[-1] - has_presence
  if features < 1:
    raise ValueError('Sets with presence need at least two features; got one.')
  names = _axis_names(feature_names, features)
  figure, grid = panels.make_grid(len(targets), len(predictions))
  for e, truth in enumerate(targets):
    row = [
      set_panels.make_panel(truth, p[e], has_presence)
      for p in predictions.values()
    ]
    limits = set_panels.limits_of(row, equal=equal and features > 1)
    for column, key in enumerate(predictions):
      axes = grid[e, column]
      _draw(axes, row[column], limits)
      axes.set_xlim(*limits[:, 0])
      axes.set_ylim(*limits[:, 1])
      head = panels.column_label(key, trained_with)
      panels.set_title(axes, head, _text(row[column], has_presence))
      _dress(axes, names, e, column == 0, e == len(targets) - 1)
      if features == 1:
        axes.set_yticks([])
  _legend(figure, has_presence)
  return figure


def draw_random_sets(
  targets: np.ndarray,
  predictions: Mapping[int | str, np.ndarray],
  *,
  feature_names: Sequence[str] | None = None,
  equal: bool = True,
  trained_with: int | None = None,
) -> matplotlib.figure.Figure:
  """Draws predictions over targets, one row per set, one column per T
  (or label).

  The first two features are the axes; of a single feature, the second axis is
  the rank. Lines join the pairs of the best matching, whose smooth-L1 loss over
  all features is in the title. Limits are the same along a row.

  Args:
    targets: `(E, M, D)`.
    predictions: sets `(E, N, D)` by number of inner steps, or by label.
    feature_names: D names for the axes; None for `feature 1`, `feature 2`.
    equal: give both axes one scale; false for features of different units.
    trained_with: number of inner steps in training; its column is marked.

  Returns:
    The figure.

  Raises:
    ValueError: if there is nothing to draw, or shapes or names do not fit.
  """
  return _draw_grid(
    targets, predictions, False, feature_names, equal, trained_with
  )


def draw_sets_with_presence(
  targets: np.ndarray,
  predictions: Mapping[int | str, np.ndarray],
  *,
  feature_names: Sequence[str] | None = None,
  equal: bool = True,
  trained_with: int | None = None,
) -> matplotlib.figure.Figure:
  """As `draw_random_sets`, for sets whose last feature is presence.

  A prediction is as opaque as it is present; above 0.5 it counts and is joined
  to its target. The loss is the training loss: over all features, presence
  and padding included.

  Args:
    targets: `(E, M, D + 1)`, padded rows zero.
    predictions: sets `(E, N, D + 1)` by number of inner steps, or by label.
    feature_names: D names for the axes, without presence; None for
      `feature 1`, `feature 2`.
    equal: give both axes one scale; false for features of different units.
    trained_with: number of inner steps in training; its column is marked.

  Returns:
    The figure.

  Raises:
    ValueError: if there is nothing to draw, or shapes or names do not fit.
  """
  return _draw_grid(
    targets, predictions, True, feature_names, equal, trained_with
  )
