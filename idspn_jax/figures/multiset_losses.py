"""Reconstruction losses of random multisets (Figures 1, 2 and 3)."""

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.figure
import matplotlib.lines
import numpy as np

_COLORS = {'iDSPN+mom': '#1f4e8c', 'iDSPN': '#5aa9d6', 'DSPN': '#d9480f'}
# What is drawn of a loss: its label and marker.
_MARKS = {
  'paper': ('paper', {'marker': 'o', 'facecolors': 'none', 's': 26}),
  'here': ('here, 1 start', {'marker': 'o', 's': 26}),
  'best': ('here, several starts', {'marker': '*', 's': 60}),
}
_REFERENCE = ('DSPN', 10)  # Relative losses are relative to the paper's.


class Loss(NamedTuple):
  """The losses of one model on one kind of sets.

  Attributes:
    set_size: elements n.
    set_dim: features d.
    iterations: inner steps T.
    model: 'iDSPN+mom', 'iDSPN' or 'DSPN'.
    paper: the paper's mean, or None.
    here: the measured mean with one start, or None.
    best: the least mean with several starts, or None.
    starts: how many these are, or None.
  """

  set_size: int
  set_dim: int
  iterations: int
  model: str
  paper: float | None
  here: float | None = None
  best: float | None = None
  starts: int | None = None


def _mark(axes, x, loss, scale=1.0, x_best=None):
  """Draws a loss at `x`, that of several starts at `x_best` if it differs."""
  for name, (_, style) in _MARKS.items():
    value = getattr(loss, name)
    if value is not None and np.isfinite(value):
      color = _COLORS[loss.model]
      style = {'facecolors': color, **style}
      place = x_best if name == 'best' and x_best is not None else x
      axes.scatter(
        place, value / scale, edgecolors=color, linewidths=0.9, **style
      )


def _finish(axes, ticks, labels, xlabel):
  axes.set_yscale('log')
  axes.set_xticks(ticks, labels)
  axes.set_xlabel(xlabel)
  axes.grid(axis='y', alpha=0.3)


def _legend(figure, **options):
  def line(label, **style):
    return matplotlib.lines.Line2D(
      [], [], linestyle='', label=label, **{'color': '#444444', **style}
    )

  handles = [
    line(model, marker='s', color=color) for model, color in _COLORS.items()
  ]
  for label, style in _MARKS.values():
    face = style.get('facecolors', '#444444')
    handles.append(line(label, marker=style['marker'], markerfacecolor=face))
  figure.legend(handles=handles, frameon=False, fontsize=9, **options)


def _of_kind(losses):
  """Losses by `(n, d)`."""
  kinds = {}
  for loss in losses:
    kinds.setdefault((loss.set_size, loss.set_dim), []).append(loss)
  return kinds


def _selected(losses):
  """The `(n, d)` with most measured models, of these the largest sets."""

  def rank(item):
    (n, d), own = item
    return sum(loss.here is not None for loss in own), n * d

  return max(_of_kind(losses).items(), key=rank)[0]


def _units(loss, computation):
  """Where a loss stands: with one start, and with several."""
  if not computation:
    return loss.iterations, loss.iterations
  unit = loss.iterations * (2 if loss.model == 'DSPN' else 1)
  return unit, unit * (loss.starts or 1)


def draw_selection(
  losses: Sequence[Loss], limited: tuple[int, int] = (16, 32)
) -> matplotlib.figure.Figure:
  """Draws Figure 1: models at equal iterations and at equal computation.

  Left and in the middle are the sets with most measured models, on the right
  sets whose `n·d` is the width of the latent vector. A step of DSPN counts as
  two steps of iDSPN, and the steps of all starts count.

  Args:
    losses: of all models.
    limited: `(n, d)` of the panel on the right.

  Returns:
    The figure.

  Raises:
    ValueError: if there is nothing to draw.
  """
  if not losses:
    raise ValueError('There are no losses to draw.')
  kinds, chosen = _of_kind(losses), _selected(losses)
  figure = matplotlib.figure.Figure(figsize=(11.0, 3.8), layout='constrained')
  panels = figure.subplots(1, 3)
  for axes, kind, equal in (
    (panels[0], chosen, 'iterations'),
    (panels[1], chosen, 'computation'),
    (panels[2], limited, 'iterations'),
  ):
    own = kinds.get(kind, [])
    units = {loss: _units(loss, equal == 'computation') for loss in own}
    ticks = sorted({unit for both in units.values() for unit in both})
    for loss, both in units.items():
      place = 0.22 * ([*_COLORS].index(loss.model) - 1)
      x, x_best = (ticks.index(unit) + place for unit in both)
      _mark(axes, x, loss, x_best=x_best)
    label = 'inner steps T'
    if equal == 'computation':
      label = 'computation (T × starts; DSPN: twice that)'
    _finish(axes, range(len(ticks)), [str(tick) for tick in ticks], label)
    axes.set_title(f'n = {kind[0]}, d = {kind[1]}: equal {equal}', fontsize=10)
  panels[0].set_ylabel('reconstruction loss')
  _legend(figure, loc='outside upper center', ncols=6)
  return figure


def draw_relative(
  losses: Sequence[Loss], fixed: str = 'set_size'
) -> matplotlib.figure.Figure:
  """Draws Figure 2 or 3: losses relative to the paper's DSPN with T = 10.

  Args:
    losses: of all models.
    fixed: what each panel keeps: 'set_size' (Figure 2) or 'set_dim' (Figure 3).

  Returns:
    The figure.

  Raises:
    ValueError: if there is nothing to draw.
  """
  if not losses:
    raise ValueError('There are no losses to draw.')
  other = 'set_dim' if fixed == 'set_size' else 'set_size'
  names = {'set_size': 'n', 'set_dim': 'd'}
  references = {
    kind: loss.paper
    for kind, own in _of_kind(losses).items()
    for loss in own
    if (loss.model, loss.iterations) == _REFERENCE
  }
  settings = sorted({(loss.iterations, loss.model) for loss in losses})
  settings.sort(key=lambda one: (one[0], [*_COLORS].index(one[1])))
  panels = sorted({getattr(loss, fixed) for loss in losses})
  rows = -(-len(panels) // 2)
  figure = matplotlib.figure.Figure(
    figsize=(11.0, 0.8 + 2.7 * rows), layout='constrained'
  )
  grid = figure.subplots(rows, 2, squeeze=False, sharey=True).ravel()
  for axes, value in zip(grid, panels, strict=False):
    own = [loss for loss in losses if getattr(loss, fixed) == value]
    ticks = sorted({getattr(loss, other) for loss in own})
    for loss in own:
      reference = references.get((loss.set_size, loss.set_dim))
      if reference is None:
        continue
      place = settings.index((loss.iterations, loss.model))
      offset = (place - (len(settings) - 1) / 2) * 0.085
      group = ticks.index(getattr(loss, other))
      _mark(axes, group + offset, loss, reference)
    axes.axhline(1.0, color='#888888', linewidth=0.8, zorder=0)
    labels = [str(tick) for tick in ticks]
    _finish(axes, range(len(ticks)), labels, names[other])
    axes.set_title(f'{names[fixed]} = {value}', fontsize=10)
  for axes in grid[len(panels) :]:
    axes.set_axis_off()
  for axes in grid[::2]:
    axes.set_ylabel('relative loss')
  steps = ', '.join(str(t) for t in sorted({one[0] for one in settings}))
  _legend(
    figure,
    loc='outside upper center',
    ncols=6,
    title=f'In every group, from left to right: T = {steps}',
  )
  return figure
