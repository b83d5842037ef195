"""Settings of every run: checks, differences, and what older runs lack."""

import importlib
import json

import ml_collections
import pytest

from configs import class_numbering
from idspn_jax import errors
from idspn_jax.runs import config as config_lib


class TestCheck:
  @pytest.mark.parametrize(
    'name, value',
    [
      ('batch_size', 0),
      ('eval_batch_size', -1),
      ('steps', 0),
      ('steps', True),
      ('log_every', 0),
      ('eval_every', 0),
      ('checkpoint_every', 0),
      ('keep_checkpoints', 0),
      ('learning_rate', 0.0),
      ('learning_rate', float('nan')),
      ('cooldown', -0.1),
      ('cooldown', 1.5),
      ('cooldown', float('nan')),
      ('ema_decay', -0.1),
      ('ema_decay', 1),
      ('parallel', 'shard_map'),
      ('random_streams', 3),
      ('optimizer.name', 'lion'),
      ('optimizer.schedule', 'exponential'),
      ('optimizer.warmup_steps', -1),
      ('optimizer.warmup_steps', 0.5),
      ('optimizer.weight_decay', -1.0),
      ('optimizer.clip_norm', float('inf')),
      ('optimizer.momentum', 1.0),
      ('optimizer.momentum', 0.9),
      ('optimizer.drop_factor', 0.0),
      ('optimizer.drops', (0.5, 1.5)),
      ('seed', -1),
      ('seed', 2**32),
    ],
  )
  def test_impossible_values_are_named(self, name, value):
    config = config_lib.default_config()
    config_lib.check(config)
    with config.ignore_type():
      config.update_from_flattened_dict({name: value})
    with pytest.raises(errors.UserError, match=f'config.{name}') as e:
      config_lib.check(config)
    culprit = value[-1] if isinstance(value, tuple) else value
    if name != 'optimizer.momentum' or value == 1:
      assert str(culprit) in str(e.value)

  def test_only_one_thing_lowers_the_learning_rate(self):
    config = config_lib.default_config()
    config.cooldown, config.optimizer.schedule = 0.5, 'cosine'
    with pytest.raises(errors.UserError, match="0.5 and .*'cosine' both"):
      config_lib.check(config)


class TestDifferences:
  BASE = {
    'steps': 1,
    'cooldown': 0.0,
    'optimizer': {'schedule': 'constant'},
    'iterations_schedule': '',
    'restarts_schedule': '',
  }

  def test_are_listed(self):
    old = {**self.BASE, 'model': {'pool': 'fs', 'depth': 1}, 'seed': 0}
    new = {**self.BASE, 'model': {'pool': 'sum', 'depth': 1}, 'gone': 2}
    new['steps'] = 9
    assert config_lib.differences(old, new) == [
      'gone: None -> 2',
      "model.pool: 'fs' -> 'sum'",
      'seed: 0 -> None',
    ]
    assert config_lib.differences(old, old) == []

  def test_steps_may_change_in_plain_training(self):
    assert config_lib.differences(self.BASE, {**self.BASE, 'steps': 9}) == []
    drawn = {**self.BASE, 'iterations_schedule': 'random:1-2'}
    assert config_lib.differences(drawn, {**drawn, 'steps': 9}) == []

  @pytest.mark.parametrize(
    'change',
    [
      {'cooldown': 0.5},
      {'optimizer': {'schedule': 'cosine'}},
      {'optimizer': {'schedule': 'linear'}},
      {'optimizer': {'schedule': 'steps'}},
      {'iterations_schedule': '20,40@0.5'},
      {'iterations_schedule': 'linear:10-40'},
      {'iterations_schedule': ' linear:10-40'},
      {'restarts_schedule': '1,4@0.5'},
    ],
  )
  def test_steps_may_not_change_where_they_enter(self, change):
    old = {**self.BASE, **change}
    assert config_lib.differences(old, {**old, 'steps': 9}) == ['steps: 1 -> 9']
    assert len(config_lib.differences(self.BASE, old)) == 1

  def test_tuples_are_lists_in_json(self):
    old = {**self.BASE, 'drops': [0.5, 0.9]}
    assert config_lib.differences(old, {**self.BASE, 'drops': (0.5, 0.9)}) == []


class TestComplete:
  def test_adds_what_came_later(self):
    stored = {'steps': 3, 'task': 'own_sets', 'optimizer': {'name': 'sgd'}}
    complete = config_lib.complete(stored)
    assert complete['steps'] == 3 and complete['cooldown'] == 0.0
    assert complete['optimizer']['name'] == 'sgd'
    assert complete['optimizer']['schedule'] == 'constant'
    assert complete['model']['tolerance'] == 0.0
    assert stored == {
      'steps': 3,
      'task': 'own_sets',
      'optimizer': {'name': 'sgd'},
    }

  def test_older_random_streams_and_splits_are_kept(self):
    stored = {'task': 'own_sets', 'seed': 5, 'data': {'test_fraction': 0.2}}
    complete = config_lib.complete(stored)
    assert complete['random_streams'] == 1
    assert complete['data']['split_seed'] == 5
    today = {**stored, 'random_streams': 2}
    today['data'] = {'test_fraction': 0.2, 'split_seed': 0}
    assert config_lib.complete(today)['random_streams'] == 2
    assert config_lib.complete(today)['data']['split_seed'] == 0

  def test_what_a_complete_config_says_is_kept(self):
    for name in ('class_numbering', 'own_sets', 'random_multisets', 'demo'):
      module = importlib.import_module(f'configs.{name}')
      stored = json.loads(module.get_config().to_json())
      assert config_lib.complete(stored) == stored


def test_an_older_run_is_continued_with_its_settings():
  config = config_lib.default_config()
  config.task = 'own_sets'
  config.data = ml_collections.ConfigDict({'split_seed': 0})
  stored = json.loads(config.to_json())
  assert config_lib.inherit(config, stored) is config
  del stored['random_streams'], stored['data']['split_seed']
  stored['data']['test_fraction'], stored['seed'] = 0.2, 4
  older = config_lib.inherit(config, stored)
  assert older.random_streams == 1 and older.data.split_seed == 4
  assert config.random_streams == 2 and config.data.split_seed == 0


def test_a_run_with_the_exact_projection_continues_with_it():
  config = class_numbering.get_config('setting=reduced')
  stored = json.loads(config.to_json())
  stored['model']['projection'] = 'simplex'
  older = config_lib.inherit(config, stored)
  assert older.model.projection == 'simplex'
  assert older.optimizer.warmup_steps == 500
  assert config_lib.differences(stored, json.loads(older.to_json())) == []


def test_a_run_without_warm_up_continues_without_it():
  config = class_numbering.get_config('setting=reduced')
  stored = json.loads(config.to_json())
  assert config_lib.inherit(config, stored) is config
  stored['optimizer']['warmup_steps'] = 0
  older = config_lib.inherit(config, stored)
  assert older.optimizer.warmup_steps == 0
  assert config.optimizer.warmup_steps == 500
  del stored['optimizer']  # As in runs before this setting.
  assert config_lib.inherit(config, stored).optimizer.warmup_steps == 0
  with config.unlocked():
    config.optimizer.warmup_steps = 100
  assert config_lib.inherit(config, stored) is config
