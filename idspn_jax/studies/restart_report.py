"""The study of starts as a whole: its measurements, tables and figures."""

from collections.abc import Iterator, Sequence
import json
import os
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from idspn_jax import errors
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.runs import provenance
from idspn_jax.solvers import inner_step
from idspn_jax.solvers import restarts as restarts_lib
from idspn_jax.studies import restart_study as study
from idspn_jax.studies import tables

_COUNTS = (1, 2, 4, 8, 16)
_SCALES = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
_FEW = 4
_SHARES = (0.125, 0.25, 0.5)
_TOLERANCES = (0.01, 0.1, 0.3)
# Steps of a finish, and the sets on which it is measured.
_FINISH = 10
_FINISHED = 256
_TIMED = 3


class Report:
  """Measures section by section."""

  def __init__(self, run: loading.LoadedRun, sets: int):
    """Prepares the study of a run on its first test sets.

    Raises:
      UserError: if the run is of another kind.
    """
    self._run = run
    self._sets = sets
    self._decoding = study.Decoding(run, sets)
    self._steps = run.config.model.iterations
    self._scale = run.config.model.restart_scale
    self._found: dict[str, Any] = {}

  def sections(
    self, names: Sequence[str] | None = None
  ) -> Iterator[tuple[str, str]]:
    """Measures, and yields a heading and a table of every section.

    Args:
      names: of the sections; None for all. `counts` is always among them, since
        others and the figures start from what it measures.

    Raises:
      UserError: if there is no section of a name, or no name is given.
    """
    sections = (
      ('counts', 'Numbers of starts', self._counts),
      ('stuck', 'Stuck sets', self._stuck),
      ('judge', 'Median energy of kept sets and targets', self._judge),
      ('scales', f'Scale of the noise, {_FEW} starts', self._scales),
      ('draws', f'Ways to draw {_FEW} starts', self._draws),
      ('cheaper', 'Fewer starts for some sets', self._cheaper),
      ('totals', 'Ways to spend inner steps', self._totals),
      ('finish', f'More steps of the best of {_FEW} starts', self._finish),
      ('order', 'One after another or side by side', self._order),
    )
    known = [name for name, _, _ in sections]
    chosen = known if names is None else list(names) or ['']
    for name in chosen:
      if name not in known:
        raise errors.UserError(
          f'--sections={name}: the study has the sections {", ".join(known)}.'
        )
    for name, title, measure in sections:
      if name not in ('counts', *chosen):
        continue
      rows = self._found[name] = measure()
      yield title, _table(rows)

  def _restarts(self, count, **options):
    options = {'scale': self._scale, 'keep_all': True, **options}
    return restarts_lib.Restarts(count, **options)

  def _around(self, count, scale=None, draw=study.around, steps=None):
    initial = self._decoding.initial(draw(scale or self._scale), count)
    return self._decoding.starts(initial, steps or [self._steps])

  def _counts(self):
    self._all = self._decoding.restarted(self._restarts(max(_COUNTS)))
    each, self._reached = self._around(max(_COUNTS))
    self._each = each
    return [
      {
        'starts': count,
        'by energy': study.loss_by_energy(self._all, count),
        'by target': study.loss_by_target(self._all, count),
        'pulled to each start, by energy': study.loss_by_energy(each, count),
      }
      for count in _COUNTS
    ]

  def _stuck(self):
    return [study.stuck_sets(self._all)]

  def _judge(self):
    # No step from the targets themselves.
    target, _ = self._decoding.starts(self._decoding.sets[None], [0])
    return [
      {'starts': count, **study.judge(self._all, target.energy[0], count)}
      for count in _COUNTS
    ]

  def _scales(self):
    rows = []
    for scale in _SCALES:
      found = self._decoding.restarted(self._restarts(_FEW, scale=scale))
      each, _ = self._around(_FEW, scale)
      rows.append(
        {
          'scale': scale,
          'loss': study.loss_by_energy(found, _FEW),
          'pulled to each start': study.loss_by_energy(each, _FEW),
        }
      )
    return rows

  def _draws(self):
    return [
      {
        'draw': draw.__name__.replace('_', ' '),
        'loss': study.loss_by_energy(self._around(_FEW, draw=draw)[0], _FEW),
      }
      for draw in (
        study.around,
        study.antithetic,
        study.fresh,
        study.permuted_noise,
        study.orthogonal,
      )
    ]

  def _cheaper(self):
    rows = []
    for count in (_FEW, 2 * _FEW):
      for share in _SHARES:
        loss, mean = study.restart_worst(self._all, share, count)
        name = f'{count} starts for the worst {share:.1%}'
        rows.append({'search': name, 'mean starts': mean, 'loss': loss})
      for tolerance in _TOLERANCES:
        loss, mean = study.stop_when_agreed(self._all, tolerance, count)
        name = f'up to {count}, until two energies agree to {tolerance:.0%}'
        rows.append({'search': name, 'mean starts': mean, 'loss': loss})
    return rows

  def _totals(self):
    t, half = self._steps, max(1, self._steps // 2)
    rows = []

    def add(name, total, starts, count):
      loss = study.loss_by_energy(starts, count)
      rows.append({'way': name, 'inner steps': total, 'loss': loss})

    for count, times in ((1, 1), (1, _FEW), (2, 1), (2, _FEW // 2), (_FEW, 1)):
      found, _ = self._around(count, steps=[times * t])
      add(f'{count} × {times * t}', count * times * t, found, count)
    found, _ = self._around(1, steps=[half, t - half])
    add(f'1 × {half} + {t - half}, momentum from zero', t, found, 1)
    found, reached = self._around(_FEW, steps=[half])
    more = _FEW * t - _FEW * half
    found, _ = self._decoding.starts(_winners(found, reached), [more])
    add(f'{_FEW} × {half}, the best {more} more', _FEW * t, found, 1)
    return rows

  def _finish(self):
    """More steps of the winners alone; L-BFGS is slow, so on fewer sets."""
    decoding = study.Decoding(self._run, min(_FINISHED, self._sets))
    initial = decoding.initial(study.around(self._scale), _FEW)
    found, reached = decoding.starts(initial, [self._steps])
    best = _winners(found, reached)
    rows = [{'finish': 'none', 'loss': study.loss_by_energy(found, _FEW)}]
    for name, optimizer in (
      ('own optimiser', self._run.task.model.decoder.optimizer),
      ('L-BFGS', inner_step.OptaxOptimizer(optax.lbfgs())),
    ):
      finished, _ = decoding.starts(best, [_FINISH], [optimizer])
      # A finish that raises the energy is not taken.
      both = study.Starts(
        *(np.concatenate(part) for part in zip(found, finished, strict=True))
      )
      loss = study.loss_by_energy(both, _FEW + 1)
      rows.append({'finish': f'{_FINISH} steps of {name}', 'loss': loss})
    return rows

  def _order(self):
    rows = []
    for count in (2, _FEW, 2 * _FEW):
      seconds = {}
      for parallel in (False, True):
        restarts = self._restarts(count, parallel=parallel)
        seconds[parallel] = self._decoding.seconds(restarts, _TIMED)
      rows.append(
        {
          'starts': count,
          'one after another, ms': 1e3 * seconds[False],
          'side by side, ms': 1e3 * seconds[True],
        }
      )
    return rows

  def save(self, directory: str) -> list[str]:
    """Saves what was measured, and figures; returns the files.

    Raises:
      UserError: if the directory cannot be written to.
    """
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import restarts as figures
    from idspn_jax.figures import save

    path = os.path.join(directory, 'study.json')
    content = {
      'step': self._run.step,
      'sets': len(self._decoding.sets),
      **self._found,
      'config': json.loads(self._run.config.to_json()),
      **provenance.provenance(),
    }
    files.write_json(path, content)
    losses = {
      f'{count} start' + ('s' if count > 1 else ''): np.take_along_axis(
        self._all.loss, study.least_energy(self._all, count)[None], axis=0
      )[0]
      for count in (1, 2, 4, 8)
    }
    drawn = {
      'losses': figures.draw_loss_distributions(losses),
      'stuck_set': figures.draw_stuck_set(*self._worst()),
    }
    return [path] + [
      str(save.save_figure(figure, os.path.join(directory, f'{name}.png')))
      for name, figure in drawn.items()
    ]

  def _worst(self):
    """The set that gains most: truth, two results, and a path between them."""
    winner = study.least_energy(self._each)
    gain = self._each.loss[0] - np.min(self._each.loss, axis=0)
    i = int(np.argmax(np.where(np.isfinite(gain), gain, 0.0)))
    k = int(winner[i])
    truth, first, best = (
      jnp.asarray(y)
      for y in (
        self._decoding.sets[i],
        self._reached[0, i],
        self._reached[k, i],
      )
    )
    # Elements of the two results in the order of the truth's.
    first, best = _matched(first, truth), _matched(best, truth)
    share = jnp.linspace(-0.25, 1.25, 61)[:, None, None]
    path = first[None] + share * (best - first)[None]
    energy = self._decoding.energies(path, truth)
    return (
      np.asarray(truth),
      np.asarray(first),
      np.asarray(best),
      np.asarray(share[:, 0, 0]),
      np.asarray(energy),
    )


def _matched(prediction, truth):
  """The elements of a prediction in the order of the truth's."""
  from idspn_jax.figures import matching

  pairs = matching.match(np.asarray(prediction), np.asarray(truth))
  return prediction[pairs.predictions[np.argsort(pairs.targets)]]


def _winners(starts, reached):
  """The sets of least energy, as the only starts, `(1, S, N, D)`."""
  winner = jnp.asarray(study.least_energy(starts))
  return jnp.take_along_axis(reached, winner[None, :, None, None], axis=0)


def _table(rows):
  def text(value):
    if isinstance(value, float):
      return f'{value:.3g}'
    return str(value)

  head = list(rows[0])
  return tables.markdown([head, *([text(v) for v in r.values()] for r in rows)])
