"""How good the gradient modes are, what they cost, and how they train.

Rows are those of `studies.gradient_quality`, `gradient_sweeps`,
`gradient_cost` and `gradient_training`, as JSON has them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.axes
import matplotlib.figure
import numpy as np

Row = Mapping[str, Any]

_DARK, _LIGHT = '#1f4e8c', '#d9480f'
# Longer gaps than usual: solid and dashed lines of one colour, side by side.
_DASHED = (0, (4, 4))


def _check(rows, what):
  if not rows:
    raise ValueError(f'There are no {what} to draw.')


def _value(number):
  return np.nan if number is None else float(number)


def _figure(columns, rows=1, width=4.6, height=3.6):
  figure = matplotlib.figure.Figure(
    figsize=(width * columns, height * rows), layout='constrained'
  )
  return figure, figure.subplots(rows, columns, squeeze=False)


def _finish(axes: matplotlib.axes.Axes, x: str, y: str) -> None:
  axes.set_xlabel(x)
  axes.set_ylabel(y)
  axes.grid(alpha=0.3)


def _legend_below(
  figure: matplotlib.figure.Figure, *every: matplotlib.axes.Axes, columns=4
) -> None:
  """One legend of these axes under the figure, off their curves."""
  found = {}
  for axes in every:
    handles, names = axes.get_legend_handles_labels()
    found.update(zip(names, handles, strict=True))
  figure.legend(
    found.values(),
    found.keys(),
    loc='outside lower center',
    ncols=columns,
    frameon=False,
    fontsize=8,
  )


def _log(axes: matplotlib.axes.Axes, x: bool = True, y: bool = True) -> None:
  """Log scales, where there is anything that has a logarithm."""
  lines = [np.asarray(line.get_xydata(), float) for line in axes.get_lines()]
  points = np.concatenate([np.zeros((0, 2)), *lines])
  if not np.any(np.all(np.isfinite(points) & (points > 0), axis=-1)):
    axes.text(0.5, 0.5, 'no exact sets', transform=axes.transAxes, ha='center')
    return
  if x:
    axes.set_xscale('log')
  if y:
    axes.set_yscale('log')


def _quartiles(rows, measure):
  """Median and quartiles of z, `(3, R)`."""
  names = ('median', 'q25', 'q75')
  return np.array([[_value(r['z'][measure][n]) for r in rows] for n in names])


def draw_modes(rows: Sequence[Row], title: str) -> matplotlib.figure.Figure:
  """Draws every mode's angle to the exact gradient and its norm.

  Args:
    rows: the section `modes`.
    title: over the figure.

  Returns:
    The figure: cosines of the parameters' gradient, at the optimum and after T
    steps, and norm ratios; z's medians and quartiles beside them.

  Raises:
    ValueError: if there are no rows.
  """
  _check(rows, 'modes')
  labels = list(dict.fromkeys(row['setting'] for row in rows))
  figure, grid = _figure(2, width=5.2, height=0.9 + 0.36 * len(labels))
  for axes, measure in zip(grid[0], ('cosine', 'norm_ratio'), strict=True):
    for at_optimum, color, shift in (
      (True, _DARK, -0.17),
      (False, _LIGHT, 0.17),
    ):
      own = [r for r in rows if (r['iterations'] is None) == at_optimum]
      if not own:
        continue
      t = own[0]['iterations']
      place = np.array([labels.index(r['setting']) for r in own]) + shift
      middle, low, high = _quartiles(own, measure)
      name = 'optimum' if at_optimum else f'T = {t}'
      axes.errorbar(
        middle,
        place,
        xerr=np.abs([middle - low, high - middle]),
        linestyle='',
        marker='|',
        color=color,
        alpha=0.6,
        label=f'z, sets’ quartiles, {name}',
      )
      axes.plot(
        [_value(r['theta'][measure]) for r in own],
        place,
        linestyle='',
        marker='o',
        markersize=5,
        color=color,
        label=f'parameters, {name}',
      )
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1.0, color='black', linewidth=0.8, linestyle=':')
    axes.grid(alpha=0.3)
  left, right = grid[0]
  left.set_xlabel('cosine with the exact gradient')
  right.set_xlabel('norm relative to the exact gradient')
  _log(right, y=False)
  right.tick_params(labelleft=False)
  _legend_below(figure, left, columns=2)
  figure.suptitle(title, fontsize=10)
  return figure


def draw_iterations(
  rows: Sequence[Row], residuals: Sequence[Row], trained_with: int, title: str
) -> matplotlib.figure.Figure:
  """Draws gradient quality and residual against inner steps.

  Args:
    rows: the section `iterations`.
    residuals: `iterations`, and `q25`, `median` and `q75` of the residual.
    trained_with: the model's T, marked.
    title: over the figure.

  Returns:
    The figure.

  Raises:
    ValueError: if there are no rows.
  """
  _check(rows, 'numbers of inner steps')
  figure, grid = _figure(3, height=4.1)
  lines: dict[str, list[Row]] = {}
  for row in rows:
    final = row['linearize_at'] == 'final'
    label = row['setting'] + (' at Y_T' if final else '')
    lines.setdefault(label, []).append(row)
  colors = {}
  for label, own in lines.items():
    base = own[0]['setting']
    colors.setdefault(base, f'C{len(colors)}')
    style = _DASHED if label != base else '-'
    for axes, measure in zip(
      grid[0, :2], ('cosine', 'norm_ratio'), strict=True
    ):
      t = [row['iterations'] for row in own]
      axes.plot(
        t,
        [_value(row['theta'][measure]) for row in own],
        linestyle=style,
        color=colors[base],
        marker='o' if style == '-' else 'x',
        markersize=3 if style == '-' else 5,
        label=label,
      )
      if style == '-':
        _, low, high = _quartiles(own, measure)
        axes.fill_between(
          t, low, high, color=colors[base], alpha=0.1, linewidth=0
        )
  left, middle, right = grid[0]
  _finish(left, 'inner steps T', 'cosine with the exact gradient')
  _finish(middle, 'inner steps T', 'norm relative to the exact gradient')
  _log(middle, x=False)
  t = [row['iterations'] for row in residuals]
  right.plot(t, [row['median'] for row in residuals], color=_DARK)
  right.fill_between(
    t,
    [row['q25'] for row in residuals],
    [row['q75'] for row in residuals],
    color=_DARK,
    alpha=0.2,
    linewidth=0,
    label='quartiles of all sets',
  )
  _finish(right, 'inner steps T', 'norm of the inner gradient')
  right.set_yscale('log')
  right.legend(frameon=False, fontsize=8)
  for axes in grid[0]:
    axes.set_xscale('log')
    axes.xaxis.set_major_formatter('{x:g}')
    axes.axvline(trained_with, color='black', linestyle=':', linewidth=0.8)
  _legend_below(figure, left)
  left.set_title('lines: parameters; bands: quartiles of z', fontsize=8)
  figure.suptitle(title, fontsize=10)
  return figure


def draw_sweeps(
  gamma: Sequence[Row], cg: Sequence[Row], neumann: Sequence[Row], title: str
) -> matplotlib.figure.Figure:
  """Draws errors at the optimum against the modes' options.

  Args:
    gamma: the section `gamma`.
    cg: the section `cg_iterations`.
    neumann: the section `neumann`.
    title: over the figure.

  Returns:
    The figure; the errors are of the parameters' gradient.

  Raises:
    ValueError: if there are no rows.
  """
  for rows in (gamma, cg, neumann):
    _check(rows, 'rows of options')
  figure, grid = _figure(3, height=4.1)
  panels = (
    (gamma, 'gamma', 'γ of regularised CG'),
    (cg, 'iterations', 'steps of CG'),
    (neumann, 'terms', 'terms of the Neumann series + 1'),
  )
  for axes, (rows, option, name) in zip(grid[0], panels, strict=True):
    rows = [row for row in rows if row['iterations'] is None]
    scales = sorted({row['options'].get('scale', 1.0) for row in rows})
    for i, scale in enumerate(scales):
      own = [r for r in rows if r['options'].get('scale', 1.0) == scale]
      # Where all sets fell back to Jacobian-free there is no number.
      x = [r['options'][option] + (option == 'terms') for r in own]
      tag = f', s = {scale:g}' if option == 'terms' else ''
      for measure, style, text in (
        ('error', '-', 'error'),
        ('scaled_error', _DASHED, 'after the best scaling'),
      ):
        y = [max(_value(r['theta'][measure]), 1e-16) for r in own]
        axes.plot(
          x,
          y,
          linestyle=style,
          color=f'C{i}',
          marker='o' if style == '-' else 'x',
          markersize=3 if style == '-' else 5,
          label=text + tag,
        )
    _log(axes)
    if option != 'gamma':
      axes.xaxis.set_major_formatter('{x:g}')
    _finish(axes, name, 'relative error at the optimum')
  _legend_below(figure, grid[0, 0], grid[0, 2], columns=4)
  figure.suptitle(title, fontsize=10)
  return figure


def draw_sets(sets: Sequence[Row], title: str) -> matplotlib.figure.Figure:
  """Draws for every set whether an exact gradient means anything.

  Args:
    sets: `status`, `residual`, `kink`, `smallest` and `largest` eigenvalue.
    title: over the figure.

  Returns:
    The figure: residual against the distance to the nearest kink, and the
    extreme eigenvalues of the Hessian.

  Raises:
    ValueError: if there are no sets.
  """
  _check(sets, 'sets')
  figure, grid = _figure(2)
  left, right = grid[0]
  statuses = list(dict.fromkeys(row['status'] for row in sets))
  for i, status in enumerate(statuses):
    own = [row for row in sets if row['status'] == status]
    label = f'{status}: {len(own)} sets'
    kink = np.array([_value(row['kink']) for row in own])
    # JSON has no infinity: an energy without kinks has no distance either.
    kink = np.where(np.isfinite(kink), np.maximum(kink, 1e-17), 1.0)
    residual = [max(_value(row['residual']), 1e-17) for row in own]
    left.plot(
      kink,
      residual,
      linestyle='',
      marker='o',
      markersize=4,
      alpha=0.7,
      color=f'C{i}',
      label=label,
    )
    for name, marker in (('smallest', 'v'), ('largest', '^')):
      values = np.sort([_value(row[name]) for row in own])
      right.plot(
        values,
        (np.arange(len(values)) + 1) / len(values),
        linestyle='-',
        marker=marker,
        markersize=3,
        color=f'C{i}',
        label=f'{name}, {status}',
      )
  left.set_xscale('log')
  left.set_yscale('log')
  if all(row['kink'] is None for row in sets):
    left.set_xticks([])
    _finish(left, 'no kinks', 'norm of the inner gradient at the optimum')
  else:
    _finish(
      left,
      'distance of the optimum to the nearest kink',
      'norm of the inner gradient at the optimum',
    )
  _finish(right, 'eigenvalue of the Hessian', 'share of sets up to here')
  extremes = [_value(row[n]) for row in sets for n in ('smallest', 'largest')]
  if np.nanmin(extremes) > 0:
    right.set_xscale('log')
  for axes in (left, right):
    axes.legend(frameon=False, fontsize=7)
  figure.suptitle(title, fontsize=10)
  return figure
