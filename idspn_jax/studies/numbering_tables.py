"""Tables 2, 4 and 8: class-specific numbering, paper beside measurement."""

from collections.abc import Callable, Sequence
import csv
import functools
import os
from typing import Any

import jax
import ml_collections

from idspn_jax.metrics import numbering_errors
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.studies import cells as cells_lib
from idspn_jax.studies import numbering as measures
from idspn_jax.studies import tables

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
_SHOWN_CLASSES = '4 classes'  # Whose worst predictions are Table 8.


def read_cells(
  table: int,
  get_config: Callable[[str], ml_collections.ConfigDict],
  setting: str = 'paper',
) -> list[tables.Cell]:
  """The cells of Table 4, or of its part that is Table 2, in order.

  Args:
    table: 2 or 4.
    get_config: makes a configuration from arguments like `model=idspn`.
    setting: 'paper' or 'reduced'.
  """

  def config_of(arguments, seed):
    return get_config(f'setting={setting},{arguments},seed={seed}')

  found = []
  with open(PAPER, encoding='utf-8', newline='') as f:
    for row in csv.DictReader(f):
      augmented = row['data_augmentation'] == 'yes'
      classes, samples = int(row['n_classes']), int(row['training_samples'])
      if table == 2 and (classes != 4 or augmented):
        continue
      model = _MODELS[row['model']]
      arguments = (
        f'model={model},samples={samples},classes={classes},'
        f'permute={int(augmented)}'
      )
      found.append(
        tables.Cell(
          name=f'{classes}/{model}{"+da" if augmented else ""}/{samples}',
          config=functools.partial(config_of, arguments),
          part=f'{classes} classes',
          row=row['model'] + (' + DA' if augmented else ''),
          column=f'{samples:,} samples',
          mean=float(row['accuracy_mean']),
          std=float(row['accuracy_std']),
          seeds=6,
        )
      )
  return found


def _entry(
  cell: tables.Cell,
  results: dict[int, dict[str, Any]],
  equivariance: dict[str, Any] | None,
) -> dict[str, Any]:
  """What a table's JSON says of a cell.

  Args:
    cell: the cell.
    results: every seed's `result.json`.
    equivariance: from `numbering.equivariance`, with seed and step; None if
      nothing was learned.
  """
  values = list(results.values())
  return {
    'cell': cell.name,
    'paper': {'mean': cell.mean, 'std': cell.std, 'seeds': cell.seeds},
    # Non-finite parameters get no set right.
    'here': {
      name: cells_lib.summarize(values, name, lost=0.0)
      for name in ('set_accuracy', 'multiset_accuracy', 'element_accuracy')
    },
    'equivariance': equivariance,
    'runs': [tables.run_entry(seed, r) for seed, r in results.items()],
    'config': values[0]['config'],
  }


def _percent(mean, std):
  spread = '' if std is None else f' ± {std:.1f}'
  return f'{mean:.1f}{spread}'


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


def format_table(cells: Sequence[tables.Cell], entries: Sequence[dict]) -> str:
  """Lays the table out as Markdown, a part per number of classes.

  Args:
    cells: the table's cells that were asked for.
    entries: those that have been run.
  """
  by_name = {one['cell']: one for one in entries}

  def mark(key):
    return lambda row: _mark([by_name.get(cell.name) for cell in row], key)

  return tables.format_parts(
    cells,
    paper=lambda cell: _percent(cell.mean, cell.std),
    here=lambda cell: _here(by_name.get(cell.name)),
    extra=(
      ('Set-equivariant', mark('set')),
      ('Multiset-equivariant', mark('multiset')),
    ),
  )


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


class Report(tables.Report):
  """Table 2 or 4, cell by cell."""

  def __init__(self, table: int, cells: Sequence[tables.Cell], directory: str):
    """Starts an empty table; see `tables.Report`."""
    super().__init__(table, cells, directory)
    self._runs: dict[str, tuple[tables.Cell, str]] = {}

  def add(
    self,
    cell: tables.Cell,
    results: dict[int, dict[str, Any]],
    directory: str,
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
        run = loading.load_run(workdir)
        found = measures.equivariance(
          run.task, run.variables, run.data, jax.random.key(seed)
        )
        measured = {**found, 'seed': seed, 'step': run.step}
        if cell.part == _SHOWN_CLASSES:
          self._runs[cell.row] = cell, workdir  # The most samples come last.
        break
    self.add_entry(_entry(cell, results, measured))

  def text(self) -> str:
    """The table so far, with a caption."""
    return (
      f'Table {self._table}: whole-set accuracy in %, mean ± standard '
      f'deviation.\n{_describe([e["config"] for e in self._entries])}\n\n'
      + format_table(self._cells, self._entries)
    )

  def save_figures(self) -> list[str]:
    """Saves every model's worst test prediction (Table 8), if any learned."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import numbering
    from idspn_jax.figures import save

    worst, sources = {}, []
    for row, (cell, workdir) in self._runs.items():
      run = loading.load_run(workdir)
      key = jax.random.key(run.config.seed)
      worst[row] = measures.worst_numbering(
        run.task, run.variables, run.data, key
      )
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
    files.write_atomically(f'{stem}.txt', f'{text}\n\n{notes}\n')
    figure = numbering.draw_numberings(worst)
    return [f'{stem}.txt', str(save.save_figure(figure, f'{stem}.png'))]
