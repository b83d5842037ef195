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

    python -m experiments.reproduce --results=runs/table5/sweep.json

The results file of `experiments.sweep` says which table, setting and seeds;
nothing is trained, and cells that have not finished are shown as missing.

    python -m experiments.reproduce --table=5 --cells='4x4/10/*' \
      --earlier=results/random_multisets/table5.json

Cells that an earlier table's JSON has are taken from there as they are, and
neither trained nor looked for in --workdir. Their settings must be the same.

Leaves in --output: the table as Markdown and as JSON, with every run's numbers,
configuration, device, versions and date. Tables 5 and 6 evaluate with several
starts too (--restarts); Table 5 comes with Figures 1 to 3, Tables 2 and 4 with
Table 8, each model's worst prediction for 4 classes, as text and figure.
"""

import os

from absl import flags

from experiments import command_line
from experiments import table_flags
from idspn_jax import errors

_TABLE = flags.DEFINE_enum(
  'table', '2', table_flags.TABLES, 'Which table; 2 and 4 write Table 8 too.'
)
_RESTARTS = flags.DEFINE_list(
  'restarts',
  None,
  'Numbers of starts; default: 1,2,4,8 of Tables 5 and 6, 1,4 of 3 and 7.',
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
_RESULTS = flags.DEFINE_string(
  'results', None, 'sweep.json of a sweep of a table, in place of training.'
)
_EARLIER = flags.DEFINE_string(
  'earlier', None, "An earlier table's JSON; its cells are not trained again."
)
# What --results says itself.
_TOLD = (
  'earlier',
  'table',
  'setting',
  'seeds',
  'steps',
  'override',
  'workdir',
  'list',
)


def _read_results():
  """Makes the table of a sweep's results file."""
  from idspn_jax.runs import files
  from idspn_jax.studies import sweep_results
  from idspn_jax.studies import tables

  for name in _TOLD:
    if flags.FLAGS[name].present:
      raise errors.UserError(
        f'--{name} does not go with --results: the file says it; leave one of '
        'them out.'
      )
  path = files.local_path(_RESULTS.value, '--results')
  found = sweep_results.read(path)
  if found.table is None:
    raise errors.UserError(
      f'{path} is of a grid, not of a table of the paper; sweep.md beside it '
      'has its numbers.'
    )
  table = table_flags.open_table(found.table, found.setting, _RESTARTS.value)
  cells = tables.select(table.cells, table_flags.CELLS.value)
  here = os.path.dirname(path)
  output = files.local_path(_OUTPUT.value or here or '.', '--output')
  report = table.make_report(cells=cells, directory=output)
  for cell in cells:
    results = found.results.get(cell.name, {})
    if results or table.kind == 'clevr':
      report.add(cell, results, os.path.join(here, cell.name))
  return _finish(report, table.kind)


def _finish(report, kind):
  print(report.text())
  figures = report.save_figures()
  if not figures and kind == 'numbering':
    print('No Table 8: it shows models that were trained on 4 classes.')
  for path in [*figures, *report.files]:
    print(f'Saved {path}')
  return 0


def main(argv):
  """Trains what is missing and asked for, prints and saves the tables."""
  del argv
  if _RESULTS.value:
    return _read_results()
  kind = table_flags.kind_of(_TABLE.value)
  seeds = table_flags.seeds('3' if kind == 'numbering' else '1')
  # Here, so that --help and wrong flags answer at once.
  from idspn_jax.runs import files
  from idspn_jax.studies import cells as cells_lib
  from idspn_jax.studies import tables
  from idspn_jax.tasks import registry
  from idspn_jax.training import loop

  table = table_flags.open_table(
    _TABLE.value, table_flags.SETTING.value, _RESTARTS.value
  )
  cells = tables.select(table.cells, table_flags.CELLS.value)
  if _LIST.value:
    print('\n'.join(cell.name for cell in cells))
    return 0
  workdir = files.local_path(_WORKDIR.value or table.workdir, '--workdir')
  output = files.local_path(_OUTPUT.value or workdir, '--output')
  earlier, path = {}, None
  if _EARLIER.value:
    path = files.local_path(_EARLIER.value, '--earlier')
    earlier = tables.read_entries(path, int(_TABLE.value))
  report = table.make_report(cells=cells, directory=output)
  reads_only = kind == 'clevr' and table_flags.CELLS.value is None
  configs = {
    cell: table_flags.config_of_cell(cell, kind)
    for cell in cells
    if not reads_only
  }
  # What does not fit is told before anything is trained.
  for cell in configs:
    if cell.name in earlier:
      cells_lib.check_recorded(configs[cell], earlier[cell.name], path)
      continue
    registry.build(configs[cell](seeds[0]))
    cells_lib.check(configs[cell], seeds, os.path.join(workdir, cell.name))
  for cell in cells:
    directory = os.path.join(workdir, cell.name)
    if cell.name in earlier:
      report.add_entry(earlier[cell.name])
      continue
    if cell not in configs:
      report.add(cell, {}, directory)
      continue
    print(f'{cell.name}: seed {", ".join(map(str, seeds))}', flush=True)
    try:
      results = cells_lib.train(
        configs[cell], seeds, directory, table_flags.TOGETHER.value
      )
    except loop.Interrupted as e:
      print(f'Stopped at step {e.step}; the same command continues from there.')
      return e.exit_code
    report.add(cell, results, directory)
  return _finish(report, kind)


if __name__ == '__main__':
  command_line.run(main)
