"""A sweep's results file: every trial's attempts, every run's result."""

from collections.abc import Sequence
import os
from typing import Any, NamedTuple

from idspn_jax import errors
from idspn_jax.runs import files
from idspn_jax.runs import provenance
from idspn_jax.studies import cells as cells_lib
from idspn_jax.studies import sweep_trials
from idspn_jax.studies import tables

_FILE = 'sweep.json'
_TEXT = 'sweep.md'


class Results(NamedTuple):
  """What a results file says.

  Attributes:
    table: the number of the paper's table; None of a grid.
    setting: the table's setting.
    results: every finished run's `result.json`, by cell and seed.
    attempts: how each attempt ended, by trial.
  """

  table: str | None
  setting: str | None
  results: dict[str, dict[int, dict[str, Any]]]
  attempts: dict[str, list[dict[str, Any]]]


def read(path: str) -> Results:
  """Reads a results file.

  Args:
    path: the file.

  Raises:
    UserError: if there is none, or it is damaged.
  """
  found = files.read_mapping(
    path, ('sweep', 'trials', 'cells'), 'run the sweep again to write it anew'
  )
  if found is None:
    raise errors.UserError(
      f'{path}: no such file; experiments.sweep writes it into its --workdir.'
    )
  try:
    return Results(
      found['sweep'].get('table'),
      found['sweep'].get('setting'),
      {
        one['cell']: {int(run['seed']): run['result'] for run in one['runs']}
        for one in found['cells']
      },
      {one['trial']: [*one['attempts']] for one in found['trials']},
    )
  except (AttributeError, KeyError, TypeError, ValueError) as e:
    raise errors.UserError(
      f'{path} is damaged ({type(e).__name__}: {e}); run the sweep again to '
      'write it anew.'
    ) from e


class ResultsFile:
  """Grows with the sweep, and is written whole at every change.

  Attributes:
    path: the file.
    attempts: how each attempt ended, by trial, earlier calls' included.
  """

  def __init__(
    self,
    workdir: str,
    sweep: dict[str, Any],
    trials: Sequence[sweep_trials.Trial],
  ):
    """Takes over what an earlier call wrote.

    Args:
      workdir: of the sweep.
      sweep: what it is: `table` and `setting`, or `config` and `grid`.
      trials: its trials.

    Raises:
      UserError: if the file is damaged, or of another table.
    """
    self.path = os.path.join(workdir, _FILE)
    self._text = os.path.join(workdir, _TEXT)
    self._sweep = sweep
    self._trials = trials
    self.attempts: dict[str, list[dict[str, Any]]] = {}
    if os.path.lexists(self.path):
      before = read(self.path)
      if before.table != sweep.get('table'):
        raise errors.UserError(
          f'{self.path} is of {_kind(before.table)}, not of '
          f'{_kind(sweep.get("table"))}; use another --workdir.'
        )
      self.attempts = before.attempts
    self._results = {trial.name: trial.finished() for trial in trials}

  def is_done(self, trial: sweep_trials.Trial) -> bool:
    """Whether all seeds have finished."""
    return len(self._results[trial.name]) == len(trial.seeds)

  def state(self, trial: sweep_trials.Trial) -> sweep_trials.Outcome:
    """How the trial's last attempt ended; `waiting` if there was none."""
    made = self.attempts.get(trial.name)
    last = made[-1] if made else {'kind': 'waiting', 'text': ''}
    if self.is_done(trial):
      own = last['text'] if last['kind'] == sweep_trials.DONE else ''
      return sweep_trials.Outcome(sweep_trials.DONE, own)
    if last['kind'] == sweep_trials.DONE:  # Runs were removed since, or added.
      return sweep_trials.Outcome('waiting')
    return sweep_trials.Outcome(last['kind'], last['text'])

  def add(
    self,
    trial: sweep_trials.Trial,
    outcome: sweep_trials.Outcome,
    seconds: float,
  ) -> None:
    """Notes how an attempt ended."""
    self.attempts.setdefault(trial.name, []).append(
      {
        **outcome._asdict(),
        'seconds': round(seconds, 1),
        'date': provenance.provenance()['date'],
      }
    )
    self._results[trial.name] = trial.finished()

  def write(self) -> None:
    """Writes the file, and beside it `sweep.md`.

    Raises:
      UserError: if it cannot be written.
    """
    cells = self._cells()
    trials = [
      {
        'trial': trial.name,
        'cell': trial.cell,
        'seeds': trial.seeds,
        'state': self.state(trial).kind,
        'attempts': self.attempts.get(trial.name, []),
      }
      for trial in self._trials
    ]
    content = {'sweep': self._sweep, 'trials': trials, 'cells': cells}
    files.write_json(self.path, {**content, **provenance.provenance()})
    files.write_atomically(self._text, summary(cells) + '\n')

  def text(self) -> str:
    """The cells so far, as Markdown."""
    return summary(self._cells())

  def _cells(self):
    results: dict[str, dict[int, dict[str, Any]]] = {}
    for trial in self._trials:
      own = results.setdefault(trial.cell, {})
      own.update(self._results[trial.name])
    return [
      {
        'cell': cell,
        'here': _here(own),
        'runs': [{'seed': s, 'result': own[s]} for s in sorted(own)],
      }
      for cell, own in results.items()
    ]


def _kind(table):
  return 'a grid' if table is None else f'Table {table}'


def _here(results):
  """Every metric's mean and standard deviation over the seeds."""
  values = [*results.values()]
  names = dict.fromkeys(name for one in values for name in one['metrics'])
  return {
    name: cells_lib.summarize(values, name)
    for name in names
    if all(
      isinstance(one['metrics'].get(name), int | float | None) for one in values
    )
  }


def summary(cells: Sequence[dict[str, Any]]) -> str:
  """Lays cells out as Markdown: metrics as mean ± standard deviation.

  Args:
    cells: of a results file.
  """
  names = [*dict.fromkeys(name for one in cells for name in one['here'])]
  lines = [['Cell', *names, 'seeds', 'diverged']]
  for one in cells:
    values = [_spread(one['here'].get(name)) for name in names]
    lost = sum(bool(run['result']['diverged']) for run in one['runs'])
    lines.append([one['cell'], *values, str(len(one['runs'])), str(lost)])
  return tables.markdown(lines)


def _spread(found):
  if not found or found['mean'] is None:
    return '–'
  spread = '' if found['std'] is None else f' ± {found["std"]:.2g}'
  return f'{found["mean"]:.4g}{spread}'
