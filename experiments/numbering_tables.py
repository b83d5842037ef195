"""Tables 2, 4 and 8: class-specific numbering, paper beside measurement."""

from collections.abc import Sequence
import csv
import fnmatch
import os
from typing import Any, NamedTuple

import jax
import ml_collections

from configs import class_numbering
from idspn_jax import errors
from idspn_jax.metrics import numbering_errors
from idspn_jax.training import cells as cells_lib
from idspn_jax.training import records
from idspn_jax.training import reports

PAPER = os.path.join(
  os.path.dirname(__file__), 'paper_tables/table4_class_numbering.csv'
)
_MODELS = {
  'DeepSets': 'deep_sets',
  'Transformer without PE': 'transformer',
  'Transformer with random PE': 'transformer_random_pe',
  'Transformer with PE': 'transformer_pe',
  'BiLSTM': 'bilstm',
  'DSPN': 'dspn',
  'iDSPN': 'idspn',
}
# What a table's JSON repeats of a run's `result.json`.
RUN_KEYS = (
  'step',
  'diverged',
  'selected',
  'metrics',
  'parameters',
  'seconds_per_step',
  'seeds_in_lockstep',
  'device',
  'versions',
  'date',
)


class Cell(NamedTuple):
  """One number of Table 4.

  Attributes:
    classes: number of classes.
    row: what the paper calls the model, with `+ DA` for augmentation.
    model: what the config calls it.
    augmented: whether training sets are permuted.
    samples: training sets.
    mean: the paper's accuracy in %.
    std: its standard deviation over 6 seeds.
  """

  classes: int
  row: str
  model: str
  augmented: bool
  samples: int
  mean: float
  std: float

  @property
  def name(self) -> str:
    """Like `4/bilstm+da/6400`; also the directory."""
    augmented = '+da' if self.augmented else ''
    return f'{self.classes}/{self.model}{augmented}/{self.samples}'


def read_cells(table: int) -> list[Cell]:
  """The cells of Table 4, or of its part that is Table 2, in order."""
  found = []
  with open(PAPER, encoding='utf-8', newline='') as f:
    for row in csv.DictReader(f):
      augmented = row['data_augmentation'] == 'yes'
      cell = Cell(
        int(row['n_classes']),
        row['model'] + (' + DA' if augmented else ''),
        _MODELS[row['model']],
        augmented,
        int(row['training_samples']),
        float(row['accuracy_mean']),
        float(row['accuracy_std']),
      )
      if table == 4 or (cell.classes == 4 and not augmented):
        found.append(cell)
  return found


def select(cells: Sequence[Cell], patterns: Sequence[str] | None) -> list[Cell]:
  """Picks cells by patterns like `4/idspn/*`; a bare `idspn` means a model.

  Args:
    cells: to pick from.
    patterns: the patterns; None for all cells.

  Raises:
    UserError: if there is no pattern, or one fits no cell.
  """
  if patterns is None:
    return list(cells)
  if not patterns:
    raise errors.UserError('--cells is empty; leave it out for all cells.')
  picked = set()
  for pattern in patterns:
    whole = pattern if '/' in pattern else f'*/{pattern}/*'
    fitting = [c.name for c in cells if fnmatch.fnmatchcase(c.name, whole)]
    if not fitting:
      names = ', '.join(cell.name for cell in cells)
      raise errors.UserError(f'--cells: {pattern!r} fits none of {names}.')
    picked.update(fitting)
  return [cell for cell in cells if cell.name in picked]


def config_of(cell: Cell, setting: str, seed: int) -> ml_collections.ConfigDict:
  """The configuration of a cell's run."""
  return class_numbering.get_config(
    f'setting={setting},model={cell.model},samples={cell.samples},'
    f'classes={cell.classes},permute={int(cell.augmented)},seed={seed}'
  )


def _entry(
  cell: Cell,
  results: dict[int, dict[str, Any]],
  equivariance: dict[str, Any] | None,
) -> dict[str, Any]:
  """What a table's JSON says of a cell.

  Args:
    cell: the cell.
    results: every seed's `result.json`.
    equivariance: from the task's `equivariance`, with seed and step; None if
      nothing was learned.
  """
  values = list(results.values())
  return {
    'cell': cell.name,
    'paper': {'mean': cell.mean, 'std': cell.std, 'seeds': 6},
    # Parameters that are no numbers get no set right.
    'here': {
      name: cells_lib.summarize(values, name, lost=0.0)
      for name in ('set_accuracy', 'multiset_accuracy', 'element_accuracy')
    },
    'equivariance': equivariance,
    'runs': [
      {
        'seed': seed,
        **{key: result[key] for key in RUN_KEYS},
      }
      for seed, result in results.items()
    ],
    'config': values[0]['config'],
  }


def _percent(mean, std):
  deviation = '' if std is None else f' ± {std:.1f}'
  return f'{mean:.1f}{deviation}'


def _here(one):
  if one is None:
    return '–'
  found = one['here']['set_accuracy']
  mean = 100 * found['mean']
  std = None if found['std'] is None else 100 * found['std']
  seeds = f'{found["seeds"]} seed{"s" if found["seeds"] > 1 else ""}'
  lost = f', {found["diverged"]} diverged' if found['diverged'] else ''
  return f'{_percent(mean, std)} ({seeds}{lost})'


def _mark(entries, key):
  """✓ or ✗ as measured in a row's cells; `?` where they disagree."""
  found = {
    one['equivariance'][key]['holds']
    for one in entries
    if one and one['equivariance']
  }
  if not found:
    return '–'
  return {(True,): '✓', (False,): '✗'}.get(tuple(found), '?')


def format_table(cells: Sequence[Cell], entries: Sequence[dict]) -> str:
  """Lays the table out as Markdown, a part per number of classes.

  Args:
    cells: the table's cells that were asked for.
    entries: those that have been run.
  """
  by_name = {one['cell']: one for one in entries}
  parts = []
  for classes in dict.fromkeys(cell.classes for cell in cells):
    part = [cell for cell in cells if cell.classes == classes]
    sizes = sorted({cell.samples for cell in part})
    head = ['Model', 'Set-equivariant', 'Multiset-equivariant']
    for size in sizes:
      head += [f'{size:,} samples: paper', 'here']
    rows = [head]
    for row in dict.fromkeys(cell.row for cell in part):
      own = {cell.samples: cell for cell in part if cell.row == row}
      found = {size: by_name.get(cell.name) for size, cell in own.items()}
      line = [
        row,
        _mark(found.values(), 'set'),
        _mark(found.values(), 'multiset'),
      ]
      for size in sizes:
        cell = own.get(size)
        line.append(_percent(cell.mean, cell.std) if cell else '')
        line.append(_here(found[size]) if cell else '')
      rows.append(line)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ['-' * width for width in widths])
    lines = [
      '| '
      + ' | '.join(
        text.ljust(width) for text, width in zip(line, widths, strict=True)
      )
      + ' |'
      for line in rows
    ]
    parts.append(f'{classes} classes\n\n' + '\n'.join(lines))
  return '\n\n'.join(parts)


def _describe(configs: Sequence[dict[str, Any]]) -> str:
  """Two sentences on the setting, the measured one and the paper's."""
  first, data = configs[0], configs[0]['data']
  steps = sorted({config['steps'] for config in configs})
  ends = dict.fromkeys(f'{steps[i]:,}' for i in (0, -1))
  return (
    f'Here: sets of {data["set_size"]}, {" to ".join(ends)} steps of '
    f'{first["batch_size"]}, the best of the validations every '
    f'{first["eval_every"]} steps tested on {data["num_test"]:,} sets. '
    'Paper: sets of 64, 50,000 steps of 128, 6 seeds, tested on 64,000.'
  )


class Report:
  """A table that grows cell by cell, saved after each."""

  def __init__(self, table: int, cells: Sequence[Cell], directory: str):
    """Starts an empty table.

    Args:
      table: its number.
      cells: its cells.
      directory: where to save it; created.

    Raises:
      UserError: if the directory cannot be written to.
    """
    records.make_directory(directory, '--output')
    self._table = table
    self._cells = cells
    self._directory = directory
    self._entries: list[dict[str, Any]] = []
    self._runs: dict[str, tuple[Cell, str]] = {}
    stem = os.path.join(directory, f'table{table}')
    self.files = [f'{stem}.md', f'{stem}.json']

  def add(
    self, cell: Cell, results: dict[int, dict[str, Any]], directory: str
  ) -> None:
    """Adds a cell that has been run, measures its equivariance, and saves.

    Args:
      cell: the cell.
      results: every seed's `result.json`.
      directory: the cell's.
    """
    measured = None
    for seed, result in results.items():
      if result['metrics']:
        workdir = cells_lib.seed_directory(directory, seed)
        run = reports.load_run(workdir)
        found = run.task.equivariance(run.params, jax.random.key(seed))
        measured = {**found, 'seed': seed, 'step': run.step}
        if cell.classes == 4:
          self._runs[cell.row] = cell, workdir  # The most samples come last.
        break
    self._entries.append(_entry(cell, results, measured))
    records.write_atomically(self.files[0], self.text() + '\n')
    content = {'table': self._table, 'cells': self._entries}
    records.write_json(self.files[1], {**content, **records.provenance()})

  def text(self) -> str:
    """The table so far, with a caption."""
    return (
      f'Table {self._table}: whole-set accuracy in %, mean ± standard '
      f'deviation.\n{_describe([e["config"] for e in self._entries])}\n\n'
      + format_table(self._cells, self._entries)
    )

  def save_worst(self) -> list[str]:
    """Saves every model's worst test prediction (Table 8), if any learned."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import numbering

    worst, sources = {}, []
    for row, (cell, workdir) in self._runs.items():
      run = reports.load_run(workdir)
      key = jax.random.key(run.config.seed)
      worst[row] = run.task.worst_numbering(run.params, key)
      sources.append(
        f'{row}: {cell.name}, seed {run.config.seed}, step {run.step:,}, of '
        f'{run.config.data.num_test:,} test sets'
      )
    if not worst:  # Nothing was learned, or all cells are of 8 classes.
      return []
    stem = os.path.join(self._directory, 'table8')
    text = numbering_errors.format_numberings(worst)
    legend = '(a, 3) ≠ 2: of class a, 3 is wrong and 2 is missing.'
    notes = '\n'.join([legend, *sources])
    records.write_atomically(f'{stem}.txt', f'{text}\n\n{notes}\n')
    return [f'{stem}.txt', str(numbering.draw_numberings(worst, f'{stem}.png'))]
