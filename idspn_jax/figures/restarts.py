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
