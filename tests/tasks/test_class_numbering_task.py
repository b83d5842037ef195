"""Class numbering as a task: seven models behind one interface."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import class_numbering as config_file
from idspn_jax import errors
from idspn_jax.tasks import class_numbering
from idspn_jax.training import state as state_lib


def _config(arguments='model=idspn', **model):
  config = config_file.get_config(f'n=6,T=3,samples=32,{arguments}')
  config.batch_size = config.eval_batch_size = 16
  config.data.num_test = 20
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


def test_drawing(tmp_path):
  task = class_numbering.ClassNumbering(_config())
  params = task.init(jax.random.key(0))
  (path,) = task.draw(params, jax.random.key(1), [1, 3], str(tmp_path))
  assert path.stat().st_size > 1000


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'data': {'num_classes': 7}}, 'between 1 and 6 classes; got 7'),
    ({'model_name': 'mlp'}, "model_name is 'mlp'"),
    ({'model': {'gradient': 'cg'}}, 'needs a symmetric system'),
  ],
)
def test_settings_that_do_not_fit(change, message):
  config = _config()
  config.update(change)
  with pytest.raises(errors.UserError, match=message):
    class_numbering.ClassNumbering(config)


def test_attention_heads_need_their_width():
  config = _config('model=transformer', hidden_dim=12)
  with pytest.raises(errors.UserError, match='multiple of 8'):
    class_numbering.ClassNumbering(config)
