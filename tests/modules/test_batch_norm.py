"""Batch normalisation: PyTorch's running averages, precision, mapped axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.modules import batch_norm

NORM = batch_norm.BatchNorm()


@pytest.fixture
def variables(rng):
  return {
    'params': {
      'scale': jnp.asarray(rng.normal(size=4), jnp.float32),
      'bias': jnp.asarray(rng.normal(size=4), jnp.float32),
    },
    'batch_stats': {
      'mean': jnp.asarray(rng.normal(size=4), jnp.float32),
      'var': jnp.asarray(rng.uniform(0.5, 2, size=4), jnp.float32),
    },
  }


@pytest.fixture
def x(rng):
  return jnp.asarray(3 + 2 * rng.normal(size=(2, 3, 5, 4)), jnp.float32)


def normalized(x, mean, var, params):
  x = np.asarray(x, np.float64)
  scale, bias = np.asarray(params['scale']), np.asarray(params['bias'])
  return (x - mean) / np.sqrt(np.asarray(var) + 1e-5) * scale + bias


def train(norm, variables, x):
  return norm.apply(variables, x, train=True, mutable=['batch_stats'])


def test_initial_values_are_the_identity(x):
  variables = NORM.init(jax.random.key(0), x, train=True)
  for collection, name, value in (
    ('params', 'scale', 1),
    ('params', 'bias', 0),
    ('batch_stats', 'mean', 0),
    ('batch_stats', 'var', 1),
  ):
    array = variables[collection][name]
    np.testing.assert_array_equal(array, np.full(4, value, np.float32))


def test_training_takes_the_biased_variance_and_keeps_the_unbiased(
  variables, x
):
  y, changed = train(NORM, variables, x)
  rows = np.asarray(x, np.float64).reshape(-1, 4)
  expected = normalized(x, rows.mean(0), rows.var(0), variables['params'])
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
  old, new = variables['batch_stats'], changed['batch_stats']
  for name, batch in (('mean', rows.mean(0)), ('var', rows.var(0, ddof=1))):
    expected = 0.9 * old[name] + 0.1 * batch
    np.testing.assert_allclose(new[name], expected, rtol=1e-5)


def test_evaluation_takes_and_keeps_the_running_averages(variables, x):
  y, changed = NORM.apply(variables, x, mutable=['batch_stats'])
  stats = variables['batch_stats']
  expected = normalized(
    x, np.asarray(stats['mean']), stats['var'], variables['params']
  )
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
  for name, array in stats.items():
    np.testing.assert_array_equal(changed['batch_stats'][name], array)


def test_training_without_mutable_statistics_updates_nothing(variables, x):
  y = NORM.apply(variables, x, train=True)
  np.testing.assert_array_equal(y, train(NORM, variables, x)[0])


def test_half_precision_has_statistics_in_float32(variables, x):
  # In bfloat16 the sums of so many values near 300 would be off by far.
  x = jnp.tile(300 + x, (40, 1, 1, 1)).astype(jnp.bfloat16)
  norm = batch_norm.BatchNorm(dtype=jnp.bfloat16)
  y, changed = train(norm, variables, x)
  assert y.dtype == jnp.bfloat16
  rows = np.asarray(x, np.float64).reshape(-1, 4)
  for name, batch in (('mean', rows.mean(0)), ('var', rows.var(0, ddof=1))):
    assert changed['batch_stats'][name].dtype == jnp.float32
    expected = 0.9 * variables['batch_stats'][name] + 0.1 * batch
    np.testing.assert_allclose(
      changed['batch_stats'][name], expected, rtol=1e-5
    )
  expected = normalized(x, rows.mean(0), rows.var(0), variables['params'])
  np.testing.assert_allclose(y.astype(jnp.float32), expected, atol=0.03)


def test_a_divided_batch_has_the_statistics_of_the_whole(variables, rng):
  x = jnp.asarray(rng.normal(size=(8, 3, 4)), jnp.float32)
  weight = jnp.asarray(rng.normal(size=(8, 3, 4)), jnp.float32)

  def loss(norm, x, weight):
    y, changed = train(norm, variables, x)
    return jnp.sum(weight * y), changed

  whole = jax.grad(functools.partial(loss, NORM), has_aux=True)(x, weight)
  shared = batch_norm.BatchNorm(axis_name='parts')
  parts = (4, 2, 3, 4)

  def total(x, weight):
    one, changed = jax.vmap(functools.partial(loss, shared), axis_name='parts')(
      x, weight
    )
    return jnp.sum(one), changed

  grad, changed = jax.grad(total, has_aux=True)(
    x.reshape(parts), weight.reshape(parts)
  )
  np.testing.assert_allclose(
    grad.reshape(8, 3, 4), whole[0], rtol=1e-4, atol=1e-5
  )
  for found, expected in zip(
    jax.tree.leaves(changed), jax.tree.leaves(whole[1]), strict=True
  ):
    for part in found:
      np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)


def test_one_value_per_feature_is_refused_in_training(variables):
  x = jnp.ones((1, 1, 1, 4))
  with pytest.raises(ValueError, match=r'more than one value.*\(1, 1, 1, 4\)'):
    train(NORM, variables, x)
  assert NORM.apply(variables, x).shape == x.shape
  two = jax.vmap(
    lambda x: train(batch_norm.BatchNorm(axis_name='parts'), variables, x)[0],
    axis_name='parts',
  )(jnp.stack([x, 2 * x]))
  assert np.isfinite(two).all()


@pytest.mark.parametrize(
  'options, call, message',
  (
    ({}, {'train': 1}, 'train must be True or False; got 1'),
    ({'dtype': 'int8'}, {}, 'dtype must be a floating-point type'),
  ),
)
def test_wrong_options_are_refused(options, call, message):
  norm = batch_norm.BatchNorm(**options)
  with pytest.raises(ValueError, match=message):
    norm.init(jax.random.key(0), jnp.ones((2, 4)), **call)
