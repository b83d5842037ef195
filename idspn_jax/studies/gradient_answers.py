"""What the study's numbers say: which mode is closest, trains best, costs what.

Every answer is computed from rows of the study; none is written down here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from idspn_jax.studies import gradient_comparison
from idspn_jax.studies import gradient_cost
from idspn_jax.studies import gradient_training

Row = Mapping[str, Any]
_MIB = 2**20
# Memory budgets, relative to the mode that takes least.
BUDGETS = (1.05, 1.5, 3.0, np.inf)
# A mode is as good as the best if its error is within this share.
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


def _mean_loss(row):
  """Steps `(K,)` and mean training losses over seeds `(K,)`."""
  loss = np.array(row['loss'], float)
  return row['steps_per_point'] * (1 + np.arange(loss.shape[1])), loss.mean(0)


def _diverged(row):
  """How many of a row's seeds have diverged."""
  loss, test = (np.array(row[name], float) for name in ('loss', 'test_loss'))
  return int(np.sum(gradient_training.diverged(loss, test)))


def training_table(
  rows: Sequence[Row], cost: Sequence[Row]
) -> list[dict[str, Any]]:
  """Which mode trains best: at equal steps, at equal time, and with what.

  Args:
    rows: of one model and optimiser.
    cost: see `gradient_cost.cost_rows`, of that model.

  Returns:
    A row per mode: its rate, and whether that or the one that was tuned is at
    an edge; the number of seeds that diverged; `test loss` (mean and standard
    deviation over seeds) and training loss after all steps; the training loss
    at the time that the fastest mode takes for all of them, which is read from
    the middle of a slower mode's curve; seconds per step, and peak MiB.
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
    steps, loss = _mean_loss(row)
    own = {
      'mode': name,
      'rate': row['rate'],
      'rate at the edge': row['at_edge'] or row.get('tuned_at_edge', False),
      'diverged seeds': _diverged(row),
      'fallbacks a step': float(np.mean(row['fallbacks'])),
      'test loss': float(test.mean()),
      'std': float(test.std(ddof=1)) if len(test) > 1 else None,
      'training loss': float(loss[-1]),
      'loss at equal time': None,
      's a step': seconds.get(name),
      'MiB': peak[name] / _MIB if name in peak else None,
    }
    if budget is not None and name in seconds:
      at = np.interp(budget / seconds[name], steps, loss)
      own['loss at equal time'] = float(at)
    found.append(own)
  return found


def trains_best(table: Sequence[Row]) -> list[str]:
  """Sentences on a table of `training_table`."""
  known = [
    row
    for row in table
    if not row['diverged seeds'] and np.isfinite(row['test loss'])
  ]
  if not known:
    return ['Every mode diverged.']
  best, others = _within_spread(known)
  gone = [row['mode'] for row in table if row['diverged seeds']]
  spread = '' if best['std'] is None else f' ± {best["std"]:.2g}'
  text = (
    f'At equal steps {best["mode"]} trains best: test loss '
    f'{best["test loss"]:.2g}{spread}, training loss '
    f'{best["training loss"]:.2g}, of {len(table)} modes compared'
  )
  if others:
    text += f'; within its spread: {", ".join(others)}'
  if gone:
    text += f'; seeds diverged under {", ".join(gone)}'
  found = [f'{text}.']
  timed = {
    row['mode']: row['loss at equal time']
    for row in known
    if row['loss at equal time'] is not None
  }
  if timed:
    name, least = _best(timed)
    found.append(
      f'At equal time {name}: training loss {least:.2g}; slower modes are read '
      'in the middle of their training, before their rates have fallen.'
    )
  measured = [row for row in known if row['MiB'] is not None]
  if measured:
    parts, seen = [], None
    for factor in BUDGETS:
      limit = factor * min(row['MiB'] for row in measured)
      best, others = _within_spread([r for r in measured if r['MiB'] <= limit])
      name = _join([best['mode'], *others])
      if name != seen:
        size = 'any memory' if np.isinf(factor) else f'{limit:.3g} MiB'
        parts.append(f'{name} within {size}')
      seen = name
    found.append(f'At equal memory, by test loss: {"; ".join(parts)}.')
  return found


def _within_spread(table):
  """The row of the least test loss, and the modes within its spread.

  That is a standard deviation over seeds, but 2 % at least.
  """
  best = min(table, key=lambda row: row['test loss'])
  spread = max(best['std'] or 0.0, _EQUAL * best['test loss'])
  others = [
    row['mode']
    for row in table
    if row is not best and row['test loss'] <= best['test loss'] + spread
  ]
  return best, others


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
