"""A sweep's results file: every trial's attempts, every run's result."""

from collections.abc import Sequence
import os
from typing import Any, NamedTuple

from idspn_jax import errors
from idspn_jax.runs import files
from idspn_jax.runs import provenance
from idspn_jax.studies import cells as cells_lib
from idspn_jax.studies import slurm
from idspn_jax.studies import sweep_trials
from idspn_jax.studies import tables

_FILE = 'sweep.json'
_TEXT = 'sweep.md'
_REMEDY = 'the next call of experiments.sweep writes it anew'


class Results(NamedTuple):
  """What a results file says.

  Attributes:
    table: the number of the paper's table; None of a grid.
    setting: the table's setting.
    results: every finished run's `result.json`, by cell and seed.
    trials: what it says of every trial, by name.
  """

  table: str | None
  setting: str | None
  results: dict[str, dict[int, dict[str, Any]]]
  trials: dict[str, dict[str, Any]]


def read(path: str) -> Results:
  """Reads a results file.

  Args:
    path: the file.

  Raises:
    Damaged: if it is damaged.
    UserError: if there is none, or it cannot be read.
  """
  found = files.read_mapping(path, ('sweep', 'trials', 'cells'), _REMEDY)
  if found is None:
    raise errors.UserError(
      f'{path}: no such file; experiments.sweep writes it into its --workdir.'
    )
  try:
    return Results(
      found['sweep'].get('table'),
      found['sweep'].get('setting'),
      {
        one['cell']: {int(run['seed']): _result(run) for run in one['runs']}
        for one in found['cells']
      },
      {one['trial']: _trial(one) for one in found['trials']},
    )
  except (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
  ) as e:
    raise files.Damaged(
      f'{path} is damaged ({type(e).__name__}: {e}); {_REMEDY}.'
    ) from e


def _result(run):
  """A run's result, as far as it is read here."""
  return {
    **run['result'],
    'diverged': run['result']['diverged'],
    'metrics': {**run['result']['metrics']},
  }


def _trial(one):
  """A trial, as far as it is read here."""
  attempts = [
    {**last, 'kind': str(last['kind']), 'text': str(last['text'])}
    for last in one['attempts']
  ]
  return {
    'trial': str(one['trial']),
    'cell': str(one['cell']),
    'seeds': [*map(int, one['seeds'])],
    'state': str(one['state']),
    'attempts': attempts,
  }


def is_begun(workdir: str, trials: Sequence[sweep_trials.Trial]) -> bool:
  """Whether a directory holds a sweep, or any of these trials.

  Args:
    workdir: the directory; need not exist.
    trials: the trials.
  """
  names = (_FILE, slurm.FOLDER)
  return any(os.path.exists(os.path.join(workdir, name)) for name in names) or (
    any(os.path.isdir(trial.directory) for trial in trials)
  )


class ResultsFile:
  """Grows with the sweep, and is written whole at every change.

  What an earlier call wrote of other trials stays.

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
      UserError: if the file is of another table, or cannot be read.
    """
    self._workdir = workdir
    self.path = os.path.join(workdir, _FILE)
    self._text = os.path.join(workdir, _TEXT)
    self._sweep = sweep
    self._trials = trials
    self._before = Results(None, None, {}, {})
    self._damage: files.Damaged | None = None
    if os.path.lexists(self.path):
      try:
        self._before = self._read()
      except files.Damaged as e:
        self._damage = e
    self.attempts: dict[str, list[dict[str, Any]]] = {
      name: one['attempts'] for name, one in self._before.trials.items()
    }
    self._results = {trial.name: trial.finished() for trial in trials}

  def _read(self):
    before = read(self.path)
    old = before.table, before.setting
    new = self._sweep.get('table'), self._sweep.get('setting')
    if old != new:
      raise errors.UserError(
        f'{self.path} is of {_kind(*old)}, not of {_kind(*new)}; use another '
        '--workdir.'
      )
    return before

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
    """Writes the file, and beside it `sweep.md`; keeps a damaged one.

    Raises:
      UserError: if it cannot be written.
    """
    if self._damage is not None:
      files.set_aside(self.path, self._damage)
      self._damage = None
    results = self._own_results()
    names = {trial.name for trial in self._trials}
    for cell, own in self._kept_results().items():
      results[cell] = {**results.get(cell, {}), **own}
    cells = _cells(results)
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
    kept = [
      {**one, 'state': _state(one, results.get(one['cell'], {}))}
      for name, one in self._before.trials.items()
      if name not in names
    ]
    trials += [o for o in kept if o['attempts'] or o['state'] != 'waiting']
    content = {'sweep': self._sweep, 'trials': trials, 'cells': cells}
    files.write_json(self.path, {**content, **provenance.provenance()})
    files.write_atomically(self._text, summary(cells) + '\n')

  def text(self) -> str:
    """The cells so far, as Markdown."""
    return summary(_cells(self._own_results()))

  def _own_results(self):
    results: dict[str, dict[int, dict[str, Any]]] = {}
    for trial in self._trials:
      own = results.setdefault(trial.cell, {})
      own.update(self._results[trial.name])
    return results

  def _kept_results(self):
    """Results of other seeds and cells, of runs that are still there."""
    planned = {(t.cell, seed) for t in self._trials for seed in t.seeds}
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for cell, results in self._before.results.items():
      directory = os.path.join(self._workdir, cell)
      for seed, result in results.items():
        place = cells_lib.seed_directory(directory, seed)
        if (cell, seed) not in planned and os.path.exists(
          os.path.join(place, 'result.json')
        ):
          found.setdefault(cell, {})[seed] = result
    return found


def _cells(results):
  return [
    {
      'cell': cell,
      'here': _here(own),
      'runs': [{'seed': s, 'result': own[s]} for s in sorted(own)],
    }
    for cell, own in results.items()
  ]


def _state(one, results):
  """The state of a trial that is not of this call."""
  if {*one['seeds']} <= {*results}:
    return sweep_trials.DONE
  return 'waiting' if one['state'] == sweep_trials.DONE else one['state']


def _kind(table, setting):
  if table is None:
    return 'a grid'
  return f'Table {table}' + (f', {setting}' if setting else '')


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
