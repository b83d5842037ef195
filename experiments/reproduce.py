"""Reproduces Tables 2 to 8: the paper's numbers beside measured ones.

    python -m experiments.reproduce --table=5 --cells='4x4/10/*'
    python -m experiments.reproduce --table=2 --setting=reduced \
      --cells='*/640' --seeds=3
    python -m experiments.reproduce --table=4 --seeds=6

The first two commands train on two CPU cores, each for an hour or two; the last
one is the whole of Table 4, a GPU's work. Cells are named like
4x4/10/idspn_momentum (Tables 5 and 6: n x d, T, model) or 4/idspn+da/640
(Tables 2 and 4: classes, model, with data augmentation, samples); --list shows
them, and a bare model stands for all its cells. Running a command again, with
more cells or seeds too, only trains what is missing; Ctrl-C saves first. A
table shows the cells that were asked for: ask for all to collect what several
calls have trained.

    python -m experiments.reproduce --table=3 --setting=reduced
    python -m experiments.reproduce --table=7 --setting=reduced \
      --cells=idspn,idspn_sum

Tables 3 and 7 (CLEVR) only read the runs that are there, in
--workdir/MODEL/seedK, and show missing ones as missing; with --cells these
models are trained first.

Leaves in --output: the table as Markdown and as JSON, with every run's numbers,
configuration, device, versions and date. Tables 5 and 6 evaluate with several
starts too (--restarts); Table 5 comes with Figures 1 to 3, Tables 2 and 4 with
Table 8, each model's worst prediction for 4 classes, as text and figure.
"""

import functools
import os

from absl import flags

from experiments import command_line
from experiments import overrides
from idspn_jax import errors

_TABLE = flags.DEFINE_enum(
  'table',
  '2',
  ['2', '3', '4', '5', '6', '7'],
  'Which table; 2 and 4 write Table 8 too.',
)
_SETTING = flags.DEFINE_enum(
  'setting',
  'paper',
  ['paper', 'reduced'],
  'All but Tables 5 and 6: which setting.',
)
_CELLS = flags.DEFINE_list(
  'cells',
  None,
  'Patterns of cells; default: all. Of Tables 3 and 7 those to train; by '
  'default all are shown and none is trained.',
)
_SEEDS = flags.DEFINE_string(
  'seeds',
  None,
  'How many seeds, from 0; or the seeds themselves, like 4,7. Default: 3; of '
  'Tables 3, 5, 6 and 7: 1.',
)
_RESTARTS = flags.DEFINE_list(
  'restarts',
  None,
  'Numbers of starts; default: 1,2,4,8 of Tables 5 and 6, 1,4 of 3 and 7.',
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
  'workdir',
  None,
  'Directory of the runs; default: runs/numbering_SETTING, of Tables 5 and 6 '
  'runs/random_multisets, of Tables 3 and 7 runs/clevr/full or reduced.',
)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'Directory of tables and figures; default: the workdir.'
)
_LIST = flags.DEFINE_bool('list', False, 'Only list the cells.')

# What cells and seeds are made of.
_FIXED = {
  'clevr': (
    'seed',
    'task',
    'data.image_size',
    'data.max_objects',
    'model.name',
    'model.gradient',
    'model.momentum',
    'model.pool',
    'model.slots.coordinates',
    'model.slots.loss_at',
  ),
  'numbering': (
    'seed',
    'task',
    'model_name',
    'data.permute',
    'data.num_train',
    'data.num_classes',
  ),
  'multisets': (
    'seed',
    'task',
    'data.set_size',
    'data.set_dim',
    'model.iterations',
    'model.gradient',
    'model.momentum',
    'model.pool',
  ),
}


def _kind():
  return {'2': 'numbering', '4': 'numbering', '3': 'clevr', '7': 'clevr'}.get(
    _TABLE.value, 'multisets'
  )


def _seeds():
  text = _SEEDS.value or ('3' if _kind() == 'numbering' else '1')
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


def _starts(default):
  texts = default.split(',') if _RESTARTS.value is None else _RESTARTS.value
  return command_line.counts('restarts', texts, default, 1_000)


def _configs(cell):
  """The cell's configuration as a function of the seed."""

  @functools.cache
  def config_of(seed):
    config = cell.config(seed)
    overrides.apply(config, _OVERRIDE.value, _FIXED[_kind()])
    if _STEPS.value:
      config.steps = _STEPS.value
      for name in ('eval_every', 'checkpoint_every', 'log_every'):
        config[name] = min(config[name], _STEPS.value)
    return config

  return config_of


def _numbering():
  """Cells, default directory of the runs, and a report's maker."""
  from configs import class_numbering
  from idspn_jax.studies import numbering_tables

  table = int(_TABLE.value)
  cells = numbering_tables.read_cells(
    table, class_numbering.get_config, _SETTING.value
  )
  workdir = f'runs/numbering_{_SETTING.value}'
  return cells, workdir, functools.partial(numbering_tables.Report, table)


def _multisets():
  """As `_numbering`."""
  from configs import random_multisets
  from idspn_jax.studies import multiset_tables

  if _SETTING.value != 'paper':
    raise errors.UserError(
      f'--setting={_SETTING.value} is not of Tables 5 and 6; for small sets '
      'choose cells: --cells=2x2/10/*.'
    )
  table = int(_TABLE.value)
  starts = _starts('1,2,4,8')
  cells = multiset_tables.read_cells(table, random_multisets.get_config)
  report = functools.partial(multiset_tables.Report, table, starts=starts)
  return cells, 'runs/random_multisets', report


def _clevr():
  """As `_numbering`."""
  from configs import clevr
  from idspn_jax.studies import clevr_tables

  table, setting = int(_TABLE.value), _SETTING.value
  cells = clevr_tables.read_cells(table, clevr.get_config, setting)
  report = functools.partial(
    clevr_tables.Report, table, setting=setting, starts=_starts('1,4')
  )
  return cells, f'runs/clevr/{clevr_tables.folder_of(setting)}', report


def main(argv):
  """Trains what is missing and asked for, prints and saves the tables."""
  del argv
  seeds = _seeds()
  # Here, so that --help and wrong flags answer at once.
  from idspn_jax.runs import files
  from idspn_jax.studies import cells as cells_lib
  from idspn_jax.studies import tables
  from idspn_jax.tasks import registry
  from idspn_jax.training import loop

  cells, workdir, make_report = {
    'numbering': _numbering,
    'multisets': _multisets,
    'clevr': _clevr,
  }[_kind()]()
  cells = tables.select(cells, _CELLS.value)
  if _LIST.value:
    print('\n'.join(cell.name for cell in cells))
    return 0
  workdir = files.local_path(_WORKDIR.value or workdir, '--workdir')
  output = files.local_path(_OUTPUT.value or workdir, '--output')
  report = make_report(cells=cells, directory=output)
  reads_only = _kind() == 'clevr' and _CELLS.value is None
  configs = {cell: _configs(cell) for cell in cells if not reads_only}
  # What does not fit is told before anything is trained.
  for cell in configs:
    registry.build(configs[cell](seeds[0]))
    cells_lib.check(configs[cell], seeds, os.path.join(workdir, cell.name))
  for cell in cells:
    directory = os.path.join(workdir, cell.name)
    if cell not in configs:
      report.add(cell, {}, directory)
      continue
    print(f'{cell.name}: seed {", ".join(map(str, seeds))}', flush=True)
    try:
      results = cells_lib.train(
        configs[cell], seeds, directory, _TOGETHER.value
      )
    except loop.Interrupted as e:
      print(f'Stopped at step {e.step}; the same command continues from there.')
      return e.exit_code
    report.add(cell, results, directory)
  print(report.text())
  figures = report.save_figures()
  if not figures and _kind() == 'numbering':
    print('No Table 8: it shows models that were trained on 4 classes.')
  for path in [*figures, *report.files]:
    print(f'Saved {path}')
  return 0


if __name__ == '__main__':
  command_line.run(main)
