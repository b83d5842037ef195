"""Tables and figures over numbers of starts."""

import re

import pytest

from configs import random_multisets
from idspn_jax.figures import restarts as restarts_figure
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.studies import evaluations
from idspn_jax.training import loop
from tests.training import toy


@pytest.fixture(name='run', scope='module')
def trained_run(tmp_path_factory):
  config = random_multisets.get_config('n=3,d=2,T=4')
  config.steps, config.batch_size, config.eval_batch_size = 8, 16, 32
  config.eval_every = config.checkpoint_every = config.log_every = 8
  config.data.num_train, config.data.num_test = 64, 64
  config.model.hidden_dim = config.model.latent_dim = 16
  workdir = str(tmp_path_factory.mktemp('restarts'))
  loop.train_and_evaluate(config, workdir)
  return loading.load_run(workdir)


def test_rows_have_iterations_and_restarts(run, tmp_path):
  table = evaluations.evaluate_at(run, [2, 4], [1, 3])
  assert [(r['restarts'], r['iterations']) for r in table['rows']] == [
    (1, 2),
    (1, 4),
    (3, 2),
    (3, 4),
  ]
  plain = evaluations.evaluate_at(run, [2, 4])
  assert plain['rows'] == table['rows'][:2]
  assert table['rows'][3]['loss'] != table['rows'][1]['loss']
  text = evaluations.format_table(table).splitlines()
  assert re.match(r' +T +starts +steps +loss', text[0])
  assert re.match(r' +4\* +3 +12 ', text[4])
  assert 'starts' not in evaluations.format_table(plain)
  written = evaluations.save(run, table, str(tmp_path))
  assert str(tmp_path / 'restarts.png') in written
  assert files.read_json(written[0])['rows'] == table['rows']


def test_configured_restarts_are_the_default(run):
  config = run.config.copy_and_resolve_references()
  assert config.model.restarts == 1 and config.model.restart_scale == 0.2
  found = evaluations.evaluate_at(run, [4], [None])
  assert found['rows'][0]['restarts'] == 1


def test_seeds_draw_other_starts_and_have_tables_of_their_own(run):
  tables = [
    evaluations.evaluate_at(run, [4], [1, 3], seed)
    for seed in (None, run.config.seed, 7, 7)
  ]
  own, same, other, again = (table['rows'] for table in tables)
  assert own == same and other == again
  # One start is the learned set.
  assert other[0] == own[0] and other[1] != own[1]
  assert 'seed' not in tables[0] and tables[2]['seed'] == 7
  assert 'seed 7' in evaluations.format_table(tables[2])
  assert 'seed' not in evaluations.format_table(tables[0])
  plain = evaluations.default_output(run)
  assert evaluations.default_output(run, 7) == plain + '_seed7'


def test_models_without_inner_steps_have_no_starts(tmp_path):
  """Whatever the settings of a decoder say that they do not have."""
  config = toy.get_config()
  loop.train_and_evaluate(config, str(tmp_path), task=toy.build)
  run = loading.load_run(str(tmp_path), task=toy.build)
  with run.config.unlocked():
    run.config.model = {'restarts': 4}
  run.task.iterates = False
  table = evaluations.evaluate_at(run, [None])
  assert [row['restarts'] for row in table['rows']] == [1]
  assert 'starts' not in evaluations.format_table(table)


def test_many_metrics_stand_below_starts_and_steps():
  rows = [
    {'iterations': t, 'restarts': k, **{f'metric{i}': 0.5 for i in range(9)}}
    for k, t in ((1, 10), (4, 20))
  ]
  table = {'rows': rows, 'trained_with_iterations': 20}
  lines = evaluations.format_table(table).splitlines()
  assert [line.split() for line in lines[:4]] == [
    ['T', '10', '20*'],
    ['starts', '1', '4'],
    ['steps', '10', '80'],
    ['metric0', '0.5', '0.5'],
  ]


def test_figure_refuses_what_does_not_fit():
  with pytest.raises(ValueError, match='1 points and 2 values'):
    restarts_figure.draw_restarts([(1, 10)], [0.1, 0.2], 'loss')
  with pytest.raises(ValueError, match='0 points'):
    restarts_figure.draw_restarts([], [], 'loss')
  figure = restarts_figure.draw_restarts(
    [(1, 10), (1, 20), (4, 10)], [1.0, 0.5, 0.01], 'loss'
  )
  (axes,) = figure.axes
  assert [line.get_label() for line in axes.lines] == ['1 start', '4 starts']
  assert list(axes.lines[1].get_xdata()) == [40]
  assert axes.get_yscale() == 'log'
