"""Tables 3 and 7: the paper's numbers, cells, and what is read of runs."""

import csv
import json
import os

import pytest

from configs import clevr as config_file
from idspn_jax import errors
from idspn_jax.studies import clevr_paper
from idspn_jax.studies import clevr_tables
from idspn_jax.studies import evaluations
from idspn_jax.studies import scene_tables
from idspn_jax.studies import tables

NAMES = ('inf', '1', '0.5', '0.25', '0.125', '0.0625')


def cells_of(table, setting='paper'):
  return clevr_tables.read_cells(table, config_file.get_config, setting)


def cell_of(name, table=3, setting='reduced'):
  (cell,) = (c for c in cells_of(table, setting) if c.name == name)
  return cell


def row_of(starts, value, iterations=20):
  """A row of an evaluation; its average precisions differ by kind."""
  row = {'iterations': iterations, 'restarts': starts, 'loss': 1.0}
  for kind, add in (('ap', 0.0), ('ap_per_image', 0.25)):
    row |= {f'{kind}_{t}': value + add for t in NAMES}
  return {**row, 'images': 8.0}


def write_run(directory, name, seed, rows=(), step=5, **table):
  """The files of a run, without parameters; `rows` have been evaluated."""
  workdir = directory / name / f'seed{seed}'
  (workdir / 'checkpoints' / '5').mkdir(parents=True)
  config = cell_of(name).config(seed)
  (workdir / 'config.json').write_text(config.to_json())
  if rows:
    (workdir / 'evaluation').mkdir()
    content = {'step': step, 'rows': list(rows), **table}
    path = workdir / 'evaluation' / 'table.json'
    path.write_text(json.dumps(content))
  return str(workdir)


class TestPaper:
  @pytest.mark.parametrize('table', clevr_paper.TABLES)
  def test_every_number_is_in_a_row(self, table):
    folder = os.path.dirname(clevr_paper.__file__)
    path = os.path.join(folder, 'paper_tables', 'table3_table7_clevr.csv')
    with open(path, encoding='utf-8', newline='') as f:
      lines = [row for row in csv.DictReader(f) if row['table'] == str(table)]
    found = [
      (str(row.image_size), *map(str, value))
      for row in clevr_paper.rows(table)
      for value in row.values
    ]
    keys = ('image_size', 'threshold', 'ap_mean', 'ap_std')
    assert found == [tuple(line[key] for key in keys) for line in lines]
    labels = [row.label for row in clevr_paper.rows(table)]
    assert len({*labels}) == len(labels) == {3: 7, 7: 6}[table]

  def test_some_numbers(self):
    (row,) = (r for r in clevr_paper.rows(7) if 'Sum' in r.label)
    assert {t: (m, s) for t, m, s in row.values}['0.125'] == (49.4, 2.8)


class TestCells:
  @pytest.mark.parametrize(
    'name, gradient, momentum, pool',
    [
      ('idspn', 'jacobian_free', 0.9, 'fs'),
      ('idspn_sum', 'jacobian_free', 0.9, 'sum'),
      ('idspn_mean', 'jacobian_free', 0.9, 'mean'),
      ('dspn_momentum_high', 'unrolled', 0.9, 'fs'),
      ('idspn_momentum_half', 'jacobian_free', 0.5, 'fs'),
      ('dspn_momentum', 'unrolled', 0.5, 'fs'),
    ],
  )
  def test_settings_of_table_7(self, name, gradient, momentum, pool):
    cell = cell_of(name, 7, 'paper')
    model = cell.config(2).model
    assert (model.gradient, model.momentum, model.pool) == (
      gradient,
      momentum,
      pool,
    )
    assert cell.config(2).seed == 2
    label = f'{"iDSPN" if gradient != "unrolled" else "DSPN"}, '
    assert cell.paper.label.startswith(label)
    assert cell.paper.label.endswith(f'momentum {momentum}')

  def test_settings_of_table_3(self):
    cells = {cell.name: cell.config(0) for cell in cells_of(3)}
    assert cells['idspn_256'].data.image_size == 256
    assert cells['idspn'].data.image_size == 128
    slots = {
      name: config.model.slots.coordinates
      for name, config in cells.items()
      if 'slot_attention' in name
    }
    assert list(slots.values()) == ['unit', 'symmetric', 'scene']
    reduced = {cell.name: cell.config(0) for cell in cells_of(3, 'reduced')}
    assert set(reduced) == set(cells) - {'idspn_256'}
    assert {c.data.image_size for c in reduced.values()} == {64}


class TestRuns:
  def test_evaluations_are_read(self, tmp_path):
    rows = [row_of(1, 0.5), row_of(4, 0.625), row_of(1, 0.1, iterations=40)]
    found = clevr_tables.run_scores(
      write_run(tmp_path, 'idspn', 0, rows), [1, 4]
    )
    assert found['step'] == 5
    assert found['rows'] == {
      1: scene_tables.percent_row(rows[0]),
      4: scene_tables.percent_row(rows[1]),
    }

  @pytest.mark.parametrize(
    'changes', [{'step': 4}, {'other_file': '/x'}, {'num_objects': [3, 4]}]
  )
  def test_what_was_not_evaluated_is_measured_and_kept(
    self, changes, tmp_path, monkeypatch
  ):
    workdir = write_run(tmp_path, 'idspn', 0, [row_of(1, 0.1)], **changes)
    calls = []

    def evaluate(run, iterations, starts):
      calls.append((run, iterations, starts))
      return {'step': 5, 'rows': [row_of(n, 0.5) for n in starts]}

    monkeypatch.setattr(evaluations, 'evaluate_at', evaluate)
    monkeypatch.setattr(clevr_tables.loading, 'load_run', lambda d: d)
    for _ in range(2):
      found = clevr_tables.run_scores(workdir, [1])
      assert found['rows'][1]['dataset_ap']['1'] == 50.0
    clevr_tables.run_scores(workdir, [1, 4])
    assert calls == [(workdir, [20], [1]), (workdir, [20], [4])]

  def test_there_is_no_run(self, tmp_path):
    with pytest.raises(errors.UserError, match='no run'):
      clevr_tables.run_scores(str(tmp_path), [1])


class TestReport:
  @pytest.fixture
  def report(self, tmp_path):
    """Table 3 of two runs of iDSPN and one of Slot MLP; the rest is missing."""
    for seed, value in ((0, 0.5), (3, 0.75)):
      rows = [row_of(1, value), row_of(4, value)]
      write_run(tmp_path, 'idspn', seed, rows)
    write_run(tmp_path, 'slot_mlp', 0, [row_of(1, 0.125, None)])
    cells = cells_of(3, 'reduced')
    report = clevr_tables.Report(
      3, cells, str(tmp_path / 'out'), 'reduced', [4, 1]
    )
    for cell in cells:
      report.add(cell, {}, str(tmp_path / cell.name))
    return report

  def test_text(self, report):
    lines = [
      [part.strip() for part in line.split('|')[1:-1]]
      for line in report.text().splitlines()
      if line.startswith('|')
    ]
    first = [line[0] for line in lines].index('iDSPN, 128 × 128')
    assert lines[first][1:6] == ['paper', '', '1', '98.8 ± 0.5', '98.5 ± 0.6']
    ours = lines[first + 1 : first + 5]
    assert [line[1:4] for line in ours] == [
      ['here', 'data set', '1'],
      ['here', 'per image', '1'],
      ['here', 'data set', '4'],
      ['here', 'per image', '4'],
    ]
    # Of 50 and 75 %, and with a quarter more per image.
    assert [line[4] for line in ours] == ['62.5 ± 17.7', '87.5 ± 17.7'] * 2
    assert [line[-1] for line in ours] == ['2'] * 4
    assert lines[first + 5][0] == 'iDSPN, 256 × 256'
    # The DSPN of another paper and pictures of 256 pixels are no cells here.
    assert sum(line[2] == 'missing' for line in lines) == 5
    assert lines[-1][:3] == ['', 'here', 'missing']
    assert 'not comparable' in report.text()

  def test_json(self, report, read_json, tmp_path):
    found = read_json(tmp_path / 'out' / 'table3.json')
    assert {'device', 'versions', 'date'} <= set(found)
    entries = {one['cell']: one for one in found['cells']}
    assert entries['slot_attention']['runs'] == []
    here = entries['slot_mlp']['here']
    assert set(here) == {'1'}
    assert here['1']['per_image_ap']['1']['values'] == [37.5]
    assert entries['idspn']['paper']['0.0625'] == {'mean': 32.3, 'std': 3.9}
    assert [run['seed'] for run in entries['idspn']['runs']] == [0, 3]

  def test_missing_cells_are_not_taken_from_an_earlier_table(
    self, report, read_json, tmp_path
  ):
    path = tmp_path / 'out' / 'table3.json'
    names = {e['cell'] for e in read_json(path)['cells']}
    found = tables.read_entries(str(path), 3)
    assert {*found} < names and all(e['runs'] for e in found.values())

  def test_a_part(self, tmp_path):
    cells = [cell_of('idspn_sum', 7, 'paper')]
    report = clevr_tables.Report(7, cells, str(tmp_path), 'paper', [1])
    report.add(cells[0], {}, str(tmp_path / 'none'))
    assert 'Sum' in report.text() and 'Mean' not in report.text()
    assert 'not comparable' not in report.text()
