"""Exchange of parameters with the official PyTorch names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.interop import official
from idspn_jax.modules import autoencoder
from idspn_jax.modules import deep_sets
from idspn_jax.modules import lstm
from idspn_jax.modules import set_decoder
from idspn_jax.modules import set_encoders
from idspn_jax.modules import transformer

ENCODER = {
  'mlp.0.weight': (6, 3),
  'mlp.0.bias': (6,),
  'mlp.2.weight': (5, 6),
  'mlp.2.bias': (5,),
  'pool.weight': (4, 5),
}
SHAPES = {
  f'{part}.{name}': shape
  for part in ('input_to_z', 'inner_obj.encoder')
  for name, shape in ENCODER.items()
} | {'dspn._set_0': (1, 4, 3)}


@pytest.fixture
def state(rng):
  return {k: rng.normal(size=s) for k, s in SHAPES.items()}


def assert_same(a, b):
  """The same bits, shapes and precision under the same names."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert np.asarray(x).dtype == np.asarray(y).dtype
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize('prefix', ('', 'net.'))
def test_from_official_and_back_is_bitwise(state, prefix):
  prefixed = {prefix + k: v for k, v in state.items()}
  params = official.from_official(prefixed)
  assert_same(official.to_official(params, prefix), prefixed)


@pytest.mark.parametrize('dtype', (np.float32, np.float64))
def test_precision_is_kept(state, dtype):
  state = {k: v.astype(dtype) for k, v in state.items()}
  for leaf in jax.tree.leaves(official.from_official(state)):
    assert leaf.dtype == dtype


@pytest.fixture
def model():
  return autoencoder.SetAutoencoder(
    set_encoders.SetEncoder(6, 5),
    set_decoder.SetDecoder(
      set_encoders.SetEncoder(6, 5),
      set_size=4,
      set_dim=3,
      iterations=1,
      initial_set='learned',
    ),
  )


def test_to_official_and_back_is_bitwise(model, variables_of):
  x = jnp.zeros((1, 4, 3))
  params = variables_of(model, x)['params']
  state = official.to_official(params)
  assert {k: v.shape for k, v in state.items()} == SHAPES
  params = jax.tree.map(np.asarray, params)
  assert_same(official.from_official(state), params)


def test_imported_parameters_run(model, state):
  params = jax.tree.map(jnp.float32, official.from_official(state))
  x = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
  z = jax.jit(functools.partial(model.apply, method='encode'))(
    {'params': params}, x
  )
  # The same by PyTorch's convention, x Wᵀ + b.
  s = state
  h = x @ s['input_to_z.mlp.0.weight'].T + s['input_to_z.mlp.0.bias']
  h = np.maximum(h, 0) @ s['input_to_z.mlp.2.weight'].T
  h = h + s['input_to_z.mlp.2.bias']
  expected = np.sum(np.sort(h, axis=1) * s['input_to_z.pool.weight'], axis=1)
  np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)
  out = jax.eval_shape(model.apply, {'params': params}, x)
  assert out.shape == (2, 4, 3)


BASELINES = {
  'deep_sets': deep_sets.EquivariantDeepSets(16, 4),
  'bilstm': lstm.BidirectionalLSTM(16, 4),
  'transformer': transformer.SetTransformer(16, 4, 'random'),
}


@pytest.mark.parametrize('name', BASELINES)
@pytest.mark.parametrize('prefix', ('', 'net.'))
def test_baselines_go_there_and_back_bitwise(name, prefix, variables_of):
  x = jnp.ones((1, 4, 3))
  if name == 'transformer':
    key = jax.random.key(0)
    rngs = {'params': key, 'positions': key}
    params = BASELINES[name].init(rngs, x)['params']
  else:
    params = variables_of(BASELINES[name], x)['params']
  params = jax.tree.map(np.asarray, params)
  state = official.to_official(params, prefix)
  assert all(key.startswith(prefix) for key in state)
  assert_same(official.from_official(state), params)


def test_the_two_biases_of_an_lstm_add_up(variables_of):
  params = variables_of(BASELINES['bilstm'], jnp.ones((1, 4, 3)))['params']
  state = official.to_official(params)
  state['rnn.bias_hh_l1'] = np.arange(64.0, dtype=np.float32)
  found = official.from_official(state)['forward_1']
  for i, gate in enumerate('ifgo'):
    before = params['forward_1']['h' + gate]['bias']
    added = found['h' + gate]['bias'] - before
    np.testing.assert_allclose(added, np.arange(16) + 16 * i, rtol=1e-4)
  del state['rnn.bias_ih_l1']
  with pytest.raises(KeyError, match="'rnn.bias_hh_l1' needs the first bias"):
    official.from_official(state)


def test_the_position_encoding_is_no_parameter():
  assert official.from_official({'net.pe.pe': np.zeros((9, 1, 16))}) == {}


def test_parts_can_be_exchanged_alone(state):
  part = {k: v for k, v in state.items() if k.startswith('input_to_z')}
  params = official.from_official(part)
  assert set(params) == {'input_encoder'}
  assert_same(official.to_official(params), part)


def test_unknown_names_are_refused(state):
  state['dspn.momentum'] = np.zeros(1)
  with pytest.raises(KeyError, match="'dspn.momentum' is not a parameter"):
    official.from_official(state)
  params = {'decoder': {'temperature': np.zeros(1)}}
  with pytest.raises(KeyError, match='decoder/temperature'):
    official.to_official(params)
