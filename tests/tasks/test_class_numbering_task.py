"""Class numbering as a task: seven models behind one interface."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import class_numbering as config_file
from idspn_jax import errors
from idspn_jax.data import class_numbering as data_lib
from idspn_jax.tasks import class_numbering
from idspn_jax.training import state as state_lib


def _config(arguments='model=idspn', **model):
  config = config_file.get_config(f'n=6,T=3,samples=32,{arguments}')
  config.batch_size = config.eval_batch_size = 16
  config.data.num_validation, config.data.num_test = 10, 20
  config.model.hidden_dim = config.model.latent_dim = 16
  config.model.update(model)
  return config


@pytest.mark.parametrize('name', class_numbering.MODELS)
def test_every_model_takes_a_step(name):
  config = _config(f'model={name}')
  task = class_numbering.ClassNumbering(config)
  state = state_lib.init_state(task, config)
  step = jax.jit(state_lib.make_train_step(task, config))
  new, scalars = step(state, next(task.train_batches(0)))
  assert np.isfinite(scalars['loss']) and scalars['gradient_norm'] > 0
  moved = jax.tree.map(
    lambda a, b: float(jnp.max(jnp.abs(a - b))), state.params, new.params
  )
  assert min(jax.tree.leaves(moved)) > 0


def test_known_classes_and_the_simplex_hold():
  task = class_numbering.ClassNumbering(_config())
  params = task.init(jax.random.key(0))
  batch = next(task.train_batches(0))
  scores = task.predict(params, batch['classes'], jax.random.key(1))
  assert scores.shape == (16, 6, 6)
  np.testing.assert_allclose(jnp.sum(scores, -1), 1.0, atol=1e-5)
  assert float(jnp.min(scores)) >= 0


def test_metrics_of_the_truth_are_perfect(monkeypatch):
  task = class_numbering.ClassNumbering(_config())
  batch, weight = next(iter(task.eval_batches()))
  truth = jax.nn.one_hot(batch['numbers'], 6)
  monkeypatch.setattr(task, 'predict', lambda *_: truth)
  found = task.metrics({}, batch, jax.random.key(0))
  assert weight.sum() == 16
  np.testing.assert_allclose(found['loss'], 0.0, atol=1e-6)
  for name in ('element_accuracy', 'set_accuracy', 'multiset_accuracy'):
    np.testing.assert_array_equal(found[name], 1.0)


def test_augmentation_is_deterministic_in_the_step():
  config = _config('model=bilstm,permute=1')
  task = class_numbering.ClassNumbering(config)
  stream = task.train_batches(0)
  batches = [next(stream) for _ in range(3)]
  again = next(task.train_batches(2))
  np.testing.assert_array_equal(batches[2]['classes'], again['classes'])
  # The same sets come again in the next epoch, in another order.
  plain = class_numbering.ClassNumbering(_config('model=bilstm'))
  before = next(plain.train_batches(2))['classes']
  assert (before != again['classes']).any()
  np.testing.assert_array_equal(np.sort(before), np.sort(again['classes']))


def test_sets_can_be_made_anew_for_every_step():
  config = _config('classes=6')
  config.data.update({'num_train': 0, 'distinct_classes': 2})
  task = class_numbering.ClassNumbering(config)
  stream = task.train_batches(0)
  batches = [next(stream)['classes'] for _ in range(40)]
  assert batches[0].shape == (16, 6)
  again = next(task.train_batches(39))
  np.testing.assert_array_equal(batches[39], again['classes'])
  np.testing.assert_array_equal(
    again['numbers'], data_lib.numbering(again['classes'])
  )
  # Of the 936 that there are.
  assert len(np.unique(np.concatenate(batches), axis=0)) > 400
  assert max(len(np.unique(row)) for row in np.concatenate(batches)) == 2
  config.seed = 1
  other = class_numbering.ClassNumbering(config)
  assert (next(other.train_batches(0))['classes'] != batches[0]).any()


@pytest.mark.parametrize(
  'name, iterations', [('idspn', [1, 3]), ('deep_sets', [None])]
)
def test_drawing(name, iterations, tmp_path):
  task = class_numbering.ClassNumbering(_config(f'model={name}'))
  assert task.iterates == (name == 'idspn')
  params = task.init(jax.random.key(0))
  (path,) = task.draw(params, jax.random.key(1), iterations, str(tmp_path))
  assert path.stat().st_size > 1000


def test_the_worst_prediction_is_among_the_test_sets(monkeypatch):
  task = class_numbering.ClassNumbering(_config())
  numbers = {}
  for batch, _ in task.eval_batches('test'):
    for classes, right in zip(batch['classes'], batch['numbers'], strict=True):
      numbers[tuple(classes)] = right
  spoilt = list(numbers)[17]
  numbers[spoilt] = np.zeros(6, int)

  def predict(params, classes, key):
    # Called while tracing: the worst is looked for batch by batch.
    return jax.pure_callback(
      lambda rows: np.eye(6, dtype=np.float32)[
        np.array([numbers[tuple(row)] for row in np.asarray(rows)])
      ],
      jax.ShapeDtypeStruct((16, 6, 6), jnp.float32),
      classes,
    )

  monkeypatch.setattr(task, 'predict', predict)
  found = task.worst_numbering({}, jax.random.key(0))
  counts = np.bincount(spoilt, minlength=4)
  assert found.wrong == 6 - np.sum(counts > 0)
  assert [len(row) for row in found.rows] == counts.tolist()


EQUIVARIANT = {
  'deep_sets': (True, True),
  'transformer': (True, True),
  'transformer_random_pe': (False, False),
  'transformer_pe': (False, False),
  'bilstm': (False, False),
  'dspn': (False, True),
  'idspn': (False, True),
}


@pytest.mark.parametrize('name', class_numbering.MODELS)
def test_equivariances_are_those_of_table_2(name):
  task = class_numbering.ClassNumbering(_config(f'model={name}'))
  params = task.init(jax.random.key(2))
  found = task.equivariance(params, jax.random.key(3))
  holds = found['set']['holds'], found['multiset']['holds']
  assert holds == EQUIVARIANT[name]
  # Nothing is a matter of rounding: an error is none or plain.
  for law in found.values():
    assert law['error'] < 1e-12 if law['holds'] else law['error'] > 1e-2


@pytest.mark.parametrize('name', class_numbering.DECODERS)
def test_equivariances_in_the_papers_set_size(name):
  """In float32, rounding would tell equal elements of such sets apart."""
  config = _config(f'model={name},n=64', iterations=20, hidden_dim=64)
  config.data.num_test = 4
  task = class_numbering.ClassNumbering(config)
  params = task.init(jax.random.key(0))
  found = task.equivariance(params, jax.random.key(1))
  assert not found['set']['holds'] and found['multiset']['holds']
  # Whoever asks keeps computing in float32.
  assert jnp.ones(()).dtype == jnp.float32


def test_sets_of_another_size_are_refused():
  task = class_numbering.ClassNumbering(_config())
  params = task.init(jax.random.key(0))
  for shape in ((2, 5), (6,), (2, 6, 4)):
    with pytest.raises(ValueError, match=r'need shape \(B, 6\)') as e:
      task.predict(params, jnp.zeros(shape, int), jax.random.key(1))
    assert str(shape) in str(e.value)


def test_what_gives_no_numbers_is_not_equivariant(monkeypatch):
  task = class_numbering.ClassNumbering(_config())
  for value in (jnp.nan, jnp.inf, 0.0):
    monkeypatch.setattr(
      task,
      'predict',
      lambda params, classes, key, initial_set, value=value: jnp.full(
        (1, 6, 6), value
      ),
    )
    found = task.equivariance({}, jax.random.key(0))
    for law in found.values():
      assert law == {'error': np.inf, 'holds': False}


def test_unknown_labels_are_refused():
  task = class_numbering.ClassNumbering(_config())
  for bad, message in (([4, -1], 'classes 0 to 3; got 4'), ([0.5], 'float')):
    classes = np.resize(np.array(bad), (2, 6))
    with pytest.raises(ValueError, match=message):
      task.predict({}, classes, jax.random.key(0))


def test_splits_are_independent():
  task = class_numbering.ClassNumbering(_config())
  assert [len(task.classes[s]) for s in ('train', 'validation', 'test')] == [
    32,
    10,
    20,
  ]
  for split, count in (('validation', 10), ('test', 20)):
    seen = [
      batch['classes'][weight > 0] for batch, weight in task.eval_batches(split)
    ]
    np.testing.assert_array_equal(np.concatenate(seen), task.classes[split])
    assert len(task.classes[split]) == count
  assert not np.array_equal(
    task.classes['validation'], task.classes['test'][:10]
  )


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
    class_numbering.ClassNumbering(config)


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
      task = class_numbering.ClassNumbering(config)
      batch = next(task.train_batches(0))
      params = task.init(jax.random.key(0))
      value, _ = jax.jit(task.loss)(params, batch, jax.random.key(1))
      costs[name, loss] = float(value)
  for name, own in (('idspn', 'l2'), ('deep_sets', 'cross_entropy')):
    assert costs[name, 'hungarian'] == costs[name, own]
    assert costs[name, 'l2'] != costs[name, 'cross_entropy']


def test_what_is_no_number_is_not_right(monkeypatch):
  task = class_numbering.ClassNumbering(_config('classes=6'))
  # One element per class: a zero would be right.
  batch = {
    'classes': jnp.arange(6)[None].repeat(2, 0),
    'numbers': jnp.zeros((2, 6), int),
  }
  scores = jnp.zeros((2, 6, 6)).at[1, 3].set(jnp.nan)
  monkeypatch.setattr(task, 'predict', lambda *_: scores)
  found = task.metrics({}, batch, jax.random.key(0))
  for name in ('element_accuracy', 'set_accuracy', 'multiset_accuracy'):
    np.testing.assert_array_equal(found[name], [1.0, 0.0])


def test_attention_heads_need_their_width():
  config = _config('model=transformer', hidden_dim=12)
  with pytest.raises(errors.UserError, match='multiple of 8'):
    class_numbering.ClassNumbering(config)
