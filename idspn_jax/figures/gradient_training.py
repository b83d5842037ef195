"""How models train under every gradient mode, and what a step costs.

Rows are those of `studies.gradient_training` and `gradient_cost`, as JSON has
them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import numpy as np

Row = Mapping[str, Any]
_MIB = 2**20
_NAMES = {'adam': 'Adam', 'sgd': 'SGD'}


def curve(row: Row) -> tuple[np.ndarray, np.ndarray]:
  """Steps `(K,)` and training losses `(seeds, K)` of a row.

  A loss that is not finite, null in JSON, is NaN.
  """
  loss = np.array(row['loss'], float)
  return row['steps_per_point'] * (1 + np.arange(loss.shape[1])), loss


def draw_training(
  rows: Sequence[Row], seconds: Mapping[str, float], title: str
) -> matplotlib.figure.Figure:
  """Draws training losses against steps and against time.

  Args:
    rows: of one model, all settings and optimisers.
    seconds: of a step, by setting; those without are not drawn against time,
      and without any there are no panels of time.
    title: over the figure.

  Returns:
    The figure: a row of one or two panels per optimiser; lines are means over
    seeds, bands reach from the least to the largest.

  Raises:
    ValueError: if there are no rows.
  """
  if not rows:
    raise ValueError('There are no training curves to draw.')
  optimizers = list(dict.fromkeys(row['optimizer'] for row in rows))
  labels = list(dict.fromkeys(row['setting'] for row in rows))
  names = ('training steps', 'time, s') if seconds else ('training steps',)
  figure = matplotlib.figure.Figure(
    figsize=(5.0 * len(names) + 2.8, 3.6 * len(optimizers)),
    layout='constrained',
  )
  grid = figure.subplots(
    len(optimizers), len(names), squeeze=False, sharey='row'
  )
  for panels, optimizer in zip(grid, optimizers, strict=True):
    for row in rows:
      if row['optimizer'] != optimizer:
        continue
      label = row['setting']
      steps, loss = curve(row)
      style = {'color': f'C{labels.index(label)}'}
      if labels.index(label) >= 10:
        style['linestyle'] = '--'
      for axes, unit in zip(panels, (1.0, seconds.get(label)), strict=False):
        if unit is None:
          continue
        axes.plot(
          unit * steps,
          loss.mean(0),
          linewidth=1.2,
          **style,
          label=f'{label} (rate {row["rate"]:g})',
        )
        axes.fill_between(
          unit * steps,
          loss.min(0),
          loss.max(0),
          alpha=0.15,
          linewidth=0,
          color=style['color'],
        )
    for axes, name in zip(panels, names, strict=True):
      axes.set_yscale('log')
      axes.grid(alpha=0.3, which='both')
      axes.set_xlabel(name)
    panels[0].set_ylabel(f'training loss, {_NAMES.get(optimizer, optimizer)}')
    # Beside the panels, off their curves.
    panels[-1].legend(
      *panels[0].get_legend_handles_labels(),
      loc='center left',
      bbox_to_anchor=(1.0, 0.5),
      frameon=False,
      fontsize=8,
    )
  figure.suptitle(title, fontsize=10)
  return figure


def draw_cost(rows: Sequence[Row], title: str) -> matplotlib.figure.Figure:
  """Draws time and peak memory of a training step under every mode.

  Args:
    rows: from `cost_rows`.
    title: over the figure.

  Returns:
    The figure.

  Raises:
    ValueError: if there are no rows.
  """
  if not rows:
    raise ValueError('There are no costs to draw.')
  labels = list(dict.fromkeys(row['setting'] for row in rows))
  counts = sorted({row['iterations'] for row in rows})
  figure = matplotlib.figure.Figure(
    figsize=(10.0, 1.0 + 0.36 * len(labels)), layout='constrained'
  )
  left, right = figure.subplots(1, 2)
  timed = [row for row in rows if row.get('seconds')]
  left.barh(
    [labels.index(row['setting']) for row in timed],
    [1e3 * row['median_seconds'] for row in timed],
    color='#1f4e8c',
  )
  for row in timed:
    left.plot(
      1e3 * np.array(row['seconds']),
      [labels.index(row['setting'])] * len(row['seconds']),
      linestyle='',
      marker='|',
      color='black',
    )
  left.set_xlabel('time of a training step, ms (bars: medians)')
  height = 0.8 / len(counts)
  for i, count in enumerate(counts):
    own = [row for row in rows if row['iterations'] == count]
    place = [labels.index(row['setting']) for row in own]
    place = np.array(place) - 0.4 + (i + 0.5) * height
    peaks = [row['peak_bytes'] / _MIB for row in own]
    color = ('#1f4e8c', '#d9480f')[i % 2]
    right.barh(place, peaks, height, label=f'T = {count}', color=color)
  right.set_xlabel('peak memory of a training step, MiB')
  right.legend(frameon=False, fontsize=8)
  for axes in (left, right):
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(alpha=0.3, axis='x')
  right.tick_params(labelleft=False)
  figure.suptitle(title, fontsize=10)
  return figure
