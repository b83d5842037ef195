"""Baselines of Section 4.1: shapes, widths, and measured equivariance."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.modules import deep_sets
from idspn_jax.modules import lstm
from idspn_jax.modules import transformer

N = 4
MODELS = {
  'deep_sets': deep_sets.EquivariantDeepSets(16, N),
  'transformer': transformer.SetTransformer(16, N),
  'transformer_pe': transformer.SetTransformer(16, N, 'sinusoidal'),
  'transformer_random_pe': transformer.SetTransformer(16, N, 'random'),
  'bilstm': lstm.BidirectionalLSTM(16, N),
}


def _function(name):
  """The model as a function of one set, its noise held fixed."""
  model = MODELS[name]
  rngs = {'params': jax.random.key(0), 'positions': jax.random.key(1)}
  # No element twice, so that parameters cannot hide behind symmetric inputs.
  variables = model.init(rngs, jax.random.normal(jax.random.key(2), (1, N, 3)))
  return jax.jit(
    lambda x: model.apply(
      variables, x[None], rngs={'positions': jax.random.key(3)}
    )[0]
  )


@pytest.mark.parametrize('name', MODELS)
def test_set_equivariance_is_where_the_paper_has_it(name):
  f = _function(name)
  x = jax.random.normal(jax.random.key(4), (N, 3))
  x = x.at[1].set(x[0])  # A multiset, as in the paper's Definition 1.
  error = max(
    float(jnp.max(jnp.abs(f(x[p]) - f(x)[p])))
    for p in map(jnp.array, itertools.permutations(range(N)))
  )
  if name in ('deep_sets', 'transformer'):
    assert error < 1e-5
  else:
    assert error > 1e-3


def test_equal_elements_stay_equal_without_positions():
  x = jnp.ones((N, 3))
  for name in ('deep_sets', 'transformer'):
    y = _function(name)(x)
    np.testing.assert_allclose(y, jnp.broadcast_to(y[:1], y.shape), atol=1e-6)
  for name in ('transformer_pe', 'transformer_random_pe', 'bilstm'):
    y = _function(name)(x)
    assert float(jnp.max(jnp.abs(y - y[:1]))) > 1e-3


def test_random_positions_follow_their_stream():
  model = MODELS['transformer_random_pe']
  x = jnp.ones((2, N, 3))
  rngs = {'params': jax.random.key(0), 'positions': jax.random.key(1)}
  variables = model.init(rngs, x)
  first, again, other = (
    model.apply(variables, x, rngs={'positions': jax.random.key(k)})
    for k in (5, 5, 6)
  )
  np.testing.assert_array_equal(first, again)
  assert float(jnp.max(jnp.abs(first - other))) > 1e-3


def test_sinusoidal_positions():
  table = transformer.sinusoidal_positions(5, 4)
  position = np.arange(5)
  np.testing.assert_allclose(table[:, 0], np.sin(position), rtol=1e-6)
  np.testing.assert_allclose(table[:, 1], np.cos(position), rtol=1e-6)
  np.testing.assert_allclose(table[:, 2], np.sin(position / 100), rtol=1e-5)
  assert transformer.sinusoidal_positions(3, 5).shape == (3, 5)


@pytest.mark.parametrize('precision', (np.float32, np.float64))
def test_random_positions_keep_the_precision(precision, x64):
  model = MODELS['transformer_random_pe']
  x = jnp.ones((2, N, 3), precision)
  rngs = {'params': jax.random.key(0), 'positions': jax.random.key(1)}
  shapes = jax.eval_shape(model.init, rngs, x)
  cast = jax.tree.map(lambda a: jnp.ones(a.shape, precision), shapes)
  out = jax.eval_shape(lambda v: model.apply(v, x, rngs=rngs), cast)
  assert out.dtype == precision


def assert_uniform(array, bound):
  array = np.asarray(array)
  assert 0.9 * bound < np.max(np.abs(array)) <= bound
  # A uniform variable's standard deviation is its bound over √3.
  np.testing.assert_allclose(np.std(array), bound / np.sqrt(3), rtol=0.15)


def test_transformer_starts_like_pytorch():
  model = transformer.SetTransformer(64, N)
  params = model.init(jax.random.key(0), jnp.ones((1, N, 3)))['params']
  for name in ('encoder_0_attention', 'decoder_1_cross_attention'):
    attention = params[name]['attention']
    # Xavier's bound for a (64, 3 · 64) matrix, and for (64, 64).
    for part in ('query', 'key', 'value'):
      assert_uniform(attention[part]['kernel'], np.sqrt(6 / (64 + 192)))
      np.testing.assert_array_equal(attention[part]['bias'], 0.0)
    assert_uniform(attention['out']['kernel'], np.sqrt(6 / 128))
    np.testing.assert_array_equal(attention['out']['bias'], 0.0)
  feed_forward = params['decoder_0_feed_forward']
  assert_uniform(feed_forward['hidden']['kernel'], np.sqrt(6 / (64 + 128)))
  assert_uniform(feed_forward['hidden']['bias'], 1 / np.sqrt(64))
  assert_uniform(feed_forward['output']['bias'], 1 / np.sqrt(128))


def test_lstm_starts_like_pytorch():
  model = lstm.BidirectionalLSTM(64, N)
  params = model.init(jax.random.key(0), jnp.ones((1, N, 3)))['params']
  biases = []
  for name in ('forward_0', 'backward_1'):
    for gate in 'ifgo':
      assert_uniform(params[name]['i' + gate]['kernel'], 1 / np.sqrt(64))
      assert_uniform(params[name]['h' + gate]['kernel'], 1 / np.sqrt(64))
      biases.append(params[name]['h' + gate]['bias'])
  # The sum of PyTorch's two biases has twice the variance of one.
  np.testing.assert_allclose(np.std(biases), np.sqrt(2 / 3 / 64), rtol=0.15)
  assert np.max(np.abs(biases)) <= 2 / np.sqrt(64)


def test_unknown_positions_are_refused():
  model = transformer.SetTransformer(16, N, 'learned')
  with pytest.raises(ValueError, match="positions is 'learned'"):
    model.init(jax.random.key(0), jnp.ones((1, N, 3)))
