"""Trials: what a sweep trains at once, and how it ended."""

from collections.abc import Callable, Sequence
import datetime
import json
import os
import re
import sys
import time
import traceback
from typing import Any, NamedTuple

import ml_collections

from idspn_jax import errors
from idspn_jax.runs import directory as directory_lib
from idspn_jax.runs import files
from idspn_jax.studies import cells as cells_lib
from idspn_jax.training import loop

# How a trial may end. Those that may end better another time are tried again.
DONE, STOPPED, REFUSED = 'done', 'stopped', 'refused'
MEMORY, CRASHED, FAILED = 'out of memory', 'crashed', 'failed'
AGAIN = (MEMORY, CRASHED, FAILED)
# Seconds for which a directory may still be in use by a process that ends.
_PATIENCE = 60.0


class Trial(NamedTuple):
  """Seeds of a cell that train together.

  Attributes:
    name: like `4x4/10/idspn/seed0..7`.
    cell: the cell's name.
    configs: the configuration of every seed.
    directory: of the cell; each seed has a directory inside.
    together: whether the seeds train in one compiled program.
  """

  name: str
  cell: str
  configs: dict[int, ml_collections.ConfigDict]
  directory: str
  together: bool = True

  @property
  def seeds(self) -> list[int]:
    """The seeds."""
    return [*self.configs]

  @property
  def log(self) -> str:
    """The file of what the trial prints."""
    return os.path.join(self.directory, f'{os.path.basename(self.name)}.log')

  def finished(self) -> dict[int, dict[str, Any]]:
    """The results of those seeds that need no training."""
    return cells_lib.finished(self.configs.get, self.seeds, self.directory)

  def progress(self) -> tuple[int, int]:
    """The last logged step of the seed that is furthest behind, and all."""
    steps = next(iter(self.configs.values())).steps
    return min(map(self._step, self.seeds)), steps

  def is_begun(self) -> bool:
    """Whether any seed has a run."""
    places = (cells_lib.seed_directory(self.directory, s) for s in self.seeds)
    return any(os.path.exists(os.path.join(p, 'config.json')) for p in places)

  def in_use(self) -> bool:
    """Whether a process trains any seed."""
    try:
      for seed in self.seeds:
        workdir = cells_lib.seed_directory(self.directory, seed)
        directory_lib.check_free(workdir)
    except directory_lib.InUse:
      return True
    return False

  def _step(self, seed):
    workdir = cells_lib.seed_directory(self.directory, seed)
    try:
      with open(os.path.join(workdir, 'scalars.jsonl'), 'rb') as f:
        f.seek(max(0, f.seek(0, os.SEEK_END) - 4096))
        found = re.findall(rb'"step": (\d+)', f.read())
    except OSError:
      return 0
    return int(found[-1]) if found else 0


class Outcome(NamedTuple):
  """How a trial ended.

  Attributes:
    kind: one of this module's constants.
    text: why, in one line.
  """

  kind: str
  text: str = ''

  def line(self) -> str:
    """As one line of JSON."""
    return json.dumps(self._asdict())


def outcome_of(line: str) -> Outcome | None:
  """Reads what `Outcome.line` wrote; None if it is something else."""
  try:
    found = json.loads(line)
    return Outcome(str(found['kind']), str(found['text']))
  except (ValueError, TypeError, KeyError):
    return None


def plan(
  cells: Sequence[Any],
  config_of: Callable[[Any], Callable[[int], ml_collections.ConfigDict]],
  seeds: Sequence[int],
  workdir: str,
  together: bool = True,
) -> list[Trial]:
  """Splits cells into trials.

  Args:
    cells: with a `name` each, which is also their directory.
    config_of: a cell's configuration as a function of the seed.
    seeds: the seeds of every cell.
    workdir: of the sweep.
    together: a cell's seeds in one trial, instead of one trial each.
  """
  groups = [[*seeds]] if together else [[seed] for seed in seeds]
  return [
    Trial(
      name=f'{cell.name}/{_seed_text(group)}',
      cell=cell.name,
      configs={seed: config_of(cell)(seed) for seed in group},
      directory=os.path.join(workdir, cell.name),
      together=together,
    )
    for cell in cells
    for group in groups
  ]


def check_distinct(trials: Sequence[Trial]) -> None:
  """Refuses two cells that would train the same.

  Args:
    trials: of `plan`.

  Raises:
    UserError: naming two cells whose configs differ in nothing but the seed.
  """
  cells: dict[str, str] = {}
  for trial in trials:
    config = json.loads(next(iter(trial.configs.values())).to_json())
    key = json.dumps({**config, 'seed': None}, sort_keys=True)
    other = cells.setdefault(key, trial.cell)
    if other != trial.cell:
      raise errors.UserError(
        f'--grid: the cells {other} and {trial.cell} have the same config; '
        'leave one of the values out, and see that no other flag sets the key.'
      )


def _seed_text(seeds):
  if len(seeds) == 1:
    return f'seed{seeds[0]}'
  if seeds == [*range(seeds[0], seeds[-1] + 1)]:
    return f'seed{seeds[0]}..{seeds[-1]}'
  return 'seed' + '+'.join(map(str, seeds))


def check(trial: Trial) -> None:
  """Refuses a trial that cannot be trained or continued.

  Raises:
    UserError: naming the trial and the reason.
  """
  try:
    wait_until_free(trial)
    cells_lib.check(trial.configs.get, trial.seeds, trial.directory)
  except errors.UserError as e:
    raise errors.UserError(f'{trial.cell}: {e}') from e


def wait_until_free(trial: Trial, seconds: float = _PATIENCE) -> None:
  """Waits while another process, such as one that ends, uses a directory.

  Raises:
    InUse: naming the process, if it goes on for longer.
  """
  end = time.monotonic() + seconds
  for seed in trial.seeds:
    workdir = cells_lib.seed_directory(trial.directory, seed)
    while True:
      try:
        directory_lib.check_free(workdir)
        break
      except directory_lib.InUse:
        if time.monotonic() > end:
          raise
        time.sleep(0.2)


def run(trial: Trial) -> Outcome:
  """Trains a trial, from where it stands; whatever happens is an outcome."""
  try:
    wait_until_free(trial)
    results = cells_lib.train(
      trial.configs.get, trial.seeds, trial.directory, trial.together
    )
  except loop.Interrupted as e:
    return Outcome(STOPPED, f'at step {e.step}')
  except errors.UserError as e:
    return Outcome(REFUSED, _one_line(e))
  except Exception as e:  # Reported, so that the other trials go on.
    if errors.interrupted(e):
      raise KeyboardInterrupt from e
    traceback.print_exc()
    text = f'{type(e).__name__}: {_one_line(e)}'
    full = isinstance(e, MemoryError) or 'RESOURCE_EXHAUSTED' in text
    return Outcome(MEMORY if full else FAILED, text)
  lost = [seed for seed, result in results.items() if result['diverged']]
  note = f'seed {", ".join(map(str, lost))} diverged' if lost else ''
  return Outcome(DONE, note)


def start_log(trial: Trial) -> None:
  """Appends all that this process prints from here on to the trial's log.

  Raises:
    UserError: if it cannot be written.
  """
  files.make_directory(trial.directory, '--workdir')
  try:
    log = os.open(trial.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
  except OSError as e:
    raise files.cannot_write(trial.log, e) from e
  now = datetime.datetime.now().isoformat(timespec='seconds')
  os.write(log, f'--- {now}, process {os.getpid()}\n'.encode())
  sys.stdout.flush()
  sys.stderr.flush()
  os.dup2(log, 1)
  os.dup2(log, 2)
  os.close(log)


def _one_line(e):
  return ' '.join(str(e).split())[:500]
