"""What several starts of the inner optimisation bring."""

from collections.abc import Mapping, Sequence

import matplotlib.figure
import numpy as np


def draw_restarts(
  points: Sequence[tuple[int, int]],
  values: Sequence[float],
  label: str,
  paper: Mapping[int, float] | None = None,
) -> matplotlib.figure.Figure:
  """Draws a metric against the total of inner steps, a line per start count.

  Args:
    points: numbers of starts and of inner steps of each start.
    values: the metric at each; on a log scale if all are positive and the
      largest is over ten times the smallest.
    label: name of the metric.
    paper: the paper's values by inner steps, to be marked.

  Returns:
    The figure.

  Raises:
    ValueError: if there is nothing to draw or the lengths differ.
  """
  if not points or len(points) != len(values):
    raise ValueError(
      'Restarts need one value for each of at least one point; got '
      f'{len(points)} points and {len(values)} values.'
    )
  figure = matplotlib.figure.Figure(figsize=(6.0, 4.0), layout='constrained')
  axes = figure.subplots()
  for starts in sorted({starts for starts, _ in points}):
    own = sorted(
      (starts * steps, value)
      for (k, steps), value in zip(points, values, strict=True)
      if k == starts
    )
    name = f'{starts} start' + ('s' if starts > 1 else '')
    axes.plot(*zip(*own, strict=True), marker='o', markersize=4, label=name)
  if paper:
    axes.plot(
      *zip(*sorted(paper.items()), strict=True),
      linestyle='',
      marker='D',
      markersize=6,
      markerfacecolor='none',
      color='#444444',
      label='paper, 1 start',
    )
  finite = np.asarray([*values, *(paper or {}).values()], float)
  finite = finite[np.isfinite(finite)]
  if finite.size and finite.min() > 0 and finite.max() > 10 * finite.min():
    axes.set_yscale('log')
  axes.set_xscale('log', base=2)
  axes.xaxis.set_major_formatter('{x:.0f}')
  axes.set_xlabel('inner steps in all, of all starts')
  axes.set_ylabel(label)
  axes.grid(alpha=0.3)
  axes.legend(frameon=False, fontsize=9)
  return figure


def draw_loss_distributions(
  losses: Mapping[str, np.ndarray],
) -> matplotlib.figure.Figure:
  """Draws which share of the sets has a loss above a value.

  Args:
    losses: of all sets, `(S,)`, by label.

  Returns:
    The figure.

  Raises:
    ValueError: if there is nothing to draw.
  """
  if not losses:
    raise ValueError('There are no losses to draw.')
  figure = matplotlib.figure.Figure(figsize=(6.0, 4.0), layout='constrained')
  axes = figure.subplots()
  for label, values in losses.items():
    values = np.sort(np.asarray(values, float))
    above = 1.0 - np.arange(len(values)) / len(values)
    text = f'{label}, mean {np.mean(values):.1e}'
    axes.step(values, above, where='pre', label=text)
  axes.set_xscale('log')
  axes.set_yscale('log')
  axes.set_xlabel('loss of a set')
  axes.set_ylabel('share of sets above')
  axes.grid(alpha=0.3)
  axes.legend(frameon=False, fontsize=9)
  return figure


def draw_stuck_set(
  truth: np.ndarray,
  first: np.ndarray,
  best: np.ndarray,
  share: np.ndarray,
  energy: np.ndarray,
) -> matplotlib.figure.Figure:
  """Draws a set that one start does not solve, and the energy in between.

  Args:
    truth: the target, `(N, D)`; its first two features are drawn.
    first: what the first start reached, `(N, D)`, in the truth's order.
    best: what the best start reached, likewise.
    share: places on the straight path from `first` (0) to `best` (1), `(P,)`.
    energy: the energy there, `(P,)`.

  Returns:
    The figure.

  Raises:
    ValueError: if the sets are not of one shape or have one feature only.
  """
  if not truth.shape == first.shape == best.shape or truth.shape[-1] < 2:
    raise ValueError(
      'A stuck set needs three sets of one shape (N, D), D >= 2; got '
      f'{truth.shape}, {first.shape} and {best.shape}.'
    )
  figure = matplotlib.figure.Figure(figsize=(10.5, 3.5), layout='constrained')
  left, middle, right = figure.subplots(1, 3)
  for axes, reached, name in (
    (left, first, 'first start'),
    (middle, best, 'start of least energy'),
  ):
    for a, b in zip(truth, reached, strict=True):
      axes.plot(*np.stack([a, b])[:, :2].T, color='#9aa0a6', linewidth=0.8)
    axes.scatter(
      *truth[:, :2].T,
      s=60,
      facecolors='none',
      edgecolors='#1f4e8c',
      label='target',
    )
    axes.scatter(
      *reached[:, :2].T, s=30, marker='x', color='#d9480f', label='result'
    )
    axes.set_title(name, fontsize=10)
    axes.set_aspect('equal', adjustable='datalim')
    axes.grid(alpha=0.3)
  left.legend(frameon=False, fontsize=9)
  right.plot(share, energy, color='#1f4e8c')
  for place, name in ((0.0, 'first'), (1.0, 'best')):
    right.axvline(place, color='#9aa0a6', linewidth=0.8)
    right.annotate(
      name,
      (place, 0.03),
      xytext=(3, 0),
      textcoords='offset points',
      xycoords=('data', 'axes fraction'),
      fontsize=9,
    )
  right.set_yscale('log')
  right.set_xlabel('place on the straight path')
  right.set_ylabel('energy')
  right.set_title('energy between the two results', fontsize=10)
  right.grid(alpha=0.3)
  return figure
