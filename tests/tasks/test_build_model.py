"""Building models from configs: every mode works, nonsense is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.modules import set_encoders
from idspn_jax.solvers import gradients
from idspn_jax.tasks import model

SETS = np.random.default_rng(0).normal(size=(2, 3, 2)).astype(np.float32)


@pytest.fixture
def config():
  """A tiny model."""
  config = model.default_config()
  config.hidden_dim, config.latent_dim, config.iterations = 8, 4, 2
  return config


def loss_and_gradient(config, loss='hungarian'):
  net = model.build_autoencoder(config, 3, 2)
  params_key, set_key = jax.random.split(jax.random.key(0))
  params = net.init({'params': params_key, 'initial_set': set_key}, SETS)
  set_loss = model.build_loss(loss)

  def mean_loss(params):
    rngs = {'initial_set': jax.random.key(1)}
    return jnp.mean(set_loss(net.apply(params, SETS, rngs=rngs), SETS))

  return jax.jit(jax.value_and_grad(mean_loss))(params)


def assert_trainable(value, gradient):
  assert np.isfinite(value)
  leaves = jax.tree.leaves(gradient)
  assert all(np.isfinite(leaf).all() for leaf in leaves)
  assert any(np.any(leaf) for leaf in leaves)


class TestEveryChoice:
  @pytest.mark.parametrize('name', gradients.MODES)
  def test_gradient(self, name, config):
    config.gradient = name
    assert_trainable(*loss_and_gradient(config))

  @pytest.mark.deep
  @pytest.mark.parametrize('name', set_encoders.POOLS)
  def test_pool(self, name, config):
    config.pool = name
    assert_trainable(*loss_and_gradient(config))

  @pytest.mark.parametrize('name', model.LOSSES)
  def test_loss(self, name, config, allow_rank_promotion):
    assert_trainable(*loss_and_gradient(config, name))

  @pytest.mark.parametrize('name', model.OPTIMIZERS)
  def test_optimizer(self, name, config, allow_rank_promotion):
    config.optimizer = name
    if name == 'projected_gradient':
      config.projection = 'simplex'
    assert_trainable(*loss_and_gradient(config))

  @pytest.mark.deep
  @pytest.mark.parametrize('name', ['learned', 'normal', 'zeros'])
  def test_initial_set(self, name, config):
    config.initial_set = name
    assert_trainable(*loss_and_gradient(config))

  def test_clip_tolerance_and_simplex(self, config):
    config.grad_clip, config.tolerance = 0.1, 1e-3
    config.projection = 'simplex'
    assert_trainable(*loss_and_gradient(config))


class TestRefusals:
  def refused(self, config):
    with pytest.raises(errors.UserError) as e:
      model.build_autoencoder(config, 3, 2)
    assert '\n' not in str(e.value)
    return str(e.value)

  @pytest.mark.parametrize('name', ['hidden_dim', 'latent_dim', 'iterations'])
  def test_sizes(self, name, config):
    config[name] = 0
    assert f'model.{name}' in self.refused(config)

  @pytest.mark.parametrize(
    'name',
    [
      'pool',
      'linear_init',
      'optimizer',
      'gradient',
      'projection',
      'initial_set',
    ],
  )
  def test_choices(self, name, config):
    config[name] = 'no-such'
    message = self.refused(config)
    assert f'model.{name}' in message and 'no-such' in message

  @pytest.mark.parametrize(
    'name', ['grad_clip', 'regularizer', 'initial_scale', 'tolerance']
  )
  def test_negative_numbers(self, name, config):
    config[name] = -0.5
    message = self.refused(config)
    assert f'model.{name}' in message and '-0.5' in message

  @pytest.mark.parametrize('name', ['cg', 'regularized_cg'])
  def test_conjugate_gradients_need_a_symmetric_system(self, name, config):
    config.gradient, config.projection = name, 'simplex'
    message = self.refused(config)
    assert 'symmetric' in message and 'NormalConjugateGradient' in message

  @pytest.mark.parametrize('name', ['dense', 'neumann', 'unrolled'])
  def test_straight_through_is_for_the_jacobian_free_gradient(
    self, name, config
  ):
    config.projection = 'simplex_straight_through'
    model.build_decoder(config, 3, 4)
    config.gradient = name
    message = self.refused(config)
    assert f"'{name}'" in message and "projection 'simplex'" in message

  @pytest.mark.parametrize('momentum', [-0.1, 1.0])
  def test_momentum(self, momentum, config):
    config.momentum = momentum
    assert 'momentum' in self.refused(config)

  @pytest.mark.parametrize('name', model.OPTIMIZERS)
  def test_learning_rate(self, name, config):
    config.learning_rate, config.optimizer = 0.0, name
    assert 'learning_rate' in self.refused(config)

  def test_gradient_options(self, config):
    config.gradient_options = {'terms': 3}
    assert 'terms' in self.refused(config)
    config.gradient_options = {'linearize_at': 'initial'}
    assert 'initial' in self.refused(config)

  def test_loss(self):
    with pytest.raises(errors.UserError, match="'l2'.*chamfer"):
      model.build_loss('l2')
