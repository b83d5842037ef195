"""Cells of Tables 2 and 4, and the tables made of them."""

import csv
import types

import pytest

from configs import class_numbering as config_file
from idspn_jax import errors
from idspn_jax.metrics import numbering_errors
from idspn_jax.studies import cells as cells_lib
from idspn_jax.studies import numbering_tables
from idspn_jax.studies import tables


def read_cells(table, setting='paper'):
  return numbering_tables.read_cells(table, config_file.get_config, setting)


class TestCells:
  def test_are_those_of_the_paper(self):
    with open(numbering_tables.PAPER, encoding='utf-8', newline='') as f:
      paper = list(csv.DictReader(f))
    cells = read_cells(4)
    assert len(cells) == len(paper) == 45
    assert len({cell.name for cell in cells}) == 45
    for cell, row in zip(cells, paper, strict=True):
      assert cell.mean == float(row['accuracy_mean'])
      assert cell.std == float(row['accuracy_std'])
      assert ('+da' in cell.name) == cell.row.endswith(' + DA')

  def test_table_2_is_a_part_of_table_4(self):
    names = {cell.name for cell in read_cells(2)}
    assert len(names) == 21 and names < {cell.name for cell in read_cells(4)}
    assert all(name.startswith('4/') for name in names)
    assert not any('+da' in name for name in names)

  @pytest.mark.parametrize(
    'patterns, names',
    [
      (['4/idspn/640'], ['4/idspn/640']),
      (
        ['idspn'],
        [f'{k}/idspn/{n}' for k in (4, 8) for n in (640, 6400, 64000)],
      ),
      (
        ['8/dspn/*', '8/bilstm+da/640'],
        ['8/bilstm+da/640', *(f'8/dspn/{n}' for n in (640, 6400, 64000))],
      ),
    ],
  )
  def test_are_picked_by_pattern(self, patterns, names):
    picked = tables.select(read_cells(4), patterns)
    assert [cell.name for cell in picked] == names

  def test_of_one_size(self):
    picked = tables.select(read_cells(4), ['*/640'])
    assert len(picked) == 15
    assert {cell.column for cell in picked} == {'640 samples'}

  def test_patterns_that_fit_nothing(self):
    with pytest.raises(errors.UserError, match="'5/\\*' fits none of 4/deep"):
      tables.select(read_cells(4), ['idspn', '5/*'])

  def test_all_of_them_without_a_pattern(self):
    cells = read_cells(2)
    assert tables.select(cells, None) == tables.select(cells, ['*/*']) == cells
    with pytest.raises(errors.UserError, match='--cells is empty'):
      tables.select(cells, [])

  def test_configs_are_the_papers(self):
    for cell in read_cells(4):
      config = cell.config(3)
      classes, model, samples = cell.name.split('/')
      assert config.model_name == model.removesuffix('+da')
      assert config.seed == 3
      assert config.data.num_train == int(samples)
      assert config.data.num_classes == int(classes)
      assert config.data.permute == model.endswith('+da')
      assert config.data.set_size == 64 and config.steps == 50_000
      assert config.eval_every == 500
      assert config.data.num_validation == 6_400
      assert config.data.num_test == 64_000


def _entry(cell, values, diverged=0, holds=(True, True)):
  names = ('set_accuracy', 'multiset_accuracy', 'element_accuracy')
  results = [
    {'diverged': i < diverged, 'metrics': dict.fromkeys(names, value)}
    for i, value in enumerate(values)
  ]
  return {
    'cell': cell,
    'here': {'set_accuracy': cells_lib.summarize(results, 'set_accuracy')},
    'equivariance': {
      name: {'holds': held}
      for name, held in zip(('set', 'multiset'), holds, strict=True)
    },
  }


def test_table_text():
  cells = tables.select(read_cells(2), ['idspn', 'deep_sets'])
  entries = [
    _entry('4/deep_sets/640', [0.0]),
    _entry('4/idspn/640', [0.9, 1.0], diverged=1, holds=(False, True)),
    _entry('4/idspn/6400', [0.5, 0.5], holds=(True, True)),
  ]
  lines = numbering_tables.format_table(cells, entries).splitlines()
  assert lines[0] == '4 classes'
  head, _, deep_sets, idspn = (
    [cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:]
  )
  assert head[:5] == [
    'Model',
    'Set-equivariant',
    'Multiset-equivariant',
    '640 samples: paper',
    'here',
  ]
  assert deep_sets[:5] == ['DeepSets', '✓', '✓', '0.0 ± 0.0', '0.0 (1 seed)']
  assert deep_sets[5:] == ['0.0 ± 0.0', '–', '0.0 ± 0.0', '–']
  # Two cells of a model that disagree are shown to.
  assert idspn[:3] == ['iDSPN', '?', '✓']
  assert idspn[3:7] == [
    '96.8 ± 0.6',
    '95.0 ± 7.1 (2 seeds, 1 diverged)',
    '98.1 ± 0.3',
    '50.0 ± 0.0 (2 seeds)',
  ]


def test_table_8_shows_the_four_classes(tmp_path, monkeypatch):
  cells = tables.select(read_cells(4, 'reduced'), ['4/idspn/*', '8/idspn/640'])
  report = numbering_tables.Report(4, cells, str(tmp_path))

  def load_run(workdir):
    return types.SimpleNamespace(
      task=None, variables=None, data=None, step=9, config=cells[0].config(5)
    )

  def equivariance(*_):
    return dict.fromkeys(('set', 'multiset'), {'error': 0, 'holds': True})

  def worst_numbering(*_):
    return numbering_errors.Numbering([[(0, 0), (0, 1)]], 1)

  monkeypatch.setattr(numbering_tables.loading, 'load_run', load_run)
  measures = numbering_tables.measures
  monkeypatch.setattr(measures, 'equivariance', equivariance)
  monkeypatch.setattr(measures, 'worst_numbering', worst_numbering)
  result = {
    **dict.fromkeys(tables.RUN_KEYS, 1),
    'diverged': False,
    'metrics': {'set_accuracy': 1.0},
    'config': cells[0].config(5).to_dict(),
  }
  for cell in cells:
    report.add(cell, {5: result}, str(tmp_path / cell.name))
  report.save_figures()
  lines = (tmp_path / 'table8.txt').read_text('utf-8').splitlines()
  assert lines[:4] == ['iDSPN', '1 wrong', '(a, 0)', '(a, 0) ≠ 1']
  # Of the cells of a row, the one with most samples.
  assert lines[-1] == 'iDSPN: 4/idspn/64000, seed 5, step 9, of 6,400 test sets'


def test_run_entries_know_the_former_name_of_a_key():
  """Results of runs from before call the seeds' number otherwise."""
  old = {'step': 3, 'seeds_in_lockstep': 2, 'config': {}}
  assert tables.run_entry(7, old) == {
    'seed': 7,
    'step': 3,
    'vectorized_seeds': 2,
  }
  new = {'step': 3, 'vectorized_seeds': 4}
  assert tables.run_entry(0, new)['vectorized_seeds'] == 4


def test_other_tables_are_data():
  """A part whose rows do not have all columns, without further columns."""
  rows = [('a', 'x'), ('a', 'y'), ('b', 'y')]
  cells = [
    tables.Cell(f'p/{row}/{column}', None, 'Part', row, column, 1.0, 0.5)
    for row, column in rows
  ]
  text = tables.format_parts(cells, lambda c: f'{c.mean}', lambda c: c.name)
  lines = [
    [part.strip() for part in line.strip('|').split('|')]
    for line in text.splitlines()[2:]
  ]
  assert lines[0] == ['Model', 'x: paper', 'here', 'y: paper', 'here']
  assert lines[2] == ['a', '1.0', 'p/a/x', '1.0', 'p/a/y']
  assert lines[3] == ['b', '', '', '1.0', 'p/b/y']
