"""Cells of Tables 5 and 6, and the tables and figures made of them."""

import csv
import json

import pytest

from configs import random_multisets as config_file
from idspn_jax.figures import multiset_losses
from idspn_jax.studies import multiset_paper
from idspn_jax.studies import multiset_tables
from idspn_jax.studies import tables


def read_cells(table):
  return multiset_tables.read_cells(table, config_file.get_config)


@pytest.mark.parametrize(
  'table, count, models',
  [
    (5, 225, {'iDSPN+mom', 'iDSPN', 'DSPN'}),
    (6, 150, {'iDSPN+mom+Sum', 'iDSPN+mom+Mean'}),
  ],
)
def test_cells_are_those_of_the_paper(table, count, models):
  cells = read_cells(table)
  assert len(cells) == len({cell.name for cell in cells}) == count
  assert {cell.row for cell in cells} == models
  with open(multiset_paper.FILES[table], encoding='utf-8', newline='') as f:
    for cell, row in zip(cells, csv.DictReader(f), strict=True):
      mean, std = row['loss_mean'], row['loss_std']
      assert cell.mean == (float(mean) if mean else None)
      assert cell.std == (None if std in ('', 'nan') else float(std))


@pytest.mark.parametrize(
  'name, table, settings',
  [
    ('8x2/20/idspn', 5, ('jacobian_free', 0.0, 'fs')),
    ('8x2/20/idspn_momentum', 5, ('jacobian_free', 0.9, 'fs')),
    ('8x2/20/dspn', 5, ('unrolled', 0.0, 'fs')),
    ('8x2/20/idspn_momentum_sum', 6, ('jacobian_free', 0.9, 'sum')),
    ('8x2/20/idspn_momentum_mean', 6, ('jacobian_free', 0.9, 'mean')),
  ],
)
def test_configs_are_the_papers(name, table, settings):
  (cell,) = tables.select(read_cells(table), [name])
  config = cell.config(3)
  assert config.seed == 3 and config.steps == 20_000
  assert (config.data.set_size, config.data.set_dim) == (8, 2)
  model = config.model
  assert model.iterations == 20 and model.latent_dim == 512
  assert (model.gradient, model.momentum, model.pool) == settings


def entry(n, d, steps, model, diverged=0, **losses):
  here = {
    key[1:]: {'mean': value, 'std': None} for key, value in losses.items()
  }
  names = {'iDSPN+mom': 'idspn_momentum', 'DSPN': 'dspn'}
  return {
    'cell': f'{n}x{d}/{steps}/{names[model]}',
    'model': model,
    'set_size': n,
    'set_dim': d,
    'iterations': steps,
    'here': here,
    'diverged': diverged,
    'minutes_per_run': 8.25,
    'runs': [{}],
  }


def test_best_keeps_to_the_total_of_inner_steps():
  entries = [
    entry(4, 4, 10, 'iDSPN+mom', s1=5e-4, s4=6e-5, s8=1e-5),
    entry(4, 4, 20, 'iDSPN+mom', s1=2e-4, s2=7e-5, s4=2e-5),
    entry(4, 4, 40, 'iDSPN+mom', s1=None),
  ]
  best = {'loss': 6e-5, 'iterations': 10, 'starts': 4}
  assert multiset_tables.best_within(entries) == best
  best = {'loss': 1e-5, 'iterations': 10, 'starts': 8}
  assert multiset_tables.best_within(entries, total=80) == best
  assert multiset_tables.best_within(entries[2:]) is None


def test_table_text():
  cells = tables.select(
    read_cells(5), ['4x4/10/*', '4x4/20/dspn', '2x32/40/dspn']
  )
  text = multiset_tables.format_table(
    cells,
    [
      entry(4, 4, 10, 'iDSPN+mom', s1=5.3e-4, s4=6e-5, s8=1e-5),
      entry(4, 4, 10, 'DSPN', diverged=1),
    ],
  )
  lines = [
    [cell.strip() for cell in line.strip('|').split('|')]
    for line in text.splitlines()
  ]
  assert lines[0] == [
    *('Sets', 'T', 'Model', 'paper', 'here, 1 start', '4 starts', '8 starts'),
    *('best, ≤ 40 steps', 'seeds', 'diverged', 'min a run'),
  ]
  found = {tuple(line[:3]): line[3:] for line in lines[2:]}
  assert found['4 × 4', '10', 'iDSPN+mom'] == [
    *('5.7e-4 ± 9.0e-5', '5.3e-4', '6.0e-5', '1.0e-5', '6.0e-5 (10 × 4)'),
    *('1', '0', '8.2'),
  ]
  assert found['4 × 4', '10', 'DSPN'][1:] == [
    *('–', '–', '–', '–', '1', '1', '8.2')
  ]
  assert found['4 × 4', '10', 'iDSPN'] == ['1.6e-3 ± 2.0e-4', *['–'] * 7]
  # The paper gives no deviation.
  assert found['2 × 32', '40', 'DSPN'][0] == '3.2e-3'


def test_a_diverged_run_is_counted_and_not_averaged(tmp_path):
  (cell,) = tables.select(read_cells(5), ['4x4/10/dspn'])
  report = multiset_tables.Report(5, [cell], str(tmp_path), starts=[1])
  results = {
    seed: {
      'step': 10,
      'diverged': seed == 1,
      'metrics': {'loss': loss},
      'seconds_per_step': 6.0,
      'config': cell.config(seed).to_dict(),
    }
    for seed, loss in enumerate((2e-3, None, 4e-3))
  }
  report.add(cell, results, str(tmp_path))
  (found,) = json.loads((tmp_path / 'table5.json').read_text())['cells']
  assert found['diverged'] == 1 and found['minutes_per_run'] == 1.0
  assert found['here']['1']['mean'] == pytest.approx(3e-3)
  assert found['here']['1']['values'] == [2e-3, None, 4e-3]
  assert '3.0e-3 ± 1.4e-3' in report.text()


@pytest.mark.parametrize(
  'arguments, expected',
  [
    ('n=4,d=4', {10: 5.7e-4, 20: 3.8e-4, 40: 3.1e-4}),
    ('n=4,d=4,model=dspn', {10: 2.0e-3, 20: 1.1e-3, 40: 1.2e-3}),
    ('n=3,d=4', {}),
    ('n=16,d=16,model=idspn_momentum_sum,T=20', {10: None, 20: None}),
  ],
)
def test_the_papers_losses_of_a_run(arguments, expected):
  config = config_file.get_config(arguments).to_dict()
  found = multiset_paper.paper_losses(config)
  assert found.keys() == expected.keys()
  for steps, loss in expected.items():
    assert loss is None or found[steps] == loss
  config['model']['momentum'] = 0.5
  assert multiset_paper.paper_losses(config) == {}
  assert multiset_paper.paper_losses({'task': 'own_sets'}) == {}


def test_a_run_trained_with_starts_is_not_shown_as_of_one(
  tmp_path, monkeypatch
):
  (cell,) = tables.select(read_cells(5), ['4x4/10/dspn'])
  measured = []

  def restart_losses(workdir, starts):
    measured.append((workdir, starts))
    return {count: count * 1e-2 for count in starts}

  monkeypatch.setattr(multiset_tables, 'restart_losses', restart_losses)
  report = multiset_tables.Report(5, [cell], str(tmp_path), starts=[1, 4, 8])
  config = cell.config(0)
  config.model.restarts = 4
  result = {
    'step': 10,
    'diverged': False,
    'metrics': {'loss': 3e-3},
    'seconds_per_step': 6.0,
    'config': config.to_dict(),
  }
  report.add(cell, {0: result}, str(tmp_path))
  assert measured == [(str(tmp_path / 'seed0'), [1, 8])]
  (found,) = json.loads((tmp_path / 'table5.json').read_text())['cells']
  means = {count: one['mean'] for count, one in found['here'].items()}
  assert means == {'1': 1e-2, '4': 3e-3, '8': 8e-2}
  assert 'training steps with 4 starts; evaluated' in report.text()


def test_a_cell_that_diverged_at_once(tmp_path):
  """Nothing was timed, and there is no loss."""
  (cell,) = tables.select(read_cells(5), ['4x4/10/dspn'])
  report = multiset_tables.Report(5, [cell], str(tmp_path), starts=[1, 4])
  result = {
    'step': 3,
    'diverged': True,
    'metrics': {},
    'seconds_per_step': None,
    'config': cell.config(0).to_dict(),
  }
  report.add(cell, {0: result}, str(tmp_path))
  *_, line = report.text().splitlines()
  assert [t.strip() for t in line.strip('|').split('|')][4:] == [
    *('–', '–', '1', '1', '–')
  ]
  assert len(report.save_figures()) == 3


def test_time_of_seeds_that_train_together(tmp_path):
  (cell,) = tables.select(read_cells(5), ['4x4/10/dspn'])
  report = multiset_tables.Report(5, [cell], str(tmp_path), starts=[1])
  result = {
    'step': 60,
    'diverged': False,
    'metrics': {'loss': 1e-3},
    'seconds_per_step': 6.0,
    'vectorized_seeds': 2,
    'config': cell.config(0).to_dict(),
  }
  report.add(cell, {0: result, 1: result}, str(tmp_path))
  (found,) = json.loads((tmp_path / 'table5.json').read_text())['cells']
  assert found['minutes_per_run'] == 3.0


class TestFigures:
  def losses(self):
    return [
      multiset_losses.Loss(n, d, steps, model, 1e-2 / steps, here, best, starts)
      for n, d, here, best, starts in (
        (4, 4, 5e-4, 5e-5, 4),
        (16, 32, None, None, None),
      )
      for steps in (10, 20)
      for model in ('iDSPN+mom', 'iDSPN', 'DSPN')
    ]

  def test_selection_shows_what_was_measured(self):
    figure = multiset_losses.draw_selection(self.losses())
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
      'n = 4, d = 4: equal iterations',
      'n = 4, d = 4: equal computation',
      'n = 16, d = 32: equal iterations',
    ]
    ticks = [
      [label.get_text() for label in axes.get_xticklabels()]
      for axes in figure.axes
    ]
    computation = ['10', '20', '40', '80', '160']
    assert ticks == [['10', '20'], computation, ['10', '20']]
    # The paper, one start and several starts of six models; or the paper.
    assert [len(axes.collections) for axes in figure.axes] == [18, 18, 6]
    # Several starts stand where all of their steps count.
    for axes, tick in zip(figure.axes[:2], ([0, 0, 0], [0, 0, 2]), strict=True):
      paper, one, several = axes.collections[:3]  # iDSPN+mom, T = 10.
      places = [mark.get_offsets()[0, 0] for mark in (paper, one, several)]
      assert [round(place) for place in places] == tick

  @pytest.mark.parametrize(
    'fixed, titles',
    [('set_size', ['n = 4', 'n = 16']), ('set_dim', ['d = 4', 'd = 32'])],
  )
  def test_relative_losses(self, fixed, titles):
    figure = multiset_losses.draw_relative(self.losses(), fixed)
    assert [axes.get_title() for axes in figure.axes] == titles
    drawn = [
      float(mark.get_offsets()[0, 1]) for mark in figure.axes[0].collections
    ]
    # Relative to the paper's DSPN with T = 10, 1e-3.
    assert sorted({round(y, 6) for y in drawn}) == [0.05, 0.5, 1.0]

  def test_nothing_to_draw(self):
    for draw in (multiset_losses.draw_selection, multiset_losses.draw_relative):
      with pytest.raises(ValueError, match='no losses'):
        draw([])
