"""The set autoencoder joins an encoder and a decoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.modules import autoencoder
from idspn_jax.modules import set_decoder
from idspn_jax.modules import set_encoders


def build(d_out, conditioned=False):
  return autoencoder.SetAutoencoder(
    set_encoders.SetEncoder(6, 5),
    set_decoder.SetDecoder(
      set_encoders.SetEncoder(6, 5),
      set_size=4,
      set_dim=d_out,
      iterations=3,
      initial_set='learned',
    ),
    condition_on_input=conditioned,
  )


def run(model, variables, *args, **options):
  """Applies a model, compiled as a whole."""
  return jax.jit(functools.partial(model.apply, **options))(variables, *args)


def test_it_decodes_what_it_encodes(rng, variables_of):
  x = jnp.asarray(rng.normal(size=(2, 4, 3)).astype(np.float32))
  model = build(3)
  variables = variables_of(model, x)
  assert set(variables['params']) == {'input_encoder', 'decoder'}
  z = run(model, variables, x, method='encode')
  assert z.shape == (2, 5)
  out = run(model, variables, z, method='decode', trajectory=True)
  assert out.trajectory.shape == (4, 2, 4, 3)
  np.testing.assert_allclose(run(model, variables, x), out.set, rtol=1e-6)
  longer = run(model, variables, x, iterations=6)
  assert np.any(longer != out.set)


def test_conditioned_on_the_input_it_decodes_beside_it(rng, variables_of):
  x = jnp.asarray(rng.normal(size=(2, 4, 3)).astype(np.float32))
  model = build(7, conditioned=True)
  variables = variables_of(model, x)
  inner = variables['params']['decoder']['encoder']
  assert inner['hidden']['kernel'].shape == (7 + 3, 6)
  z = run(model, variables, x, method='encode')
  one = run(model, variables, z, x, method='decode').set
  other = run(model, variables, z, x[:, ::-1], method='decode').set
  assert one.shape == (2, 4, 7)
  assert np.any(one != other)


def test_options_that_would_be_swallowed_are_refused():
  x = jnp.zeros((2, 4, 3))
  key = jax.random.key(0)
  with pytest.raises(ValueError, match="method='decode' of SetAutoencoder"):
    build(3).init(key, x, trajectory=True)
  with pytest.raises(ValueError, match='Unknown options steps'):
    build(3).init(key, x, steps=2)
  model = build(7, conditioned=True)
  with pytest.raises(ValueError, match='give x, and not known_features'):
    model.init(key, x, known_features=x)
  with pytest.raises(ValueError, match='the input x is needed'):
    model.init(key, jnp.zeros((2, 5)), method='decode')
