"""Tables 5 and 6: random multisets, paper beside measurement."""

from collections.abc import Callable, Sequence
import functools
import math
import os
from typing import Any

import ml_collections

from idspn_jax import errors
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.studies import cells as cells_lib
from idspn_jax.studies import evaluations
from idspn_jax.studies import multiset_paper
from idspn_jax.studies import tables

# The paper's largest number of inner steps: what starts may take together.
LARGEST_TOTAL = 40
_SEEDS = 8
_RESTARTS = 'restarts.json'


def read_cells(
  table: int, get_config: Callable[[str], ml_collections.ConfigDict]
) -> list[tables.Cell]:
  """The cells of Table 5 or 6, in order, named like `4x4/10/idspn_momentum`.

  Args:
    table: 5 or 6.
    get_config: makes a configuration from arguments like `n=4,d=4`.
  """

  def config_of(arguments, seed):
    return get_config(f'{arguments},seed={seed}')

  found = []
  for n, d, steps, label, mean, std in multiset_paper.rows(table):
    model = multiset_paper.MODELS[label]
    arguments = f'n={n},d={d},T={steps},model={model}'
    found.append(
      tables.Cell(
        name=f'{n}x{d}/{steps}/{model}',
        config=functools.partial(config_of, arguments),
        part=f'{n} × {d}',
        row=label.replace('Baseline', 'DSPN'),
        column=str(steps),
        mean=mean,
        std=std,
        seeds=_SEEDS,
      )
    )
  return found


def restart_losses(workdir: str, starts: Sequence[int]) -> dict[int, float]:
  """The test loss of a run with several numbers of starts.

  What has been measured is kept in the run's directory and read again.

  Args:
    workdir: of the run.
    starts: the numbers of starts.

  Raises:
    UserError: if there is no run, or the directory cannot be written to.
  """
  run = loading.load_run(workdir)
  path = os.path.join(workdir, _RESTARTS)
  known = _known_losses(path, run)
  missing = [count for count in starts if count not in known]
  if missing:
    iterations = [run.config.model.iterations]
    table = evaluations.evaluate_at(run, iterations, missing)
    known |= {row['restarts']: row['loss'] for row in table['rows']}
    rows = [{'restarts': k, 'loss': known[k]} for k in sorted(known)]
    files.write_json(path, {**table, 'rows': rows})
  return {count: known[count] for count in starts}


def _known_losses(path, run):
  """What a run's file says; nothing if it is of other parameters or noise."""
  if not os.path.exists(path):
    return {}
  try:
    stored = files.read_json(path)
    scale = stored['config']['model']['restart_scale']
    losses = {row['restarts']: row['loss'] for row in stored['rows']}
  except (errors.UserError, KeyError, TypeError):
    return {}
  same = stored.get('step') == run.step
  return losses if same and scale == run.config.model.restart_scale else {}


def _entry(
  cell: tables.Cell,
  results: dict[int, dict[str, Any]],
  losses: dict[int, dict[int, float]],
) -> dict[str, Any]:
  """What a table's JSON says of a cell.

  Args:
    cell: the cell.
    results: every seed's `result.json`.
    losses: every seed's losses by number of starts; empty if it diverged.
  """
  here = {}
  for count in sorted(set().union(*losses.values())):
    found = [
      {'diverged': result['diverged'], 'metrics': {'loss': own.get(count)}}
      for result, own in zip(results.values(), losses.values(), strict=True)
    ]
    here[str(count)] = cells_lib.summarize(found, 'loss')
  values = list(results.values())
  minutes = [m for m in map(_minutes, values) if m is not None]
  config = values[0]['config']
  return {
    'cell': cell.name,
    'model': cell.row,
    'set_size': config['data']['set_size'],
    'set_dim': config['data']['set_dim'],
    'iterations': config['model']['iterations'],
    'paper': {'mean': cell.mean, 'std': cell.std, 'seeds': cell.seeds},
    'here': here,
    'diverged': sum(bool(result['diverged']) for result in values),
    'minutes_per_run': sum(minutes) / len(minutes) if minutes else None,
    'runs': [
      {**tables.run_entry(seed, r), 'losses': losses[seed]}
      for seed, r in results.items()
    ],
    'config': config,
  }


def _minutes(result):
  """Training time of one run; None if it ended before it was timed."""
  seconds = result.get('seconds_per_step')
  if seconds is None:
    return None
  # A step advances all seeds that train together.
  return seconds * result['step'] / result.get('vectorized_seeds', 1) / 60


def best_within(
  entries: Sequence[dict[str, Any]], total: int = LARGEST_TOTAL
) -> dict[str, Any] | None:
  """The least mean loss at no more than so many inner steps of all starts.

  Args:
    entries: cells of a table's JSON.
    total: the largest number of inner steps, trained T times starts.

  Returns:
    `loss`, `iterations` and `starts`; None if there is no such loss.
  """
  found = [
    {'loss': loss['mean'], 'iterations': one['iterations'], 'starts': starts}
    for one in entries
    for starts, loss in ((int(k), v) for k, v in one['here'].items())
    if one['iterations'] * starts <= total and loss['mean'] is not None
  ]
  return min(found, key=lambda one: one['loss'], default=None)


def _training_starts(config):
  """Like `one start`; with a schedule as the config has it."""
  if config.get('restarts_schedule'):
    return f'{config["restarts_schedule"]} starts'
  count = config['model'].get('restarts', 1)
  return 'one start' if count == 1 else f'{count} starts'


def _number(value):
  """Like 5.7e-4, in the paper's notation."""
  if value is None or not math.isfinite(value):
    return '–'
  mantissa, exponent = f'{value:.1e}'.split('e')
  return f'{mantissa}e{int(exponent)}'


def _spread(mean, std):
  return _number(mean) + ('' if std is None else f' ± {_number(std)}')


def _best_text(entries):
  best = best_within(entries)
  if best is None:
    return '–'
  return f'{_number(best["loss"])} ({best["iterations"]} × {best["starts"]})'


def format_table(
  cells: Sequence[tables.Cell], entries: Sequence[dict[str, Any]]
) -> str:
  """Lays the table out as Markdown, one line per cell.

  Args:
    cells: the table's cells that were asked for.
    entries: those that have been run, of the table's JSON.
  """
  by_name = {one['cell']: one for one in entries}
  starts = sorted({int(k) for one in entries for k in one['here']})
  several = [count for count in starts if count > 1]
  lines = [
    ['Sets', 'T', 'Model', 'paper', 'here, 1 start']
    + [f'{count} starts' for count in several]
    + [f'best, ≤ {LARGEST_TOTAL} steps', 'seeds', 'diverged', 'min a run']
  ]
  for cell in cells:
    own = by_name.get(cell.name)
    line = [cell.part, cell.column, cell.row, _spread(cell.mean, cell.std)]
    if own is None:
      lines.append([*line, *['–'] * (len(lines[0]) - len(line))])
      continue
    here = own['here']
    spreads = [
      _spread(here[str(k)]['mean'], here[str(k)]['std'])
      if str(k) in here
      else '–'
      for k in (1, *several)
    ]
    same = [
      one
      for one in entries
      if (one['set_size'], one['set_dim'], one['model'])
      == (own['set_size'], own['set_dim'], own['model'])
    ]
    runs, minutes = len(own['runs']), own['minutes_per_run']
    lines.append(
      [*line, *spreads, _best_text(same), str(runs)]
      + [str(own['diverged']), '–' if minutes is None else f'{minutes:.1f}']
    )
  return tables.markdown(lines)


class Report(tables.Report):
  """Table 5 or 6, cell by cell."""

  def __init__(
    self,
    table: int,
    cells: Sequence[tables.Cell],
    directory: str,
    starts: Sequence[int],
  ):
    """Starts an empty table.

    Args:
      table: its number.
      cells: its cells.
      directory: where to save it; created.
      starts: numbers of starts to evaluate with, besides one.

    Raises:
      UserError: if the directory cannot be written to.
    """
    super().__init__(table, cells, directory)
    self._starts = sorted({*starts} - {1})

  def add(
    self,
    cell: tables.Cell,
    results: dict[int, dict[str, Any]],
    directory: str,
  ) -> None:
    """Adds a cell that has been run, evaluates it with starts, and saves.

    Args:
      cell: the cell.
      results: every seed's `result.json`.
      directory: the cell's.
    """
    losses = {}
    for seed, result in results.items():
      losses[seed] = {}
      if result['metrics'].get('loss') is None or result['diverged']:
        continue
      own = result['config']['model'].get('restarts', 1)
      losses[seed][own] = result['metrics']['loss']
      missing = sorted({1, *self._starts} - {own})
      if missing:
        workdir = cells_lib.seed_directory(directory, seed)
        losses[seed] |= restart_losses(workdir, missing)
    self.add_entry(_entry(cell, results, losses))

  def text(self) -> str:
    """The table so far, with a caption."""
    configs = [one['config'] for one in self._entries]
    steps = sorted({f'{config["steps"]:,}' for config in configs})
    trained = dict.fromkeys(_training_starts(config) for config in configs)
    return (
      f'Table {self._table}: reconstruction loss, mean ± standard deviation '
      f'over seeds (paper: {_SEEDS}).\nHere: {" or ".join(steps)} training '
      f'steps with {" or ".join(trained)}; evaluated with one start as in the '
      'paper, and with several, of which each set keeps the one of least '
      'energy. Best: '
      f'T × starts of this model with at most {LARGEST_TOTAL} inner steps in '
      'all. Diverged runs are counted and not in the means.\n\n'
      + format_table(self._cells, self._entries)
    )

  def save_figures(self) -> list[str]:
    """Saves Figures 1, 2 and 3, of Table 5; returns the files."""
    if self._table != 5:
      return []
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import multiset_losses
    from idspn_jax.figures import save

    by_name = {one['cell']: one for one in self._entries}
    losses = []
    for n, d, steps, label, mean, _ in multiset_paper.rows(5):
      one = by_name.get(f'{n}x{d}/{steps}/{multiset_paper.MODELS[label]}')
      here = best = starts = None
      if one and '1' in one['here']:
        here = one['here']['1']['mean']
        found = best_within([one])
        if found and found['starts'] > 1:
          best, starts = found['loss'], found['starts']
      model = label.replace('Baseline', 'DSPN')
      losses.append(
        multiset_losses.Loss(n, d, steps, model, mean, here, best, starts)
      )
    drawn = {
      'figure1': multiset_losses.draw_selection(losses),
      'figure2': multiset_losses.draw_relative(losses, 'set_size'),
      'figure3': multiset_losses.draw_relative(losses, 'set_dim'),
    }
    return [
      str(
        save.save_figure(figure, os.path.join(self._directory, f'{name}.png'))
      )
      for name, figure in drawn.items()
    ]
