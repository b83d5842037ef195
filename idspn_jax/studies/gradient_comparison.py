"""Compares gradient modes on any energy, and writes the comparison down.

    comparison = compare_gradients(energy, inputs, loss)
    print(comparison.text())

`energy(inputs, y)` and `loss(y)` give one number per set. See
`gradient_quality` for what is compared.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step
from idspn_jax.solvers import option_checks
from idspn_jax.studies import gradient_quality
from idspn_jax.studies import gradient_reference as reference_lib
from idspn_jax.studies import gradient_settings
from idspn_jax.studies import tables


class Comparison(NamedTuple):
  """What `compare_gradients` found.

  Attributes:
    rows: from `Quality.compare`: every setting at the optimum, where
      `iterations` is None, and after T inner steps.
    counts: number of sets by status, see `gradient_status.STATUSES`.
    reference: the optima, float64.
  """

  rows: list[dict[str, Any]]
  counts: dict[str, int]
  reference: reference_lib.Reference

  def text(self) -> str:
    """A table of the rows, how many sets count, and how many fell back."""
    parts = [table(self.rows), verdict(self.counts), fell_back(self.rows)]
    return '\n\n'.join(part for part in parts if part)


def verdict(counts: dict[str, int]) -> str:
  """One line that says for how many sets an exact gradient means anything."""
  total = sum(counts.values())
  parts = ', '.join(f'{n} {k}' for k, n in counts.items() if n)
  return f'Of {total} sets: {parts}. Only exact ones are compared.'


def fell_back(rows: Sequence[dict[str, Any]]) -> str:
  """What the numbers are of where solves failed; nothing if none did."""
  if not any(row.get('fallbacks') for row in rows):
    return ''
  return (
    'So many of these sets under `fallback` got the Jacobian-free gradient, '
    'because the solve failed or its solution was longer than max_growth '
    'allows; where all of them did there is no number.'
  )


def number(value: float | None) -> str:
  """Three digits, or a dash where there is no number."""
  return '–' if value is None else f'{value:.3g}'


def table(rows: Sequence[dict[str, Any]]) -> str:
  """Rows of `Quality.compare` as Markdown."""
  head = 'mode', 'at', 'z: cosine', 'norm', 'θ: cosine', 'norm', 'error'
  lines = [[*head, 'scaled', 'fallback']]
  for row in rows:
    t = row.get('iterations')
    z, theta = row['z'], row['theta']
    lines.append(
      [
        row['setting'],
        'optimum' if t is None else f'T = {t}',
        number(z['cosine']['median']),
        number(z['norm_ratio']['median']),
        *(number(theta[name]) for name in gradient_quality.MEASURES),
        number(row.get('fallbacks')),
      ]
    )
  return tables.markdown(lines)


def compare_gradients(
  energy: energy_lib.Energy,
  inputs: energy_lib.Inputs,
  loss: reference_lib.Loss,
  *,
  iterations: int = 10,
  optimizer: inner_step.Optimizer = inner_step.GradientDescent(),  # noqa: B008
  grad_clip: float | None = None,
  settings: Sequence[
    gradient_settings.Setting | gradients.Gradient
  ] = gradient_settings.SETTINGS,
  margins: reference_lib.Margins | None = None,
) -> Comparison:
  """Compares gradient modes with the exact gradient of an argmin.

  For energies without projection. Arrays are cast to float64, in which all is
  computed; the caller's precision does not change.

  Args:
    energy: `energy(inputs, y)`, one number per set, `(B,)`.
    inputs: parameters, z `(B, Z)`, and initial sets `(B, N, D)` with N·D up to
      1,024; gradients are compared with respect to all of them.
    loss: `loss(y)` of sets `(B, N, D)`, one number per set, `(B,)`.
    iterations: T, inner steps.
    optimizer: the inner optimiser.
    grad_clip: see `decode`.
    settings: the modes, such as `Dense(max_growth=1e12)`.
    margins: where the energy has kinks: a function of `(inputs, y)` to
      `(B, K)`, zero at kinks and continuous, see `gradient_reference.Problem`.

  Returns:
    A `Comparison`. Sets whose exact gradient means nothing (a singular or
    indefinite Hessian, an optimum on a kink or not found) are counted and left
    out; without any other set there are no numbers.

  Raises:
    ValueError: if shapes do not fit, the sets are too large, or a setting is
      wrong.
  """
  settings = [gradient_settings.setting_of(setting) for setting in settings]
  iterations = option_checks.integer('iterations', iterations, 0)
  _check_shapes(inputs)
  with jax.enable_x64(True):
    problem = reference_lib.Problem(energy, inputs, loss, margins)
    descent = gradient_quality.Descent(iterations, optimizer, grad_clip)
    quality = gradient_quality.Quality(problem, descent)
    rows = mode_rows(quality, settings)
    return Comparison(rows, quality.reference.counts, quality.reference)


def _check_shapes(inputs):
  for name, axes in (('z', '(B, Z)'), ('initial_set', '(B, N, D)')):
    value = getattr(inputs, name)
    shape = None if value is None else np.shape(value)
    if value is None or len(shape) != axes.count(',') + 1:
      raise ValueError(f'inputs.{name} must have shape {axes}; got {shape}.')
  if 0 in shape:
    raise ValueError(
      f'inputs.initial_set of shape {shape} is empty; compare gradients on at '
      'least one set of at least one number.'
    )


def mode_rows(
  quality: gradient_quality.Quality,
  settings: Sequence[gradient_settings.Setting],
) -> list[dict[str, Any]]:
  """Compares every setting at the optimum, and after T steps as in training."""
  t = quality.descent.iterations
  rows = []
  for setting in settings:
    mode = setting.build()
    if isinstance(mode, gradients.Unrolled):
      rows.append(quality.compare(setting, None, iterations=t))
      continue
    rows.append(quality.compare(setting, quality.at_optimum(), iterations=None))
    point = quality.after(t, mode.linearize_at)
    about = {'iterations': t, 'linearize_at': mode.linearize_at}
    rows.append(quality.compare(setting, point, **about))
  return rows
