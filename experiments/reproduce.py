"""Reproduces Tables 2, 4 and 8: the paper's numbers beside measured ones.

    python -m experiments.reproduce --table=4 --seeds=6
    python -m experiments.reproduce --table=2 --setting=reduced \
      --cells='*/640' --seeds=3

The first command is the whole of Table 4, a GPU's work; the second one trains
all seven models on two CPU cores. Cells are named CLASSES/MODEL/SAMPLES, or
CLASSES/MODEL+da/SAMPLES with augmentation (--list shows them); a bare model
stands for all its cells. Running a command again, with more cells or seeds too,
only trains what is missing; Ctrl-C saves first. A table shows the cells that
were asked for: ask for all to collect what several calls have trained.

Leaves in --output: the table as Markdown and as JSON, with every run's numbers,
configuration, device, versions and date, and Table 8, each model's worst
prediction for 4 classes, as text and figure. The first two columns are measured
on the trained models.
"""

import functools
import os

from absl import flags

from experiments import command_line
from experiments import overrides
from idspn_jax import errors

_TABLE = flags.DEFINE_enum(
  'table', '2', ['2', '4'], 'Which table; both write Table 8 too.'
)
_SETTING = flags.DEFINE_enum(
  'setting', 'paper', ['paper', 'reduced'], 'Which setting.'
)
_CELLS = flags.DEFINE_list('cells', None, 'Patterns of cells; default: all.')
_SEEDS = flags.DEFINE_string(
  'seeds', '3', 'How many seeds, from 0; or the seeds themselves, like 4,7.'
)
_STEPS = flags.DEFINE_integer(
  'steps', None, "Training steps instead of the setting's.", lower_bound=1
)
_OVERRIDE = flags.DEFINE_multi_string(
  'override', [], 'KEY=VALUE of the config for all cells; repeatable.'
)
_TOGETHER = flags.DEFINE_bool(
  'together', True, 'Seeds of a cell in one program, as far as memory allows.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Directory of the runs; default runs/numbering_SETTING.'
)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'Directory of tables and figures; default: the workdir.'
)
_LIST = flags.DEFINE_bool('list', False, 'Only list the cells.')

# What cells and seeds are made of.
_FIXED = (
  'seed',
  'task',
  'model_name',
  'data.permute',
  'data.num_train',
  'data.num_classes',
)


def _seeds():
  text = _SEEDS.value
  try:
    given = [int(part) for part in text.split(',') if part.strip()]
  except ValueError:
    given = []
  seeds = given if ',' in text else [*range(given[0] if given else 0)]
  if not seeds or min(seeds) < 0 or len({*seeds}) < len(seeds):
    raise errors.UserError(
      f'--seeds={text}: give a positive number of seeds, or different seeds '
      'with commas, like 0,1,2 or 5,'
    )
  return seeds


def _configs(cell):
  """The cell's configuration as a function of the seed."""

  @functools.cache
  def config_of(seed):
    config = cell.config(seed)
    overrides.apply(config, _OVERRIDE.value, _FIXED)
    if _STEPS.value:
      config.steps = _STEPS.value
      for name in ('eval_every', 'checkpoint_every', 'log_every'):
        config[name] = min(config[name], _STEPS.value)
    return config

  return config_of


def main(argv):
  """Trains what is missing, prints and saves the tables."""
  del argv
  seeds = _seeds()
  # Here, so that --help and wrong flags answer at once.
  from configs import class_numbering as config_file
  from idspn_jax.runs import files
  from idspn_jax.studies import cells as cells_lib
  from idspn_jax.studies import numbering_tables
  from idspn_jax.studies import tables
  from idspn_jax.tasks import class_numbering
  from idspn_jax.training import loop

  table = int(_TABLE.value)
  cells = numbering_tables.read_cells(
    table, config_file.get_config, _SETTING.value
  )
  cells = tables.select(cells, _CELLS.value)
  if _LIST.value:
    print('\n'.join(cell.name for cell in cells))
    return 0
  workdir = _WORKDIR.value or f'runs/numbering_{_SETTING.value}'
  workdir = files.local_path(workdir, '--workdir')
  output = files.local_path(_OUTPUT.value or workdir, '--output')
  report = numbering_tables.Report(table, cells, output)
  configs = {cell: _configs(cell) for cell in cells}
  # What does not fit is told before anything is trained.
  for cell in cells:
    class_numbering.check(configs[cell](seeds[0]))
    cells_lib.check(configs[cell], seeds, os.path.join(workdir, cell.name))
  for cell in cells:
    print(f'{cell.name}: seed {", ".join(map(str, seeds))}', flush=True)
    directory = os.path.join(workdir, cell.name)
    try:
      results = cells_lib.train(
        configs[cell], seeds, directory, _TOGETHER.value
      )
    except loop.Interrupted as e:
      print(f'Stopped at step {e.step}; the same command continues from there.')
      return e.exit_code
    report.add(cell, results, directory)
  print(report.text())
  worst = report.save_worst()
  if not worst:
    print('No Table 8: it shows models that were trained on 4 classes.')
  for path in [*worst, *report.files]:
    print(f'Saved {path}')
  return 0


if __name__ == '__main__':
  command_line.run(main)
