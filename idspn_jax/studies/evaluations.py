"""Evaluates finished runs: tables over step counts, and figures."""

from collections.abc import Sequence
import itertools
import json
import os
from typing import Any

import jax

from idspn_jax import errors
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.runs import provenance
from idspn_jax.runs import scalars
from idspn_jax.studies import multiset_paper
from idspn_jax.studies import scene_tables
from idspn_jax.tasks import model
from idspn_jax.training import evaluation

_TABLE = 'table.json'
# More metrics than that are laid out as rows.
_MOST_COLUMNS = 8
# What a row says besides metrics.
_SETTINGS = ('iterations', 'restarts')


def evaluate_at(
  run: loading.LoadedRun,
  iterations: Sequence[int | None],
  restarts: Sequence[int | None] = (None,),
  seed: int | None = None,
) -> dict[str, Any]:
  """Evaluates on the test data at several numbers of inner steps and starts.

  Args:
    run: a run.
    iterations: numbers of inner steps; None for the configured number.
    restarts: numbers of starts; None for the configured number.
    seed: of the evaluation's random numbers, such as sampled starts; None for
      the run's own.

  Returns:
    A table: `rows` with `iterations`, `restarts` and the metrics, and where
    it comes from.
  """
  used = run.config.seed if seed is None else seed
  evaluate = evaluation.Evaluator(run.task, [run.data], [used])
  own = run.config.get('model', {}).get('restarts', 1)
  if not run.task.iterates:
    own = 1  # Models without inner steps have no starts.
  rows = []
  for starts, count in itertools.product(restarts, iterations):
    options = {'iterations': count} if run.task.iterates else {}
    if starts is not None:
      options['restarts'] = model.build_restarts(run.config.model, starts)
    else:
      starts = own
    (metrics,) = evaluate(run.variables, **options)
    rows.append({'iterations': count, 'restarts': starts, **metrics})
  trained_with = None
  if run.task.iterates:
    trained_with = run.config.get('model', {}).get('iterations')
  table = {
    'task': run.config.task,
    'step': run.step,
    'trained_with_iterations': trained_with,
    'rows': rows,
    'config': json.loads(run.config.to_json()),
    **provenance.provenance(),
  }
  if run.other_file is not None:
    table['other_file'] = os.path.abspath(run.other_file)
  if run.num_objects is not None:
    table['num_objects'] = list(run.num_objects)
  if not run.ema:
    table['ema'] = False
  if seed is not None:
    table['seed'] = seed
  return table


def json_table(run: loading.LoadedRun, table: dict[str, Any]) -> dict[str, Any]:
  """What a single file says of an evaluation.

  Args:
    run: the run.
    table: from `evaluate_at`.

  Returns:
    The table, with the run's `workdir` and the base name of the evaluated
    data's path as `source` (of data without a path, the config's
    `data.source`, if any). Of CLEVR scenes `rows` are those of
    `scene_tables.percent_row`, and there are the number of `images`, and
    `num_objects` if scenes of other numbers of objects were left out.
  """
  data = run.config.get('data', {})
  place = table.get('other_file') or data.get('path')
  if not place and data.get('source') != 'rendered':
    place = data.get('data_dir')
  place = place or data.get('source')
  found = {
    **table,
    'workdir': run.workdir,
    'source': os.path.basename(os.path.normpath(place)) if place else None,
  }
  found.pop('other_file', None)
  if (chosen := _num_objects(table)) is not None:
    found['num_objects'] = chosen
  rows = table['rows']
  if scene_tables.has_scores(rows[0]):
    found['rows'] = [scene_tables.percent_row(row) for row in rows]
    if 'images' in rows[0]:
      found['images'] = int(rows[0]['images'])
  return found


def format_table(table: dict[str, Any]) -> str:
  """Lays a table of `evaluate_at` out as text.

  A few metrics are columns; many are rows, under a column per setting. Scores
  of CLEVR scenes are in percent, see `scene_tables`.
  """
  names = [name for name in table['rows'][0] if name not in _SETTINGS]
  if scene_tables.has_scores(table['rows'][0]):
    lines = [scene_tables.format_table(table)]
  elif len(names) <= _MOST_COLUMNS:
    lines = _with_columns(table, names)
  else:
    lines = _with_rows(table, names)
  if (chosen := _num_objects(table)) is not None:
    lines.append('Only scenes of {} to {} objects.'.format(*chosen))
  if not table.get('ema', True):
    lines.append('The parameters themselves, not their moving average.')
  if 'seed' in table:
    lines.append(f'Random numbers of seed {table["seed"]}.')
  if 'other_file' in table and scene_tables.reads_pictures(table):
    lines.append(
      f"The val pictures of {table['other_file']}, not the run's own."
    )
  elif 'other_file' in table:
    lines.append(
      f"All sets of {table['other_file']}, another file than the run's own."
    )
  return '\n'.join(lines)


def _num_objects(table):
  """Which scenes were evaluated; None for all."""
  data = table.get('config', {}).get('data', {})
  if 'num_objects' in table or not data.get('leave_out'):
    return table.get('num_objects')
  return [data['min_objects'], data['max_objects']]


def _setting(table, row):
  """Inner steps, with a star at the configured number."""
  count = row['iterations']
  star = '*' if count and count == table['trained_with_iterations'] else ' '
  return (f'{count:5}' if count else f'{"–":>5}') + star


def _several_starts(table):
  return any(row['restarts'] > 1 for row in table['rows'])


def _with_columns(table, names):
  several = _several_starts(table)
  head = f'{"T":>5} ' + (f'{"starts":>7}{"steps":>7}' if several else '')
  lines = [head + ''.join(f'{name:>20}' for name in names)]
  for row in table['rows']:
    starts = row['restarts']
    lines.append(
      _setting(table, row)
      + (f'{starts:7}{starts * row["iterations"]:7}' if several else '')
      + ''.join(f'{row[name]:20.4g}' for name in names)
    )
  return lines


def _with_rows(table, names):
  width = max(map(len, names))
  settings = ''.join(f'{_setting(table, row):>11}' for row in table['rows'])
  lines = [f'{"T":{width}}{settings}'.rstrip()]
  if _several_starts(table):
    starts = [row['restarts'] for row in table['rows']]
    steps = [row['restarts'] * row['iterations'] for row in table['rows']]
    for name, numbers in (('starts', starts), ('steps', steps)):
      values = ''.join(f'{number:10} ' for number in numbers)
      lines.append(f'{name:{width}}{values}'.rstrip())
  for name in names:
    values = ''.join(f'{row[name]:10.4g} ' for row in table['rows'])
    lines.append(f'{name:{width}}{values}'.rstrip())
  return lines


def default_output(run: loading.LoadedRun, seed: int | None = None) -> str:
  """Where a run's evaluation goes: a folder of the run, one per test data.

  Args:
    run: the run.
    seed: see `evaluate_at`; every given one has its own folder.

  Raises:
    UserError: if the folder of that name belongs to another file.
  """
  folder = os.path.join(run.workdir, 'evaluation')
  chosen = ''
  if run.num_objects is not None:
    chosen = '_{}to{}_objects'.format(*run.num_objects)
  if not run.ema:
    chosen += '_noema'
  if seed is not None:
    chosen += f'_seed{seed}'
  if run.other_file is None:
    return folder + chosen
  stem = os.path.basename(os.path.abspath(run.other_file))
  if not os.path.isdir(run.other_file):
    stem = os.path.splitext(stem)[0]
  folder = f'{folder}_{stem}{chosen}'
  path = os.path.join(folder, _TABLE)
  if os.path.exists(path):
    before = _file_of(path)
    if before not in (None, os.path.abspath(run.other_file)):
      raise errors.UserError(
        f'{path} holds the evaluation of {before}; give the one of '
        f'{run.other_file} another place: --output=DIR.'
      )
  return folder


def _file_of(path):
  """The data file of a stored table; None if the table is damaged."""
  try:
    found = files.read_json(path)
  except errors.UserError:
    return None
  return found.get('other_file') if isinstance(found, dict) else None


def check_output(directory: str, given: bool) -> None:
  """Refuses an output directory that could not be written to; creates it.

  Args:
    directory: where table and figures go.
    given: whether the user has chosen it.

  Raises:
    UserError: naming the directory and the remedy.
  """
  try:
    files.make_directory(directory, '--output')
  except errors.UserError as e:
    if given:
      raise
    raise errors.UserError(
      f'Cannot write to {directory}, the place in the run; choose another one: '
      '--output=DIR.'
    ) from e


def check_json(path: str) -> None:
  """Refuses a `--json` file that could not be written; makes its directory.

  Raises:
    UserError: naming the file and the remedy.
  """
  if os.path.isdir(path):
    raise errors.UserError(f'--json={path} is a directory; give a file.')
  files.make_directory(os.path.dirname(path) or '.', 'the directory of --json')


def save(
  run: loading.LoadedRun,
  table: dict[str, Any],
  directory: str,
  figures: bool = True,
) -> list[str]:
  """Writes a table and its figures.

  Args:
    run: the run.
    table: from `evaluate_at`.
    directory: where to, created if missing.
    figures: draw examples and learning curves too.

  Returns:
    The files written.

  Raises:
    UserError: if the directory cannot be written to.
  """
  files.make_directory(directory, '--output')
  path = os.path.join(directory, _TABLE)
  files.write_json(path, table)
  if not figures:
    return [path]
  # Here, because only drawing needs matplotlib.
  from idspn_jax.figures import restarts as restarts_figure
  from idspn_jax.figures import save as save_lib
  from idspn_jax.figures import trajectories

  counts = list(dict.fromkeys(row['iterations'] for row in table['rows']))
  key = jax.random.key(table.get('seed', run.config.seed))
  drawn = dict(run.task.draw(run.variables, run.data, key, counts))
  curves = {}
  for name, label in (('train/loss', 'training'), ('eval/loss', 'held out')):
    steps, values = scalars.read_scalars(run.workdir, name)
    if steps:
      curves[label] = (steps, values)
  if curves:
    drawn['learning_curve'] = trajectories.draw_losses(curves)
  if len({row['restarts'] for row in table['rows']}) > 1:
    headline = run.task.headline
    values = [row[headline] for row in table['rows']]
    points = [(row['restarts'], row['iterations']) for row in table['rows']]
    paper = {}
    if headline == 'loss':
      paper = multiset_paper.paper_losses(table['config'])
    drawn['restarts'] = restarts_figure.draw_restarts(
      points, values, headline, paper
    )
  written = [path]
  for name, figure in drawn.items():
    place = os.path.join(directory, f'{name}.png')
    try:
      written.append(str(save_lib.save_figure(figure, place)))
    except OSError as e:
      raise files.cannot_write(place, e) from e
  return written
