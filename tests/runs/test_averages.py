"""Evaluation of the parameters in place of their moving average."""

import json
import os

import chex
import pytest

from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import loading
from idspn_jax.studies import evaluations
from idspn_jax.training import loop
from tests.training import toy


def train(workdir, **settings):
  config = toy.get_config(steps=3, **settings)
  loop.train_and_evaluate(config, str(workdir), task=toy.build)
  return str(workdir)


def load(workdir, ema):
  return loading.load_run(workdir, task=toy.build, ema=ema)


@pytest.fixture(scope='module')
def averaged(tmp_path_factory):
  return train(tmp_path_factory.mktemp('run'), ema_decay=0.9)


def test_the_parameters_of_the_last_step_are_loaded(averaged):
  stored = checkpoints.read(averaged, 3)
  variables = dict(load(averaged, ema=False).variables)
  chex.assert_trees_all_equal(variables.pop('params'), stored['params'])
  chex.assert_trees_all_equal(variables, stored['model_state'])
  with pytest.raises(AssertionError):
    chex.assert_trees_all_close(stored['params'], stored['ema_params'])


def test_both_have_tables_of_their_own(averaged):
  tables = []
  for ema in (True, False):
    run = load(averaged, ema)
    table = evaluations.evaluate_at(run, [None])
    output = evaluations.default_output(run)
    (path,) = evaluations.save(run, table, output, figures=False)
    assert 'not their moving average' in evaluations.format_table(table) or ema
    with open(path) as f:
      assert json.load(f)['rows'] == table['rows']
    tables.append(table)
  assert {'evaluation', 'evaluation_noema'} <= set(os.listdir(averaged))
  assert 'ema' not in tables[0] and tables[1]['ema'] is False
  assert tables[0]['rows'] != tables[1]['rows']
  assert 'average' not in evaluations.format_table(tables[0])


def test_a_run_without_an_average_is_refused(tmp_path):
  workdir = train(tmp_path)
  with pytest.raises(errors.UserError, match='no moving average.*--noema'):
    load(workdir, ema=False)


def test_a_run_that_selects_is_refused(tmp_path):
  workdir = train(tmp_path, ema_decay=0.9, toy__selection='score')
  with pytest.raises(errors.UserError, match='best step.*--noema'):
    load(workdir, ema=False)
