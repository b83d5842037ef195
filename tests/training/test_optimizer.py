"""The outer optimiser: rates by hand, options, and Adam's state as ever."""

import jax
import numpy as np
import optax
import pytest

from idspn_jax.training import optimizer as optimizer_lib
from tests.training import toy


def config_of(**changes):
  changes = {'steps': 10, 'learning_rate': 0.01, **changes}
  return toy.get_config(**changes)


def updates_of(config, count=12, gradient=1.0, value=1.0):
  """Minus every update of one parameter that does not move."""
  optimizer = optimizer_lib.make_optimizer(config)
  params, gradient = (
    {'a': np.full(1, x, np.float32)} for x in (value, gradient)
  )
  state, found = optimizer.init(params), []
  update = jax.jit(optimizer.update)
  for _ in range(count):
    updates, state = update(gradient, state, params)
    found.append(-float(updates['a'][0]))
  return np.asarray(found)


def rates_of(**changes):
  """Learning rates, in units of 0.01; Adam's updates have their size."""
  return 100 * updates_of(config_of(**changes))


@pytest.mark.parametrize(
  'changes, expected',
  [
    ({}, [1.0] * 12),
    ({'cooldown': 0.4}, [1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]),
    (
      {'optimizer__schedule': 'linear'},
      [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0, 0],
    ),
    (
      {'optimizer__schedule': 'cosine'},
      [(1 + np.cos(np.pi * min(i, 10) / 10)) / 2 for i in range(12)],
    ),
    (
      {'optimizer__schedule': 'steps', 'optimizer__drops': (0.5, 0.8)},
      [1] * 5 + [0.1] * 3 + [0.01] * 4,
    ),
    (
      # Two shares that fall on one step drop the rate twice there.
      {
        'optimizer__schedule': 'steps',
        'optimizer__drops': (0.52, 0.48),
        'optimizer__drop_factor': 0.5,
      },
      [1] * 5 + [0.25] * 7,
    ),
    ({'optimizer__warmup_steps': 4}, [0.25, 0.5, 0.75] + [1] * 9),
    (
      {'optimizer__warmup_steps': 2, 'optimizer__schedule': 'linear'},
      [0.5, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0, 0],
    ),
    (
      {'optimizer__warmup_steps': 2, 'cooldown': 0.2},
      [0.5] + [1] * 8 + [0.5, 0, 0],
    ),
  ],
)
def test_learning_rates(changes, expected):
  np.testing.assert_allclose(rates_of(**changes), expected, atol=1e-4)


def test_sgd_takes_the_gradient_itself():
  config = config_of(optimizer__name='sgd')
  np.testing.assert_allclose(updates_of(config, 3, gradient=7.0), 0.07)


def test_momentum_of_sgd():
  config = config_of(optimizer__name='sgd', optimizer__momentum=0.5)
  np.testing.assert_allclose(
    updates_of(config, 3), [0.01, 0.015, 0.0175], rtol=1e-6
  )


@pytest.mark.parametrize(
  'changes',
  [
    {'optimizer__name': 'sgd'},
    {'optimizer__name': 'sgd', 'optimizer__momentum': 0.5},
    {'optimizer__name': 'adam'},
  ],
)
def test_weight_decay_is_decoupled(changes):
  """It pulls by rate · decay · value, whatever the gradients were."""
  plain = updates_of(config_of(**changes), 4)
  decayed = updates_of(
    config_of(**changes, optimizer__weight_decay=0.1), 4, value=5.0
  )
  np.testing.assert_allclose(decayed - plain, 0.01 * 0.1 * 5, atol=1e-7)


def test_the_norm_of_the_whole_gradient_is_clipped():
  config = config_of(optimizer__name='sgd', optimizer__clip_norm=1.0)
  optimizer = optimizer_lib.make_optimizer(config)
  params = {'a': np.zeros(2, np.float32), 'b': np.zeros(1, np.float32)}
  state = optimizer.init(params)

  def update(a, b):
    gradient = {'a': np.float32(a), 'b': np.float32(b)}
    found, _ = optimizer.update(gradient, state, params)
    return np.concatenate([found['a'], found['b']])

  np.testing.assert_allclose(
    update([3, 0], [4]), [-0.006, 0, -0.008], rtol=1e-5
  )
  np.testing.assert_allclose(
    update([0.3, 0], [0.4]), [-0.003, 0, -0.004], rtol=1e-5
  )


@pytest.mark.parametrize('cooldown', [0.0, 0.5])
def test_adam_keeps_the_state_of_older_checkpoints(cooldown):
  config = config_of(cooldown=cooldown)
  params = {'a': np.ones(2, np.float32)}
  found = optimizer_lib.make_optimizer(config).init(params)
  rate = optax.linear_schedule(0.01, 0, 5, 5) if cooldown else 0.01
  expected = optax.adam(rate).init(params)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
