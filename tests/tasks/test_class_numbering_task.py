"""Class numbering as a task: seven models behind one interface."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import class_numbering as config_file
from idspn_jax import errors
from idspn_jax.data import class_numbering as data_lib
from idspn_jax.tasks import class_numbering
from idspn_jax.tasks import numbering_models
from idspn_jax.training import state as state_lib
from idspn_jax.training import step as step_lib


def _config(arguments='model=idspn', **model):
  size = '' if ',n=' in f',{arguments}' else 'n=6,'
  config = config_file.get_config(f'{size}T=3,samples=32,{arguments}')
  config.batch_size = config.eval_batch_size = 16
  config.data.num_validation, config.data.num_test = 10, 20
  config.model.hidden_dim = config.model.latent_dim = 16
  config.model.update(model)
  return config


def build(config):
  """The task, and the data of the config's seed."""
  experiment = class_numbering.build(config)
  return experiment.task, experiment.data(config.seed)


def take(data, count, first_step=0):
  """Training batches from a step on."""
  with data.train(first_step) as batches:
    return list(itertools.islice(batches, count))


@pytest.mark.parametrize('name', numbering_models.MODELS)
def test_every_model_takes_a_step(name):
  config = _config(f'model={name}')
  task, data = build(config)
  state = state_lib.init_state(task, config)
  step = jax.jit(step_lib.make_train_step(task, config))
  (batch,) = take(data, 1)
  new, scalars = step(state, batch)
  assert np.isfinite(scalars['loss']) and scalars['gradient_norm'] > 0
  moved = jax.tree.map(
    lambda a, b: float(jnp.max(jnp.abs(a - b))), state.params, new.params
  )
  assert min(jax.tree.leaves(moved)) > 0


def test_known_classes_and_the_simplex_hold():
  task, data = build(_config())
  variables = task.init(jax.random.key(0))
  (batch,) = take(data, 1)
  scores, inner = task.scores(variables, batch['classes'], jax.random.key(1))
  assert {name: a.shape for name, a in inner.items()} == {
    'energy': (16,),
    'residual': (16,),
  }
  assert scores.shape == (16, 6, 6)
  np.testing.assert_allclose(jnp.sum(scores, -1), 1.0, atol=1e-5)
  assert float(jnp.min(scores)) >= 0


def test_metrics_of_the_truth_are_perfect(monkeypatch):
  task, data = build(_config())
  batch = next(data.evaluate())
  truth = jax.nn.one_hot(batch['numbers'], 6)
  monkeypatch.setattr(task, 'scores', lambda *_: (truth, {}))
  found = task.evaluate({}, batch, jax.random.key(0))
  assert batch['mask'].sum() == 16
  np.testing.assert_allclose(found['loss'], 0.0, atol=1e-6)
  for name in ('element_accuracy', 'set_accuracy', 'multiset_accuracy'):
    np.testing.assert_array_equal(found[name], 1.0)


def test_augmentation_is_deterministic_in_the_step():
  _, data = build(_config('model=bilstm,permute=1'))
  batches = take(data, 3)
  (again,) = take(data, 1, 2)
  np.testing.assert_array_equal(batches[2]['classes'], again['classes'])
  # The same sets come again in the next epoch, in another order.
  _, plain = build(_config('model=bilstm'))
  before = take(plain, 1, 2)[0]['classes']
  assert (before != again['classes']).any()
  np.testing.assert_array_equal(np.sort(before), np.sort(again['classes']))


def test_sets_can_be_made_anew_for_every_step():
  config = _config('classes=6')
  config.data.update({'num_train': 0, 'distinct_classes': 2})
  experiment = class_numbering.build(config)
  data = experiment.data(0)
  batches = [batch['classes'] for batch in take(data, 40)]
  assert batches[0].shape == (16, 6)
  (again,) = take(data, 1, 39)
  np.testing.assert_array_equal(batches[39], again['classes'])
  np.testing.assert_array_equal(
    again['numbers'], data_lib.numbering(again['classes'])
  )
  # Of the 936 that there are.
  assert len(np.unique(np.concatenate(batches), axis=0)) > 400
  assert max(len(np.unique(row)) for row in np.concatenate(batches)) == 2
  (other,) = take(experiment.data(1), 1)
  assert (other['classes'] != batches[0]).any()


@pytest.mark.parametrize(
  'name, iterations', [('idspn', [1, 3]), ('deep_sets', [None])]
)
def test_drawing(name, iterations):
  task, data = build(_config(f'model={name}'))
  assert task.iterates == (name == 'idspn')
  variables = task.init(jax.random.key(0))
  figures = task.draw(variables, data, jax.random.key(1), iterations)
  assert set(figures) == {'numbering'} and figures['numbering'].axes


def test_sets_of_another_size_are_refused():
  task = class_numbering.ClassNumbering(_config())
  variables = task.init(jax.random.key(0))
  for shape in ((2, 5), (6,), (2, 6, 4)):
    with pytest.raises(ValueError, match=r'need shape \(B, 6\)') as e:
      task.scores(variables, jnp.zeros(shape, int), jax.random.key(1))
    assert str(shape) in str(e.value)


def test_unknown_labels_are_refused():
  task = class_numbering.ClassNumbering(_config())
  for bad, message in (([4, -1], 'classes 0 to 3; got 4'), ([0.5], 'float')):
    classes = np.resize(np.array(bad), (2, 6))
    with pytest.raises(ValueError, match=message):
      task.scores({}, classes, jax.random.key(0))


def test_splits_are_independent():
  _, data = build(_config())
  classes = {name: split['classes'] for name, split in data.splits.items()}
  assert {name: len(labels) for name, labels in classes.items()} == {
    'train': 32,
    'validation': 10,
    'test': 20,
  }
  for split in ('validation', 'test'):
    seen = [b['classes'][b['mask']] for b in data.evaluate(split)]
    np.testing.assert_array_equal(np.concatenate(seen), classes[split])
  assert not np.array_equal(classes['validation'], classes['test'][:10])


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'data': {'num_classes': 7}}, 'between 1 and 6 classes; got 7'),
    ({'data': {'distinct_classes': 5}}, 'between 1 and 4 .*; got 5'),
    ({'data': {'num_validation': 0}}, 'data.num_validation .* got 0'),
    ({'data': {'num_train': -1}}, r'data.num_train \(0 .* got -1'),
    ({'batch_size': 33}, 'only 32 sets to train on'),
    ({'model_name': 'mlp'}, "model_name is 'mlp'"),
    ({'loss': 'chamfer'}, "loss is 'chamfer'; choose one of hungarian, l2"),
    ({'model': {'gradient': 'cg'}}, 'needs a symmetric system'),
  ],
)
def test_settings_that_do_not_fit(change, message):
  config = _config()
  config.update(change)
  with pytest.raises(errors.UserError, match=message):
    class_numbering.build(config)


@pytest.mark.parametrize('name', ['deep_sets', 'transformer', 'bilstm'])
@pytest.mark.parametrize('width', [0, -3])
def test_baselines_need_a_width(name, width):
  config = _config(f'model={name}', hidden_dim=width)
  with pytest.raises(errors.UserError, match=f'hidden_dim .* got {width}'):
    class_numbering.ClassNumbering(config)


def test_the_cost_can_be_chosen():
  costs = {}
  for name in ('idspn', 'deep_sets'):
    for loss in ('hungarian', 'l2', 'cross_entropy'):
      config = _config(f'model={name}')
      config.loss = loss
      task, data = build(config)
      (batch,) = take(data, 1)
      params = task.init(jax.random.key(0))['params']
      value, _ = jax.jit(task.loss)(params, {}, batch, jax.random.key(1))
      costs[name, loss] = float(value)
  for name, own in (('idspn', 'l2'), ('deep_sets', 'cross_entropy')):
    assert costs[name, 'hungarian'] == costs[name, own]
    assert costs[name, 'l2'] != costs[name, 'cross_entropy']


def test_non_finite_scores_are_not_right(monkeypatch):
  task = class_numbering.ClassNumbering(_config('classes=6'))
  # One element per class: a zero would be right.
  batch = {
    'classes': jnp.arange(6)[None].repeat(2, 0),
    'numbers': jnp.zeros((2, 6), int),
  }
  scores = jnp.zeros((2, 6, 6)).at[1, 3].set(jnp.nan)
  monkeypatch.setattr(task, 'scores', lambda *_: (scores, {}))
  found = task.evaluate({}, batch, jax.random.key(0))
  for name in ('element_accuracy', 'set_accuracy', 'multiset_accuracy'):
    np.testing.assert_array_equal(found[name], [1.0, 0.0])


def test_attention_heads_need_their_width():
  config = _config('model=transformer', hidden_dim=12)
  with pytest.raises(errors.UserError, match='multiple of 8'):
    class_numbering.ClassNumbering(config)


def test_predictions_are_numbers_and_scores():
  task, data = build(_config())
  variables = task.init(jax.random.key(0))
  classes = data.examples(5)['classes']
  found = task.predict(variables, {'classes': classes}, jax.random.key(1))
  assert {name: a.shape for name, a in found.items()} == {
    'scores': (5, 6, 6),
    'numbers': (5, 6),
    'energy': (5,),
    'residual': (5,),
  }
  np.testing.assert_array_equal(
    found['numbers'], np.argmax(found['scores'], -1)
  )


def test_the_test_labels_share_no_stream_with_the_order():
  """Of runs from before, they are kept as they were."""
  config = _config()
  old = _config()
  old.random_streams = 1
  (_, new), (_, older) = build(config), build(old)
  for split in ('train', 'test'):
    np.testing.assert_array_equal(
      new.splits[split]['classes'], older.splits[split]['classes']
    )
  first, second = take(new, 2), take(older, 2)
  assert np.any(first[0]['classes'] != second[0]['classes'])
  # Both are an epoch of the same sets.
  for batches in (first, second):
    seen = np.concatenate([batch['classes'] for batch in batches])
    np.testing.assert_array_equal(
      np.unique(seen, axis=0), np.unique(new.splits['train']['classes'], axis=0)
    )
