"""Set encoders: parameters, statistics, and the formula that they compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.modules import set_encoders
from idspn_jax.ops import pairs


def encoder(**options):
  return set_encoders.SetEncoder(hidden_dim=6, latent_dim=5, **options)


def init(module, *args):
  return jax.jit(module.init)(jax.random.key(1), *args)


def relu(x):
  return np.maximum(x, 0)


def by_numpy(params, x, pool, activation=relu):
  """The encoder's formula, `Linear → ReLU → Linear → pool`."""
  if pool == 'rnfs':
    x = np.asarray(pairs.all_pairs(jnp.asarray(x)))
  hidden = x @ params['hidden']['kernel'] + params['hidden']['bias']
  latent = activation(hidden) @ params['output']['kernel']
  latent = latent + params['output']['bias']
  if pool in ('fs', 'rnfs', 'fs_autodiff'):
    return np.sum(np.sort(latent, axis=-2) * params['pool']['weight'], axis=-2)
  return {'sum': np.sum, 'mean': np.mean, 'max': np.max}[pool](latent, axis=-2)


@pytest.mark.parametrize('pool', set_encoders.POOLS)
def test_parameters_and_values(rng, pool, variables_of):
  x = rng.normal(size=(2, 4, 3)).astype(np.float32)
  module = encoder(pool=pool)
  params = variables_of(module, x)['params']
  rows = {'fs': 4, 'rnfs': 16, 'fs_autodiff': 4}.get(pool)
  expected = {
    'hidden': {'kernel': (6 if pool == 'rnfs' else 3, 6), 'bias': (6,)},
    'output': {'kernel': (6, 5), 'bias': (5,)},
  }
  if rows:
    expected['pool'] = {'weight': (rows, 5)}
  assert jax.tree.map(lambda a: a.shape, params) == expected
  z = jax.jit(module.apply)({'params': params}, x)
  params = jax.tree.map(np.asarray, params)
  np.testing.assert_allclose(z, by_numpy(params, x, pool), rtol=1e-4, atol=1e-5)


def test_smooth_encoder(rng, variables_of):
  x = rng.normal(size=(2, 4, 3)).astype(np.float32)
  module = encoder(pool='sum', activation='tanh')
  params = variables_of(module, x)['params']
  z = jax.jit(module.apply)({'params': params}, x)
  params = jax.tree.map(np.asarray, params)
  expected = by_numpy(params, x, 'sum', np.tanh)
  np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)
  with pytest.raises(ValueError, match="'gelu'; choose one of relu, tanh"):
    encoder(activation='gelu').init(jax.random.key(0), x)


@pytest.mark.parametrize('pieces,rows', ((None, 16), (24, 25)))
def test_fspool_init_has_standard_deviation_one_over_root_rows(pieces, rows):
  module = set_encoders.FSPool(pieces=pieces)
  weight = init(module, jnp.zeros((1, 16, 500)))['params']['weight']
  assert weight.shape == (rows, 500)
  np.testing.assert_allclose(np.std(weight), rows**-0.5, rtol=0.05)
  np.testing.assert_allclose(np.mean(weight), 0.0, atol=0.01)


def test_biases_start_as_in_pytorch(rng):
  params = init(encoder(), jnp.zeros((1, 4, 3)))['params']
  assert np.all(np.abs(params['hidden']['kernel']) <= 3**-0.5)
  assert np.all(np.abs(params['output']['bias']) <= 6**-0.5)
  assert np.any(params['hidden']['bias'] != 0)
  plain = init(encoder(linear_init='flax'), jnp.zeros((1, 4, 3)))['params']
  np.testing.assert_array_equal(plain['hidden']['bias'], 0.0)


def test_autodiff_sort_computes_the_same(rng, variables_of):
  x = rng.normal(size=(2, 4, 3)).astype(np.float32)
  fast, slow = encoder(), encoder(pool='fs_autodiff')
  variables = variables_of(fast, x)
  np.testing.assert_allclose(
    jax.jit(slow.apply)(variables, x),
    jax.jit(fast.apply)(variables, x),
    rtol=1e-5,
    atol=1e-6,
  )


@pytest.mark.parametrize('pool', ('fs', 'rnfs'))
def test_piecewise_weights_serve_sets_of_any_size(rng, pool, variables_of):
  module = encoder(pool=pool, pieces=3)
  variables = variables_of(module, jnp.zeros((1, 4, 3)))
  assert variables['params']['pool']['weight'].shape == (4, 5)
  for n in (1, 2, 7):
    x = jax.ShapeDtypeStruct((2, n, 3), jnp.float32)
    assert jax.eval_shape(module.apply, variables, x).shape == (2, 5)


def test_stored_weights_refuse_sets_of_another_size(variables_of):
  module = encoder()
  variables = variables_of(module, jnp.zeros((1, 4, 3)))
  with pytest.raises(
    ValueError, match='sets of 4 elements but the sets have 5'
  ):
    module.apply(variables, jnp.zeros((1, 5, 3)))


def test_masks_need_piecewise_weights():
  x, mask = jnp.zeros((1, 4, 3)), jnp.ones((1, 4), bool)
  with pytest.raises(ValueError, match='set pieces to pool masked sets'):
    encoder().init(jax.random.key(0), x, mask)


def test_the_slow_pool_has_no_pieces():
  module = encoder(pool='fs_autodiff', pieces=3)
  with pytest.raises(ValueError, match='pieces=3 has no slow derivative'):
    module.init(jax.random.key(0), jnp.zeros((1, 4, 3)))


def test_unknown_pools_are_refused():
  with pytest.raises(ValueError, match="pool is 'median'; choose one of"):
    encoder(pool='median').init(jax.random.key(0), jnp.zeros((1, 4, 3)))


def test_encode_with_is_a_pure_function_of_the_parameters(rng, variables_of):
  x = jnp.asarray(rng.normal(size=(2, 4, 3)).astype(np.float32))
  module = encoder()
  variables = variables_of(module, x)
  encode = set_encoders.encode_with(module)
  np.testing.assert_array_equal(
    jax.jit(encode)(variables['params'], x), jax.jit(module.apply)(variables, x)
  )


def test_computes_in_a_given_type_and_returns_the_input_s(rng, variables_of):
  x = jnp.asarray(rng.normal(size=(2, 4, 3)).astype(np.float32))
  plain = set_encoders.SetEncoder(6, 5)
  variables = variables_of(plain, x)
  expected = jax.jit(plain.apply)(variables, x)
  for dtype in (jnp.bfloat16, 'bfloat16', jnp.float32):
    module = set_encoders.SetEncoder(6, 5, dtype=dtype)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    leaves = jax.tree.leaves(shapes)
    assert all(leaf.dtype == np.float32 for leaf in leaves)
    out = jax.jit(module.apply)(variables, x)
    assert out.dtype == np.float32
    exact = np.dtype(dtype) == np.float32
    np.testing.assert_allclose(out, expected, atol=1e-6 if exact else 0.1)
    assert exact == np.array_equal(out, expected)


@pytest.mark.parametrize(
  'options,message',
  (
    ({'hidden_dim': 0}, 'hidden_dim must be an integer of at least 1'),
    ({'latent_dim': -1}, 'latent_dim must be an integer of at least 1'),
    ({'pieces': 0}, 'pieces must be an integer of at least 1'),
    ({'dtype': 'int32'}, 'dtype must be a floating-point type'),
    ({'dtype': 'bf17'}, 'dtype must be a floating-point type'),
  ),
)
def test_wrong_attributes_are_refused(options, message):
  module = set_encoders.SetEncoder(6, 5).clone(**options)
  with pytest.raises(ValueError, match=message):
    module.init(jax.random.key(0), jnp.zeros((2, 4, 3)))


def test_another_set_size_is_refused_with_the_remedy(variables_of):
  module = set_encoders.SetEncoder(6, 5)
  variables = variables_of(module, jnp.zeros((2, 4, 3)))
  with pytest.raises(ValueError, match='4 elements .* 5; .*pieces='):
    module.apply(variables, jnp.zeros((2, 5, 3)))
