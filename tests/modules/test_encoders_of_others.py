"""Any Flax encoder in the decoder: collections, random streams, sharing."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import idspn_jax
from idspn_jax.modules import autoencoder
from idspn_jax.modules import set_decoder
from idspn_jax.modules import set_encoders
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step

B, N, D, Z = 2, 4, 3, 5
SLOW = inner_step.GradientDescent(0.05, momentum=0.0)


class WithBatchNorm(nn.Module):
  train: bool = False

  @nn.compact
  def __call__(self, x):
    x = nn.BatchNorm(use_running_average=not self.train)(nn.Dense(Z)(x))
    return jnp.sum(nn.tanh(x), axis=-2)


class WithDropout(nn.Module):
  @nn.compact
  def __call__(self, x):
    x = nn.Dropout(0.5, deterministic=False)(nn.Dense(16)(x))
    return jnp.sum(nn.Dense(Z)(nn.tanh(x)), axis=-2)


class WithoutParameters(nn.Module):
  @nn.compact
  def __call__(self, x):
    return jnp.concatenate([x.sum(-2), jnp.square(x).sum(-2)[:, :2]], axis=-1)


class WithTwoCollections(nn.Module):
  @nn.compact
  def __call__(self, x):
    shape = (D, Z)
    update = self.variable('update', 'kernel', lambda: jnp.ones(shape))
    hidden = nn.Dense(Z)(x) + x @ update.value
    self.sow('intermediates', 'hidden', hidden)
    return jnp.sum(nn.tanh(hidden), axis=-2)


class Layer(nn.Module):
  @nn.compact
  def __call__(self, x, _):
    return nn.tanh(nn.Dense(Z)(x)), None


class Deep(nn.Module):
  """Layers in a recomputed scan, twice in parallel."""

  @nn.compact
  def __call__(self, x):
    layers = nn.scan(
      nn.remat(Layer),
      variable_axes={'params': 0},
      split_rngs={'params': True},
      length=2,
    )
    twice = nn.vmap(
      layers,
      variable_axes={'params': 0},
      split_rngs={'params': True},
      in_axes=None,
      axis_size=2,
    )
    x, _ = twice()(nn.Dense(Z)(x), None)
    return jnp.sum(x, axis=(0, -2))


ENCODERS = {
  'batch_norm': WithBatchNorm,
  'no_parameters': WithoutParameters,
  'two_collections': WithTwoCollections,
  'deep': Deep,
  'jitted': lambda: nn.jit(WithBatchNorm)(),
}


def decoder(encoder, **options):
  options = {'iterations': 3, 'initial_set': 'zeros', **options}
  return set_decoder.SetDecoder(encoder, set_size=N, set_dim=D, **options)


@pytest.fixture
def z(rng):
  return jnp.asarray(rng.normal(size=(B, Z)).astype(np.float32))


def init(module, x):
  keys = iter(jax.random.split(jax.random.key(0), 3))
  rngs = {name: next(keys) for name in ('params', 'dropout', 'initial_set')}
  return jax.jit(module.init)(rngs, x)


@pytest.mark.parametrize('name', ENCODERS)
def test_the_encoder_s_own_energy_is_minimised(name, z):
  encoder = ENCODERS[name]()
  module = decoder(encoder, gradient=gradients.Unrolled(), optimizer=SLOW)
  variables = init(module, z)
  # Not at the initial values: running averages, say, are 0 and 1 there.
  variables = jax.tree.map(lambda a: a + 0.3, variables)
  own = {k: v['encoder'] for k, v in variables.items()}

  def energy(inputs, y):
    encoded = encoder.apply(inputs.params, y)
    return 0.5 * jnp.mean(jnp.square(encoded - inputs.z), axis=-1)

  def loss(variables):
    return jnp.sum(jnp.square(module.apply(variables, z)))

  def expected_loss(own):
    inputs = energy_lib.Inputs(own, z, jnp.zeros((B, N, D)))
    out = idspn_jax.decode(
      energy,
      inputs,
      iterations=3,
      gradient=gradients.Unrolled(),
      optimizer=SLOW,
    )
    return jnp.sum(jnp.square(out.set))

  found = jax.jit(jax.grad(loss))(variables)
  expected = jax.jit(jax.grad(expected_loss))(own)
  for collection, leaves in expected.items():
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6),
      found[collection]['encoder'],
      leaves,
    )


def test_dropout_drops_the_same_units_in_all_steps(z):
  module = decoder(WithDropout(), iterations=2, optimizer=SLOW)
  variables = init(module, z)

  @jax.jit
  def run(key, start):
    out = module.apply(
      variables,
      z,
      initial_set=start,
      rngs={'dropout': key},
      method='solve',
      trajectory=True,
    )
    return out.trajectory, out.energy

  start = jnp.zeros((B, N, D))
  path, energies = run(jax.random.key(1), start)
  assert np.all(energies[1:] < energies[:-1])
  # A second decoding that starts where the first one was goes on as it did.
  later, later_energies = run(jax.random.key(1), path[1])
  np.testing.assert_allclose(later[1], path[2], rtol=1e-6)
  np.testing.assert_allclose(later_energies[0], energies[1], rtol=1e-6)
  other, _ = run(jax.random.key(2), start)
  assert np.all(np.any(other[1] != path[1], axis=(1, 2)))


def test_implicit_derivatives_see_the_same_units_dropped(z):
  """After one step, the two modes differ by the learning rate alone."""
  key = jax.random.key(1)
  variables = init(decoder(WithDropout()), z)

  def gradient_of(gradient):
    module = decoder(
      WithDropout(), iterations=1, optimizer=SLOW, gradient=gradient
    )

    def loss(variables):
      return jnp.sum(module.apply(variables, z, rngs={'dropout': key}))

    return jax.jit(jax.grad(loss))(variables)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(0.05 * a, b, rtol=1e-4, atol=1e-7),
    gradient_of(gradients.JacobianFree()),
    gradient_of(gradients.Unrolled()),
  )


def test_implicit_modes_reach_all_collections(z):
  module = decoder(WithTwoCollections())
  variables = init(module, z)
  assert set(variables) == {'params', 'update'}
  g = jax.jit(jax.grad(lambda v: jnp.sum(jnp.square(module.apply(v, z)))))(
    variables
  )
  # Both matrices multiply the same columns.
  np.testing.assert_allclose(
    g['update']['encoder']['kernel'],
    g['params']['encoder']['Dense_0']['kernel'],
    rtol=1e-5,
  )
  assert np.all(g['update']['encoder']['kernel'] != 0)


class Embedded(nn.Module):
  """An encoder on a submodule that is made elsewhere."""

  embedding: nn.Module

  @nn.compact
  def __call__(self, x):
    return jnp.sum(nn.Dense(Z)(nn.tanh(self.embedding(x))), axis=-2)


class Tied(nn.Module):
  """An autoencoder whose two encoders share the embedding, or do not."""

  gradient: gradients.Gradient
  tied: bool

  def setup(self):
    self.embedding = nn.Dense(6)
    self.other = self.embedding if self.tied else nn.Dense(6)
    self.encoder = Embedded(self.other)
    self.decoder = decoder(
      self.encoder, gradient=self.gradient, regularizer=0.1
    )
    self.latent = nn.Dense(Z)

  def __call__(self, x):
    return self.decoder(jnp.sum(self.latent(self.embedding(x)), axis=-2))


@pytest.mark.parametrize(
  'gradient', (gradients.JacobianFree(), gradients.Unrolled())
)
def test_shared_submodules_get_the_sum_of_both_gradients(gradient, rng):
  x = jnp.asarray(rng.normal(size=(B, N, D)).astype(np.float32))
  variables = init(Tied(gradient, True), x)
  assert set(variables['params']) == {'embedding', 'encoder', 'latent'}
  params = variables['params']

  def gradient_of(tied, params):
    def loss(params):
      out = Tied(gradient, tied).apply({'params': params}, x)
      return jnp.sum(jnp.square(out))

    return jax.jit(jax.grad(loss))(params)

  shared = gradient_of(True, params)
  apart = gradient_of(False, {**params, 'other': params['embedding']})
  apart['embedding'] = jax.tree.map(
    jnp.add, apart['embedding'], apart.pop('other')
  )
  for leaf in jax.tree.leaves(apart):
    assert np.any(leaf != 0)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    shared,
    apart,
  )


def test_one_encoder_serves_the_input_and_the_decoder(rng, variables_of):
  encoder = set_encoders.SetEncoder(6, Z, pool='mean')
  module = autoencoder.SetAutoencoder(encoder, decoder(encoder))
  x = jnp.asarray(rng.normal(size=(B, N, D)).astype(np.float32))
  variables = variables_of(module, x)
  assert set(variables['params']) == {'input_encoder'}
  apart = autoencoder.SetAutoencoder(encoder.clone(), decoder(encoder.clone()))
  own = variables['params']['input_encoder']
  both = {'params': {'input_encoder': own, 'decoder': {'encoder': own}}}
  np.testing.assert_allclose(
    jax.jit(module.apply)(variables, x),
    jax.jit(apart.apply)(both, x),
    rtol=1e-6,
  )


class Chained(nn.Module):
  """Decodes and encodes in turn, by a lifted transformation."""

  kind: str

  @nn.compact
  def __call__(self, z):
    encoder = set_encoders.SetEncoder(6, Z, pool='mean', name='encoder')
    if self.kind != 'scan':
      lift = {'remat': nn.remat, 'jit': nn.jit}[self.kind]
      module = lift(set_decoder.SetDecoder)(
        encoder, N, D, iterations=2, initial_set='zeros'
      )
      return module(encoder(module(z)))

    def body(module, z, _):
      y = module(z)
      return module.encoder(y), y

    scan = nn.scan(
      body,
      variable_broadcast='params',
      split_rngs={'params': False},
      length=2,
    )
    module = decoder(encoder, iterations=2)
    return scan(module, z, None)[1][-1]


@pytest.mark.parametrize('kind', ('remat', 'jit', 'scan'))
def test_decoders_work_in_lifted_transformations(kind, z, variables_of):
  module = Chained(kind)
  variables = variables_of(module, z)
  assert set(variables['params']) == {'encoder'}
  plain = decoder(set_encoders.SetEncoder(6, Z, pool='mean'), iterations=2)

  def by_hand(params, z):
    y = plain.apply({'params': params}, z)
    z = plain.encoder.apply({'params': params['encoder']}, y)
    return jnp.sum(jnp.square(plain.apply({'params': params}, z)))

  def lifted(params, z):
    return jnp.sum(jnp.square(module.apply({'params': params}, z)))

  expected = jax.jit(jax.grad(by_hand))(variables['params'], z)
  found = jax.jit(jax.grad(lifted))(variables['params'], z)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7),
    found,
    expected,
  )


class TestRefusals:
  def test_updates_of_a_collection(self, z):
    module = decoder(WithBatchNorm(train=True))
    variables = init(module, z)
    with pytest.raises(ValueError, match='use_running_average=True'):
      module.apply(variables, z, mutable=['batch_stats'])

  def test_parameters_without_their_collection(self, z, variables_of):
    module = decoder(set_encoders.SetEncoder(6, Z, pool='mean'))
    variables = variables_of(module, z)
    with pytest.raises(ValueError, match="apply all .* {'params': …, …}"):
      module.apply(variables['params'], z)

  @pytest.mark.parametrize('encoder', (WithDropout, lambda x: x.sum(-2)))
  def test_what_is_no_module(self, encoder, z):
    with pytest.raises(ValueError, match=r'encoder must be a flax\.linen'):
      init(decoder(encoder), z)
