"""Tables 3 and 7: average precision on CLEVR, paper beside measurement."""

from collections.abc import Callable, Sequence
import functools
import os
import re
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.metrics import average_precision
from idspn_jax.metrics import scene_scores
from idspn_jax.runs import checkpoints
from idspn_jax.runs import directory as directory_lib
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.studies import clevr_paper
from idspn_jax.studies import evaluations
from idspn_jax.studies import scene_tables
from idspn_jax.studies import tables

_THRESHOLDS = tuple(
  scene_scores.threshold_name(t) for t in average_precision.THRESHOLDS
)
_KINDS = {'dataset_ap': 'data set', 'per_image_ap': 'per image'}
# In a run's directory: what this table has measured of it.
_STORED = 'average_precision.json'
_EVALUATED = os.path.join('evaluation', 'table.json')
_SETTINGS = {'paper': 'full', 'reduced': 'reduced'}


class Cell(NamedTuple):
  """A model of a table.

  Attributes:
    name: like `idspn` or `idspn_256`; also its directory.
    config: the configuration for a seed.
    paper: the paper's row.
  """

  name: str
  config: Callable[[int], ml_collections.ConfigDict]
  paper: clevr_paper.Row


def folder_of(setting: str) -> str:
  """Name of a setting's folder of runs, and in configs.

  Args:
    setting: 'paper' or 'reduced'.
  """
  return _SETTINGS[setting]


def read_cells(
  table: int,
  get_config: Callable[[str], ml_collections.ConfigDict],
  setting: str = 'paper',
) -> list[Cell]:
  """The models of Table 3 or 7 that can be trained, in order.

  Args:
    table: 3 or 7.
    get_config: makes a configuration from arguments like `model=idspn`.
    setting: 'paper' or 'reduced', which has pictures of one size only.
  """

  def config_of(arguments, seed):
    return get_config(f'{arguments},seed={seed}')

  found = []
  for row in clevr_paper.rows(table):
    larger = row.image_size != 128
    if row.model is None or (larger and setting == 'reduced'):
      continue
    arguments = f'model={row.model},setting={folder_of(setting)}'
    name = row.model
    if larger:
      arguments += f',size={row.image_size}'
      name += f'_{row.image_size}'
    found.append(Cell(name, functools.partial(config_of, arguments), row))
  return found


def _known_rows(workdir, step, iterations):
  """Rows of earlier evaluations of a checkpoint, by number of starts."""
  found = {}
  for name in (_EVALUATED, _STORED):
    path = os.path.join(workdir, name)
    if not os.path.exists(path):
      continue
    try:
      table = files.read_json(path)
      other = {'other_file', 'num_objects'} & set(table)
      if table['step'] == step and not other:
        for row in table['rows']:
          if row['iterations'] == iterations and scene_tables.has_scores(row):
            found[row['restarts']] = row
    except (errors.UserError, KeyError, TypeError):
      continue  # A damaged file is measured again.
  return found


def run_scores(workdir: str, starts: Sequence[int]) -> dict[str, Any]:
  """A run's average precision with several numbers of starts.

  What has been measured of its newest checkpoint, by `experiments.evaluate` or
  before, is read; the rest is measured and kept in the run's directory.

  Args:
    workdir: of the run.
    starts: the numbers of starts; a model without inner steps has one.

  Returns:
    The `step`, the `config`, and `rows` as `scene_tables.percent_row` has them,
    by number of starts.

  Raises:
    UserError: if there is no run, or its pictures cannot be opened.
  """
  config = directory_lib.read_config(workdir)
  steps = checkpoints.stored_steps(workdir)
  if not steps:
    raise errors.UserError(f'{workdir} holds no checkpoint yet.')
  iterates = config.model.name == 'set_decoder'
  iterations = config.model.iterations if iterates else None
  wanted = [*starts] if iterates else [1]
  known = _known_rows(workdir, steps[-1], iterations)
  missing = [count for count in wanted if count not in known]
  if missing:
    run = loading.load_run(workdir)
    table = evaluations.evaluate_at(
      run, [iterations], missing if iterates else [None]
    )
    known |= {row['restarts']: row for row in table['rows']}
    rows = [known[count] for count in sorted(known)]
    files.write_json(os.path.join(workdir, _STORED), {**table, 'rows': rows})
  return {
    'step': steps[-1],
    'config': config.to_dict(),
    'rows': {n: scene_tables.percent_row(known[n]) for n in wanted},
  }


def _seeds_in(directory):
  """Seeds whose runs have a checkpoint, ascending."""
  if not os.path.isdir(directory):
    return []
  found = [re.fullmatch(r'seed(\d+)', name) for name in os.listdir(directory)]
  return sorted(
    int(match[1])
    for match in found
    if match and checkpoints.stored_steps(os.path.join(directory, match[0]))
  )


def _summary(values):
  values = [v for v in values if v is not None and np.isfinite(v)]
  return {
    'mean': float(np.mean(values)) if values else None,
    'std': float(np.std(values, ddof=1)) if len(values) > 1 else None,
    'values': values,
  }


def _entry(cell, runs):
  """What a table's JSON says of a cell; `runs` by seed, none if missing."""
  here = {}
  for count in sorted({n for run in runs.values() for n in run['rows']}):
    own = [run['rows'][count] for run in runs.values() if count in run['rows']]
    here[str(count)] = {
      kind: {t: _summary([row[kind][t] for row in own]) for t in _THRESHOLDS}
      for kind in _KINDS
    }
  first = next(iter(runs.values()), None)
  return {
    'cell': cell.name,
    'model': cell.paper.label,
    'paper': {t: {'mean': m, 'std': s} for t, m, s in cell.paper.values},
    'here': here,
    'runs': [
      {'seed': seed, 'step': run['step'], 'rows': [*run['rows'].values()]}
      for seed, run in runs.items()
    ],
    'config': first and first['config'],
  }


def _number(mean, std):
  if mean is None:
    return '–'
  return f'{mean:.1f}' + ('' if std is None else f' ± {std:.1f}')


def format_table(
  rows: Sequence[clevr_paper.Row],
  entries: Sequence[dict[str, Any]],
) -> str:
  """Lays the table out as Markdown: a model's paper line, then ours.

  Args:
    rows: the paper's.
    entries: of the table's JSON; a model without one is missing, too.
  """
  by_label = {one['model']: one for one in entries}
  heads = [f'AP{t.replace("inf", "∞")}' for t in _THRESHOLDS]
  lines = [['Model', 'where', 'average over', 'starts', *heads, 'seeds']]
  for row in rows:
    paper = {t: _number(mean, std) for t, mean, std in row.values}
    numbers = [paper.get(t, '') for t in _THRESHOLDS]
    lines.append([row.label, 'paper', '', '1', *numbers, ''])
    own = by_label.get(row.label)
    here = own['here'] if own else {}
    for starts, kinds in here.items():
      for kind, name in _KINDS.items():
        numbers = [
          _number(kinds[kind][t]['mean'], kinds[kind][t]['std'])
          for t in _THRESHOLDS
        ]
        count = str(len(kinds[kind]['inf']['values']))
        lines.append(['', 'here', name, starts, *numbers, count])
    if not here:
      dashes = ['–'] * len(_THRESHOLDS)
      lines.append(['', 'here', 'missing', '', *dashes, '0'])
  return tables.markdown(lines)


class Report(tables.Report):
  """Table 3 or 7, cell by cell."""

  def __init__(
    self,
    table: int,
    cells: Sequence[Cell],
    directory: str,
    setting: str,
    starts: Sequence[int],
  ):
    """Starts an empty table.

    Args:
      table: its number.
      cells: its cells.
      directory: where to save it; created.
      setting: 'paper' or 'reduced'.
      starts: numbers of starts to evaluate with.

    Raises:
      UserError: if the directory cannot be written to.
    """
    super().__init__(table, cells, directory)
    self._setting = setting
    self._starts = sorted({*starts})

  def add(
    self, cell: Cell, results: dict[int, dict[str, Any]], directory: str
  ) -> None:
    """Adds a cell with all runs in its directory, which may be none; saves.

    Args:
      cell: the cell.
      results: unused; runs are read from the directory.
      directory: the cell's.

    Raises:
      UserError: if a run cannot be evaluated.
    """
    del results
    runs = {
      seed: run_scores(os.path.join(directory, f'seed{seed}'), self._starts)
      for seed in _seeds_in(directory)
    }
    self.add_entry(_entry(cell, runs))

  def text(self) -> str:
    """The table so far, with a caption."""
    steps = sorted({run['step'] for e in self._entries for run in e['runs']})
    trained = ' or '.join(f'{step:,}' for step in steps) or 'no'
    text = (
      f'Table {self._table}: average precision on CLEVR in %, mean ± standard '
      'deviation over seeds.\n'
      'Paper: its iDSPN and the DSPNs of Table 7 are averages over images, of '
      'the first image of every batch; the slot models and the DSPN of Table 3 '
      'are figures of other papers.\n'
      f'Here: {trained} training steps; over the data set, and of every image, '
      'averaged. With several starts each image keeps the one of least energy.'
      '\n'
    )
    if self._setting == 'reduced':
      text += (
        'The reduced setting (64 × 64 pixels, 3 to 6 objects, half the width, '
        "fewer steps) is another task: not comparable with the paper's "
        'numbers.\n'
      )
    return f'{text}\n{format_table(self._rows(), self._entries)}'

  def _rows(self):
    """The paper's rows of the cells, and of models that are no cells."""
    chosen = {cell.paper.label for cell in self._cells}
    cells = read_cells(self._table, ml_collections.ConfigDict, self._setting)
    others = {cell.paper.label for cell in cells} - chosen
    rows = clevr_paper.rows(self._table)
    return [row for row in rows if row.label not in others]

  def save_figures(self) -> list[str]:
    """No figures belong to these tables."""
    return []
