"""What the study's numbers say: which mode is closest, trains best, costs what.

Every answer is computed from rows of the study; none is written down here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from idspn_jax.studies import gradient_comparison
from idspn_jax.studies import gradient_cost

Row = Mapping[str, Any]
_MIB = 2**20
# Memory budgets, relative to the mode that takes least.
BUDGETS = (1.05, 1.5, 3.0, np.inf)
# A mode is as good as the best if its error or loss is within this share.
_EQUAL = 0.02
# A gradient with a larger error is as good as unrelated to the exact one.
_FAR = 0.9


def seconds_per_step(cost: Sequence[Row]) -> dict[str, float]:
  """Median seconds of a training step, by setting."""
  return {
    row['setting']: row['median_seconds']
    for row in cost
    if row.get('median_seconds') is not None
  }


def _join(names):
  return ' = '.join(names)


def _best(values):
  """The names of the least value, and of those equal to it up to 2 %."""
  least = min(values.values())
  names = [k for k, v in values.items() if v <= (1 + _EQUAL) * least + 1e-12]
  return _join(names), least


def closest(modes: Sequence[Row]) -> list[str]:
  """Which mode's parameter gradient is closest to exact, after any scaling.

  Args:
    modes: the section `modes`.
  """
  found = []
  for at_optimum in (True, False):
    own = [r for r in modes if (r['iterations'] is None) == at_optimum]
    errors = {
      row['setting']: row['theta']['scaled_error']
      for row in own
      if row['theta']['scaled_error'] is not None
    }
    if not errors:
      continue
    name, least = _best(errors)
    where = (
      'At the optimum'
      if at_optimum
      else (f'After T = {own[0]["iterations"]} steps, as in training,')
    )
    if least > _FAR:
      found.append(
        f'{where} no mode is close to exact: after the best scaling the least '
        f'relative error is {least:.2g}.'
      )
      continue
    free = errors.get('Jacobian-free')
    beside = '' if free is None else f'; Jacobian-free {free:.2g}'
    found.append(
      f'{where} the gradient of the parameters is closest to exact with '
      f'{name}: relative error {least:.2g} after the best scaling{beside}.'
    )
  if not found:
    found.append('No set has an exact gradient; there is nothing to compare.')
  return found


def _loss_at(row, step):
  """Mean training loss over seeds at a step, by interpolation."""
  loss = np.array(row['loss'], float)
  steps = row['steps_per_point'] * (1 + np.arange(loss.shape[1]))
  return float(np.interp(step, steps, loss.mean(0)))


def training_table(
  rows: Sequence[Row], cost: Sequence[Row]
) -> list[dict[str, Any]]:
  """Which mode trains best: at equal steps, at equal time, and with what.

  Args:
    rows: of one model and optimiser.
    cost: see `gradient_cost.cost_rows`, of that model.

  Returns:
    A row per mode: its rate, `test_loss` (mean and standard deviation over
    seeds) after all steps, the training loss at the time that the fastest mode
    takes for all of them, seconds per step, and peak MiB.
  """
  seconds = seconds_per_step(cost)
  t = min((row['iterations'] for row in cost), default=None)
  peak = {r['setting']: r['peak_bytes'] for r in cost if r['iterations'] == t}
  known = [row for row in rows if row['setting'] in seconds]
  budget = min(
    (seconds[row['setting']] * row['steps'] for row in known), default=None
  )
  found = []
  for row in rows:
    name = row['setting']
    test = np.array(row['test_loss'], float)
    own = {
      'mode': name,
      'rate': row['rate'],
      'rate at the edge': row['at_edge'],
      'fallbacks a step': float(np.mean(row['fallbacks'])),
      'test loss': float(test.mean()),
      'std': float(test.std(ddof=1)) if len(test) > 1 else None,
      'loss at equal time': None,
      's a step': seconds.get(name),
      'MiB': peak[name] / _MIB if name in peak else None,
    }
    if budget is not None and name in seconds:
      own['loss at equal time'] = _loss_at(row, budget / seconds[name])
    found.append(own)
  return found


def trains_best(table: Sequence[Row]) -> list[str]:
  """Sentences on a table of `training_table`."""
  losses = {
    row['mode']: row['test loss']
    for row in table
    if np.isfinite(row['test loss'])
  }
  if not losses:
    return ['Every mode diverged.']
  name, least = _best(losses)
  found = [f'At equal steps {name} trains best: test loss {least:.2g}.']
  timed = {
    row['mode']: row['loss at equal time']
    for row in table
    if row['loss at equal time'] is not None
    and np.isfinite(row['loss at equal time'])
  }
  if timed:
    name, least = _best(timed)
    found.append(f'At equal time {name}: training loss {least:.2g}.')
  peaks = {r['mode']: r['MiB'] for r in table if r['MiB'] is not None}
  peaks = {mode: peak for mode, peak in peaks.items() if mode in losses}
  if peaks:
    parts, seen = [], None
    for factor in BUDGETS:
      limit = factor * min(peaks.values())
      name, _ = _best({m: losses[m] for m, p in peaks.items() if p <= limit})
      if name != seen:
        size = 'any memory' if np.isinf(factor) else f'{limit:.3g} MiB'
        parts.append(f'{name} within {size}')
      seen = name
    found.append(f'At equal memory, by test loss: {"; ".join(parts)}.')
  return found


def memory_growth(cost: Sequence[Row]) -> str:
  """How the peak memory grows with inner steps, in one sentence."""
  counts = sorted({row['iterations'] for row in cost})
  peaks = {(r['setting'], r['iterations']): r['peak_bytes'] for r in cost}
  names = dict.fromkeys(row['setting'] for row in cost)
  growth = {n: peaks[n, counts[-1]] / peaks[n, counts[0]] for n in names}
  parts = ', '.join(f'{n} × {g:.2f}' for n, g in growth.items())
  return (
    f'From T = {counts[0]} to T = {counts[-1]} (× {gradient_cost.MORE}) the '
    f'peak memory of a training step grows: {parts}.'
  )


def exact_sets(counts: Mapping[str, int]) -> str:
  """For how many sets an exact gradient means anything."""
  return gradient_comparison.verdict(dict(counts))
