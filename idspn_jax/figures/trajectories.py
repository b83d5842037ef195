"""Convergence: the inner problem over its steps, the losses over training."""

from collections.abc import Mapping

import matplotlib.figure
import numpy as np

from idspn_jax.figures import panels

_COLOR = '#1f4e8c'
_STYLES = ('-', '--', ':')
# Curves of more points are noise: they are drawn faint, with a running median.
_MANY_POINTS = 200


def _check_trajectory(name, values):
  values = np.asarray(values, np.float64)
  if values.ndim != 2 or 0 in values.shape:
    raise ValueError(
      f'The {name} needs shape (T + 1, B), none zero; got {values.shape}.'
    )
  return values


def _scale(axes, values):
  """A log scale, unless no value has a logarithm."""
  if np.any(values > 0):
    axes.set_yscale('log')


def _mark_trained(axes, steps, at_end):
  """Marks the number of inner steps in training, beside the falling curve."""
  axes.axvline(steps, color='black', linestyle=':', linewidth=1.0, zorder=1)
  axes.annotate(
    panels.column_label(steps, steps),
    (steps, 0.98),
    xycoords=('data', 'axes fraction'),
    xytext=(-3 if at_end else 3, 0),
    textcoords='offset points',
    ha='right' if at_end else 'left',
    va='top',
    fontsize=7,
  )


def _draw_band(axes, values, label, trained_with):
  """Median and 10-90% band over the sets that stay finite and positive."""
  finite = np.all(np.isfinite(values), axis=0)
  steps = np.arange(len(values))
  if np.any(finite):
    low, middle, high = np.quantile(values[:, finite], [0.1, 0.5, 0.9], axis=1)
    axes.fill_between(steps, low, high, color=_COLOR, alpha=0.2, linewidth=0)
    axes.plot(steps, middle, color=_COLOR, marker='o', markersize=3)
  _scale(axes, values[:, finite])
  title = f'{label}: median, 10–90% of {np.sum(finite)} sets'
  if not np.all(finite):
    title += f'\n({np.sum(~finite)} more became non-finite)'
  axes.set_title(title, fontsize=9)
  if trained_with is not None and trained_with < len(values):
    _mark_trained(axes, trained_with, at_end=trained_with > 0.7 * len(values))
  axes.set_xlabel('inner step', fontsize=9)
  axes.set_ylabel(label, fontsize=9)
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.tick_params(labelsize=8)
  axes.grid(alpha=0.3)


def draw_trajectory(
  energy: np.ndarray,
  residual: np.ndarray,
  *,
  trained_with: int | None = None,
) -> matplotlib.figure.Figure:
  """Draws how the inner problem converges, on log scales.

  Args:
    energy: energies along the trajectory, `(T + 1, B)`.
    residual: norms of the optimality condition along it, `(T + 1, B)`.
    trained_with: number of inner steps in training, which is marked.

  Returns:
    The figure.

  Raises:
    ValueError: if shapes do not fit.
  """
  energy = _check_trajectory('energy', energy)
  residual = _check_trajectory('residual', residual)
  figure = matplotlib.figure.Figure(figsize=(8.5, 3.4), layout='constrained')
  left, right = figure.subplots(1, 2)
  _draw_band(left, energy, 'energy', trained_with)
  _draw_band(right, residual, 'residual', trained_with)
  return figure


def _running_median(steps, losses):
  """Some 400 points of the median over a hundredth of the curve."""
  half = max(len(steps) // 200, 1)
  windows = np.lib.stride_tricks.sliding_window_view(
    np.pad(losses, half, mode='reflect'), 2 * half + 1
  )
  at = np.linspace(0, len(steps) - 1, min(len(steps), 400)).astype(int)
  return steps[at], np.median(windows[at], axis=-1)


def _draw_curve(axes, label, steps, losses, index):
  # Matplotlib leaves labels that begin with an underscore out of legends.
  label = f' {label}' if label.startswith('_') else label
  style = _STYLES[index // 10 % len(_STYLES)]
  color = f'C{index % 10}'
  if len(steps) <= _MANY_POINTS:
    axes.plot(steps, losses, style, color=color, label=label, marker='.')
    return
  axes.plot(steps, losses, color=color, alpha=0.2, linewidth=0.6)
  axes.plot(*_running_median(steps, losses), style, color=color, label=label)


def draw_losses(
  curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> matplotlib.figure.Figure:
  """Draws learning curves on a log scale.

  Curves of many points are drawn faint, with a running median on top. NaN and
  infinite values leave gaps; what is not positive lies below the lower edge.

  Args:
    curves: steps and losses, both `(K,)`, by label.

  Returns:
    The figure.

  Raises:
    ValueError: if there is nothing to draw or shapes do not fit.
  """
  if not curves:
    raise ValueError('There are no learning curves to draw.')
  figure = matplotlib.figure.Figure(figsize=(7.5, 4.2), layout='constrained')
  axes = figure.subplots()
  for index, (label, (steps, losses)) in enumerate(curves.items()):
    steps, losses = np.asarray(steps), np.asarray(losses, np.float64)
    if steps.ndim != 1 or steps.shape != losses.shape or not steps.size:
      raise ValueError(
        f'The curve {label!r} needs steps and losses of one shape (K,), not '
        f'empty; got {steps.shape} and {losses.shape}.'
      )
    _draw_curve(axes, label, steps, losses, index)
  _scale(axes, np.concatenate([losses for _, losses in curves.values()]))
  axes.set_xlabel('training step')
  axes.set_ylabel('loss')
  axes.grid(alpha=0.3, which='major')
  legend = figure.legend(loc='outside right upper', frameon=False, fontsize=9)
  for text in legend.get_texts():
    text.set_parse_math(False)
  return figure
