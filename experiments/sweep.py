"""Trains the cells of a grid or of a table, here, on Ray or with SLURM.

    python -m experiments.sweep --config=configs/random_multisets.py:n=2,d=2 \
      --grid='model.momentum=0,0.9;seed=0..7' --workdir=runs/momentum
    python -m experiments.sweep --table=5 --cells='4x4/10/*' --seeds=8 \
      --engine=ray --gpus=0.25 --workdir=runs/table5
    python -m experiments.reproduce --results=runs/table5/sweep.json

A grid lists values of the config's keys, and with a colon in front those of
arguments of the config file: --grid=':n=2,4;learning_rate=1e-3,3e-4;seed=0..7'.
--table takes the cells, settings and seeds that experiments.reproduce takes.
The seeds of a cell train together in one program (--notogether: each alone);
that is a trial. --list shows the trials, --status what has become of them.

Trials that crash are tried again (--retries). Ctrl-C lets the running ones
save; the same command continues, and trains only what is missing.

--engine=local runs --jobs trials at once, in processes of this machine.
--engine=ray starts a Ray cluster here, --address=HOST:PORT takes any other;
--cpus, --gpus and --memory are what a trial gets. --slurm=FILE writes a script
for sbatch instead, which runs every trial in a job of its own.

Leaves in --workdir: the runs, CELL/seedK, each trial's CELL/seedK.log, and
sweep.json and sweep.md with all trials and results.
"""

import functools
import os
import sys

from absl import flags

from experiments import command_line
from experiments import config_flag
from experiments import table_flags
from idspn_jax import errors

_CONFIG = flags.DEFINE_string(
  'config', None, 'Config file of a grid, with arguments after a colon.'
)
_GRID = flags.DEFINE_string(
  'grid', None, "The grid, like 'model.momentum=0,0.9;seed=0..7'."
)
_TABLE = flags.DEFINE_enum(
  'table', None, table_flags.TABLES, 'A table, in place of a grid.'
)
_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the sweep.')
_ENGINE = flags.DEFINE_enum(
  'engine', None, ['local', 'ray'], 'Where trials run; default: local.'
)
_ADDRESS = flags.DEFINE_string(
  'address', None, "A Ray cluster, like 'auto' or HOST:6379."
)
_JOBS = flags.DEFINE_integer(
  'jobs', 1, 'Of --engine=local: trials at once.', lower_bound=1
)
_CPUS = flags.DEFINE_integer(
  'cpus', None, 'Processors per trial; default: 1, local all.', lower_bound=1
)
_GPUS = flags.DEFINE_float(
  'gpus', 0, 'GPUs per trial; Ray takes shares like 0.25.', lower_bound=0
)
_MEMORY = flags.DEFINE_float(
  'memory', None, 'Gigabytes per trial, of Ray and SLURM.', lower_bound=0
)
_TIME = flags.DEFINE_string('time', None, 'Of --slurm: time per trial.')
_RETRIES = flags.DEFINE_integer(
  'retries', 2, 'How often a trial that crashes is tried again.', lower_bound=0
)
_SLURM = flags.DEFINE_string(
  'slurm', None, 'Write a script for sbatch to this file; train nothing.'
)
_LIST = flags.DEFINE_bool('list', False, 'Only list the trials.')
_STATUS = flags.DEFINE_bool(
  'status',
  False,
  'Only show how the trials stand, and write sweep.json unless a sweep runs.',
)
_TRIAL = flags.DEFINE_string('trial', None, 'Train this trial only.')
_ATTACHED = flags.DEFINE_bool(
  'attached', False, 'With --trial: stop when standard input ends.'
)
# What says which trials there are, for commands that run one of them.
_PLAN = ('config', 'grid', 'table', 'setting', 'cells', 'seeds', 'steps')
_PLAN += ('override', 'together')


def _grid_cells(grid):
  """The cells of a grid, and their configurations by cell."""
  from idspn_jax.studies import sweep_grid

  path, _, given = _CONFIG.value.partition(':')

  def make(arguments, keys, seed):
    texts = [given, *(f'{name}={value}' for name, value in arguments.items())]
    config = config_flag.load(':'.join([path, ','.join(filter(None, texts))]))
    with config.unlocked():
      table_flags.change(
        config, [*table_flags.OVERRIDE.value, *keys], ('seed',)
      )
      if seed is not None:
        config.seed = seed
    return config

  cells = sweep_grid.expand(grid, make)
  return cells, lambda cell: cell.config


def _check_set_once(grid):
  """Refuses what is set twice: one value would replace the other.

  Raises:
    UserError: naming the setting and both flags.
  """
  overridden = {text.partition('=')[0] for text in table_flags.OVERRIDE.value}
  flags_of = {key: f'--override={key}' for key in overridden}
  if table_flags.STEPS.value:
    flags_of['steps'] = '--steps'
  for axis in grid.axes:
    if axis.name in flags_of:
      raise errors.UserError(
        f'{flags_of[axis.name]} and {axis.name} of --grid: give one of them.'
      )
  given = _CONFIG.value.partition(':')[2].split(',')
  if any(text.partition('=')[0].strip() == 'seed' for text in given):
    for name, value in (
      ('--seeds', table_flags.SEEDS.value),
      ('seed of --grid', grid.seeds),
    ):
      if value is not None:
        raise errors.UserError(
          f'{name} and seed in --config={_CONFIG.value}: give one of them.'
        )


def _grid():
  """Cells, configurations by cell, seeds, and what the sweep is."""
  from idspn_jax.studies import sweep_grid

  if not _CONFIG.value:
    raise errors.UserError(
      'Say what to sweep: --config=FILE and --grid=GRID, or --table=NUMBER.'
    )
  for name in ('cells', 'setting'):
    if flags.FLAGS[name].present:
      raise errors.UserError(f'--{name} is for --table, not for a --grid.')
  if not _GRID.value:
    raise errors.UserError(
      "Give the grid, like --grid='model.momentum=0,0.9;seed=0..7'."
    )
  grid = sweep_grid.parse(_GRID.value)
  _check_set_once(grid)
  cells, config_of = _grid_cells(grid)
  if grid.seeds is None:
    own = [cells[0].config(None).seed]
    seeds = table_flags.seeds('1') if table_flags.SEEDS.value else own
  elif table_flags.SEEDS.value:
    raise errors.UserError('--seeds and seed of --grid: give one of them.')
  else:
    seeds = grid.seeds
  what = {'config': _CONFIG.value, 'grid': _GRID.value}
  return cells, config_of, seeds, what


def _table():
  """As `_grid`."""
  from idspn_jax.studies import tables

  for name in ('config', 'grid'):
    if flags.FLAGS[name].present:
      raise errors.UserError(f'--{name} does not go with --table; give one.')
  setting = table_flags.SETTING.value
  table = table_flags.open_table(_TABLE.value, setting, None)
  cells = tables.select(table.cells, table_flags.CELLS.value)
  seeds = table_flags.seeds('3' if table.kind == 'numbering' else '1')
  config_of = functools.partial(table_flags.config_of_cell, kind=table.kind)
  return cells, config_of, seeds, {'table': _TABLE.value, 'setting': setting}


def _plan_command(workdir):
  """A command that runs one trial; the trial's name is to come after it."""
  given = [flags.FLAGS[name] for name in _PLAN if flags.FLAGS[name].present]
  texts = [text for flag in given for text in flag.serialize().split('\n')]
  name = 'experiments.sweep'
  return [sys.executable, '-m', name, *texts, f'--workdir={workdir}', '--trial']


def _run_one(trials):
  """Runs the trial of --trial; returns the exit status."""
  from idspn_jax.studies import sweep_processes
  from idspn_jax.studies import sweep_trials

  names = {trial.name: trial for trial in trials}
  if _TRIAL.value not in names:
    raise errors.UserError(
      f'--trial={_TRIAL.value} is no trial of this sweep; --list shows them.'
    )
  trial = names[_TRIAL.value]
  if _ATTACHED.value:
    sweep_processes.run_attached(trial)
    return 0
  outcome = sweep_trials.run(trial)
  print(f'{trial.name}: {outcome.kind}{outcome.text and ", " + outcome.text}')
  return {sweep_trials.DONE: 0, sweep_trials.STOPPED: 143}.get(outcome.kind, 1)


def _check_resources():
  """Refuses amounts that no trial can get.

  Raises:
    UserError: naming the flag.
  """
  if not 0 <= _GPUS.value <= 1_000:
    raise errors.UserError(
      f'--gpus={_GPUS.value:g}: give a number from 0 to 1000.'
    )
  if _MEMORY.value is not None and not 0 < _MEMORY.value <= 1_000_000:
    raise errors.UserError(
      f'--memory={_MEMORY.value:g}: give gigabytes above 0, at most 1000000.'
    )


def _engine(workdir):
  """Makes the engine; see `sweeps.Engine`."""
  from idspn_jax.studies import ray_engine
  from idspn_jax.studies import sweep_processes

  name = _ENGINE.value or ('ray' if _ADDRESS.value else 'local')
  if name == 'ray':
    return ray_engine.RayEngine(
      _ADDRESS.value, _CPUS.value or 1, _GPUS.value, _MEMORY.value
    )
  for name, value in (
    ('address', _ADDRESS.value),
    ('gpus', _GPUS.value),
    ('memory', _MEMORY.value),
  ):
    if value:
      raise errors.UserError(
        f'--{name} is for --engine=ray and --slurm; local trials share this '
        'machine: --jobs, --cpus.'
      )
  command = _plan_command(workdir)
  return sweep_processes.ProcessEngine(
    lambda trial: [*command, trial.name, '--attached'],
    _JOBS.value,
    _CPUS.value,
  )


def _show_status(workdir, what, trials):
  """Prints how the trials stand; writes the results unless a sweep runs."""
  from idspn_jax.runs import directory
  from idspn_jax.studies import sweep_board
  from idspn_jax.studies import sweep_results
  from idspn_jax.studies import sweeps

  if not sweep_results.is_begun(workdir, trials):
    raise errors.UserError(
      f'--workdir={workdir} holds no sweep; check the path, or start one there '
      'without --status.'
    )
  try:
    with directory.locked(workdir):
      results = sweep_results.ResultsFile(workdir, what, trials)
      results.write()
  except directory.InUse:
    results = sweep_results.ResultsFile(workdir, what, trials)
  rows = sweeps.Sweep(trials, results, sweep_board.Board()).rows(look=True)
  print('\n'.join(sweep_board.format_rows(rows, (160, 10_000))))
  return 0


def _write_script(workdir, what, trials):
  """Writes a script for sbatch that runs the trials which are not done."""
  from idspn_jax.runs import files
  from idspn_jax.studies import slurm
  from idspn_jax.studies import sweep_results

  results = sweep_results.ResultsFile(workdir, what, trials)
  left = [trial for trial in trials if not results.is_done(trial)]
  if not left:
    raise errors.UserError('Every trial has finished; there is no job.')
  slurm.write(
    files.local_path(_SLURM.value, '--slurm'),
    left,
    _plan_command(workdir),
    workdir,
    _CPUS.value or 1,
    _GPUS.value,
    _MEMORY.value,
    _TIME.value,
  )
  print(f'Saved {_SLURM.value}: {len(left)} jobs; sbatch {_SLURM.value}')
  return 0


def main(argv):
  """Runs the sweep, or what a flag asks for in its place."""
  del argv
  if not _WORKDIR.value:
    raise errors.UserError('Give the sweep a directory: --workdir=DIR.')
  _check_resources()
  # Here, so that --help and wrong flags answer at once.
  import jax

  from idspn_jax.runs import directory
  from idspn_jax.runs import files
  from idspn_jax.studies import sweep_board
  from idspn_jax.studies import sweep_results
  from idspn_jax.studies import sweep_trials
  from idspn_jax.studies import sweeps
  from idspn_jax.tasks import registry

  if _TRIAL.value:
    command_line.check_accelerator()
  else:
    # Else this process would take an accelerator's memory from the trials.
    jax.config.update('jax_platforms', 'cpu')
  cells, config_of, seeds, what = _table() if _TABLE.value else _grid()
  workdir = files.local_path(_WORKDIR.value, '--workdir')
  workdir = os.path.abspath(workdir)
  together = table_flags.TOGETHER.value
  trials = sweep_trials.plan(cells, config_of, seeds, workdir, together)
  if not _TABLE.value:
    sweep_trials.check_distinct(trials)
  if _LIST.value:
    print('\n'.join(trial.name for trial in trials))
    return 0
  if _TRIAL.value:
    return _run_one(trials)
  # What does not fit is told before anything is trained.
  for trial in trials:
    registry.build(next(iter(trial.configs.values())))
    if not _STATUS.value:
      sweep_trials.check(trial)
  if _STATUS.value:
    return _show_status(workdir, what, trials)
  directory.prepare(workdir)
  if _SLURM.value:
    return _write_script(workdir, what, trials)
  with directory.locked(workdir):
    results = sweep_results.ResultsFile(workdir, what, trials)
    sweep = sweeps.Sweep(trials, results, sweep_board.Board(), _RETRIES.value)
    engine = _engine(workdir)
    try:
      status = sweep.run(engine)
    finally:
      engine.close()
  print(results.text())
  print(f'Saved {results.path}')
  if status > 1:
    print('Stopped; the same command continues from there.')
  elif _TABLE.value:
    print(f'python -m experiments.reproduce --results={results.path}')
  return status


# Asks for devices itself, where it needs them.
main.joins_processes = True

if __name__ == '__main__':
  command_line.run(main)
