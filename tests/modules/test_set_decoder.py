"""The set decoder module: initial sets, conditions, settings, refusals."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.modules import set_decoder
from idspn_jax.modules import set_encoders
from idspn_jax.ops import simplex
from idspn_jax.solvers import decode
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step

N, D, Z = 4, 3, 5


def decoder(pool='sum', **options):
  encoder = set_encoders.SetEncoder(hidden_dim=6, latent_dim=Z, pool=pool)
  options = {'iterations': 3, **options}
  return set_decoder.SetDecoder(encoder, set_size=N, set_dim=D, **options)


def init(module, z, **options):
  rngs = {'params': jax.random.key(1), 'initial_set': jax.random.key(2)}
  return jax.jit(functools.partial(module.init, **options))(rngs, z)


def run(
  module, variables, z, *, rngs=None, method=None, iterations=None, **sets
):
  """Applies a module, compiled as a whole."""
  options = {'iterations': iterations, 'method': method}
  options = {k: v for k, v in options.items() if v is not None}
  if options.get('method') == 'solve':
    options['trajectory'] = True

  def apply(variables, z, rngs, sets):
    return module.apply(variables, z, rngs=rngs, **options, **sets)

  return jax.jit(apply)(variables, z, rngs, sets)


@pytest.fixture
def z(rng):
  return jnp.asarray(rng.normal(size=(2, Z)).astype(np.float32))


def test_module_decodes_its_encoder_s_energy(z, variables_of):
  module = decoder('fs', initial_set='learned', regularizer=0.1, grad_clip=0.5)
  variables = variables_of(module, z)
  params = variables['params']
  assert set(params) == {'encoder', 'initial_set'}
  assert params['initial_set'].shape == (N, D)
  encode = set_encoders.encode_with(module.encoder)
  solve = functools.partial(
    decode.decode,
    energy_lib.regularized(energy_lib.squared_distance(encode), 0.1),
    iterations=3,
    grad_clip=0.5,
  )
  start = jnp.broadcast_to(params['initial_set'][None], (2, N, D))
  expected = jax.jit(solve)(energy_lib.Inputs(params['encoder'], z, start)).set
  np.testing.assert_allclose(run(module, variables, z), expected, rtol=1e-5)


def test_zeros_start_at_zero(z, variables_of):
  module = decoder(initial_set='zeros', iterations=0)
  np.testing.assert_array_equal(run(module, variables_of(module, z), z), 0.0)


def test_learned_set_is_shared_and_has_the_scale():
  module = set_decoder.SetDecoder(
    set_encoders.SetEncoder(2, 2, pool='sum'),
    set_size=100,
    set_dim=20,
    iterations=0,
    initial_set='learned',
    initial_scale=0.3,
  )
  z = jnp.zeros((2, 2))
  variables = init(module, z)
  y = run(module, variables, z)
  np.testing.assert_array_equal(y[0], y[1])
  np.testing.assert_array_equal(y[0], variables['params']['initial_set'])
  np.testing.assert_allclose(np.std(y), 0.3, rtol=0.1)


def test_normal_set_is_fresh_noise_from_its_own_stream(variables_of):
  module = set_decoder.SetDecoder(
    set_encoders.SetEncoder(2, 2, pool='sum'),
    set_size=100,
    set_dim=20,
    iterations=0,
  )
  z = jnp.zeros((2, 2))
  variables = variables_of(module, z)
  assert set(variables['params']) == {'encoder'}

  def start(seed):
    return run(module, variables, z, rngs={'initial_set': jax.random.key(seed)})

  y = np.asarray(start(0))
  np.testing.assert_allclose(np.std(y), 0.1, rtol=0.05)
  np.testing.assert_allclose(np.mean(y), 0.0, atol=0.01)
  assert np.all(y[0] != y[1])
  np.testing.assert_array_equal(start(0), y)
  assert np.all(np.asarray(start(1)) != y)


@pytest.mark.parametrize('kind', set_decoder.INITIAL_SETS)
def test_an_initial_set_can_be_given_whatever_the_kind(
  z, rng, kind, variables_of
):
  module = decoder(initial_set=kind, iterations=0)
  given = jnp.asarray(rng.normal(size=(2, N, D)).astype(np.float32))
  variables = variables_of(module, z, initial_set=given)
  np.testing.assert_array_equal(
    run(module, variables, z, initial_set=given), given
  )
  shared = run(module, variables, z, initial_set=given[0])
  np.testing.assert_array_equal(shared[0], given[0])
  np.testing.assert_array_equal(shared[1], given[0])


def test_given_sets_have_to_be_given(z):
  with pytest.raises(ValueError, match='needs the argument initial_set'):
    init(decoder(initial_set='given'), z)


def test_known_features_change_the_result(z, rng, variables_of):
  module = decoder('fs', initial_set='zeros')
  known = jnp.asarray(rng.normal(size=(2, N, 2)).astype(np.float32))
  variables = variables_of(module, z, known_features=known)
  kernel = variables['params']['encoder']['hidden']['kernel']
  assert kernel.shape == (D + 2, 6)
  one = run(module, variables, z, known_features=known)
  other = run(module, variables, z, known_features=known + 1.0)
  assert one.shape == (2, N, D)
  assert np.all(np.any(one != other, axis=(1, 2)))


def test_known_elements_change_the_result_and_stay_put(z, rng, variables_of):
  module = decoder('fs', initial_set='zeros')
  known = jnp.asarray(rng.normal(size=(2, 2, D)).astype(np.float32))
  variables = variables_of(module, z, known_elements=known)
  weight = variables['params']['encoder']['pool']['weight']
  assert weight.shape == (N + 2, Z)

  def solve(known):
    return run(module, variables, z, known_elements=known, method='solve')

  out = solve(known)
  assert out.set.shape == (2, N, D)
  assert np.all(np.any(out.set != solve(known + 1.0).set, axis=(1, 2)))
  # The energy reported is the energy of the set joined by what is known.
  encoded = jax.jit(module.encoder.apply)(
    {'params': variables['params']['encoder']},
    jnp.concatenate([out.set, known], axis=1),
  )
  np.testing.assert_allclose(
    out.energy[-1], 0.5 * np.mean(np.square(encoded - z), -1), rtol=1e-5
  )


def test_the_result_is_differentiable_in_what_is_known(z, rng, variables_of):
  module = decoder('fs', initial_set='zeros')
  known = jnp.asarray(rng.normal(size=(2, N, 2)).astype(np.float32))
  variables = variables_of(module, z, known_features=known)
  g = jax.jit(
    jax.grad(
      lambda k: jnp.sum(module.apply(variables, z, known_features=k) ** 2)
    )
  )(known)
  assert np.all(np.isfinite(g)) and np.any(g != 0)


def test_evaluation_may_take_more_steps(z, variables_of):
  module = decoder(initial_set='zeros', iterations=2)
  variables = variables_of(module, z)
  longer = decoder(initial_set='zeros', iterations=9)
  more = run(module, variables, z, iterations=9)
  np.testing.assert_array_equal(more, run(longer, variables, z))
  few = run(module, variables, z, method='solve')
  many = run(module, variables, z, iterations=9, method='solve')
  assert few.trajectory.shape[0] == 3 and many.trajectory.shape[0] == 10
  np.testing.assert_allclose(many.trajectory[:3], few.trajectory, rtol=1e-6)


def test_settings_reach_the_solver(z, variables_of):
  module = decoder(
    initial_set='zeros',
    optimizer=inner_step.GradientDescent(0.5, 0.0),
    projection=simplex.project_simplex,
    tolerance=1e3,
  )
  variables = variables_of(module, z)
  out = run(module, variables, z, method='solve')
  np.testing.assert_array_equal(out.steps, 0)
  np.testing.assert_allclose(out.set, 1 / D, rtol=1e-6)


def test_every_parameter_learns_without_a_look_inside(z, variables_of):
  for gradient in (gradients.JacobianFree(), gradients.Unrolled()):
    module = decoder(
      'fs', initial_set='learned', regularizer=0.1, gradient=gradient
    )
    variables = variables_of(module, z)
    g = jax.jit(jax.grad(lambda v, m=module: jnp.sum(m.apply(v, z) ** 2)))(
      variables
    )
    for leaf in jax.tree.leaves(g):
      assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)


def test_stored_weights_refuse_another_set_size(z, variables_of):
  variables = variables_of(decoder('fs', initial_set='zeros'), z)
  larger = decoder('fs', initial_set='zeros').clone(set_size=N + 1)
  with pytest.raises(
    ValueError, match='sets of 4 elements but the sets have 5'
  ):
    larger.apply(variables, z)


@pytest.mark.parametrize('shape', ((2, N + 1, D), (3, N, D), (N,), (N, D + 1)))
def test_initial_sets_that_do_not_fit_are_refused(z, shape):
  module = decoder(initial_set='zeros')
  with pytest.raises(ValueError, match=r'needs shape \(2, 4, 3\) or \(4, 3\)'):
    init(module, z, initial_set=jnp.zeros(shape))


def test_wrong_settings_are_refused(z):
  with pytest.raises(ValueError, match="initial_set is 'ones'; choose one of"):
    init(decoder(initial_set='ones'), z)
  with pytest.raises(ValueError, match='iterations must be an integer'):
    init(decoder(initial_set='zeros', iterations=-1), z)
  with pytest.raises(ValueError, match='needs a symmetric system'):
    init(
      decoder(
        initial_set='zeros',
        gradient=gradients.ConjugateGradient(),
        projection=simplex.project_simplex,
      ),
      z,
    )


def test_calls_refuse_what_they_would_swallow(z):
  module = decoder(initial_set='zeros')
  with pytest.raises(ValueError, match="trajectory=True, method='solve'"):
    init(module, z, trajectory=True)
  with pytest.raises(ValueError, match='Unknown options steps; known are'):
    init(module, z, steps=3)


@pytest.mark.parametrize(
  'options,message',
  (
    ({'set_size': 0}, 'set_size must be an integer of at least 1; got 0'),
    ({'set_dim': -2}, 'set_dim must be an integer of at least 1'),
    ({'set_dim': 2.0}, 'set_dim must be an integer'),
    ({'regularizer': -0.1}, 'regularizer must not be negative'),
    ({'regularizer': np.nan}, 'regularizer must not be negative'),
    ({'regularizer': jnp.ones(2)}, r'must be one number; got shape \(2,\)'),
    ({'initial_scale': -1.0}, 'initial_scale must not be negative'),
    ({'initial_scale': np.inf}, 'initial_scale must not be negative'),
    ({'grad_clip': 0.0}, 'grad_clip must be positive'),
    ({'tolerance': np.nan}, 'tolerance must not be negative'),
  ),
)
def test_wrong_numbers_are_refused(z, options, message):
  with pytest.raises(ValueError, match=message):
    init(decoder(initial_set='zeros').clone(**options), z)


def test_sizes_may_be_numpy_integers(z):
  module = decoder(initial_set='zeros').clone(set_size=np.int64(N))
  shape = jax.eval_shape(
    lambda z: module.init_with_output(jax.random.key(0), z)[0], z
  ).shape
  assert shape == (2, N, D)


class LearnedWeight(nn.Module):
  """A decoder whose regularizer's weight is a parameter."""

  gradient: gradients.Gradient

  @nn.compact
  def __call__(self, z):
    weight = self.param('weight', nn.initializers.ones, ())
    module = decoder(
      initial_set='learned', regularizer=weight, gradient=self.gradient
    )
    return module(z)


def test_the_regularizer_may_be_learned(z):
  for gradient in (gradients.JacobianFree(), gradients.Unrolled()):
    module = LearnedWeight(gradient)
    params = {**init(module, z)['params'], 'weight': jnp.array(0.3)}
    fixed = decoder(initial_set='learned', regularizer=0.3, gradient=gradient)
    own = {**params['SetDecoder_0'], 'encoder': params['SetEncoder_0']}

    def loss(params, module=module):
      out = module.apply({'params': params}, z)
      return jnp.sum(jnp.square(out)), out

    g, out = jax.jit(jax.grad(loss, has_aux=True))(params)
    np.testing.assert_allclose(
      out, run(fixed, {'params': own}, z), rtol=1e-5, atol=1e-6
    )
    for leaf in jax.tree.leaves(g):
      assert np.all(np.isfinite(leaf)) and np.any(leaf != 0)


class TestLearnedSetWithoutARegularizer:
  """It gets no gradient from an implicit mode, and that is said."""

  def gradient(self, module, variables, z, **sets):
    def loss(variables):
      return jnp.sum(jnp.square(module.apply(variables, z, **sets)))

    return jax.eval_shape(jax.grad(loss), variables)

  def test_training_it_warns(self, z, variables_of):
    module = decoder(initial_set='learned')
    with pytest.warns(UserWarning, match='gets no gradient.*regularizer=0.1'):
      self.gradient(module, variables_of(module, z), z)

  def test_the_rest_does_not_warn(self, z, variables_of):
    module = decoder(initial_set='learned')
    variables = variables_of(module, z)
    jax.eval_shape(module.apply, variables, z)
    jax.eval_shape(jax.grad(lambda z: jnp.sum(module.apply(variables, z))), z)
    self.gradient(module, variables, z, initial_set=jnp.zeros((N, D)))
    for options in ({'regularizer': 0.1}, {'gradient': gradients.Unrolled()}):
      self.gradient(module.clone(**options), variables, z)


def test_fallbacks_reach_the_energy_s_inputs(z, variables_of):
  module = decoder(initial_set='zeros')
  variables = variables_of(module, z)
  plain = run(module, variables, z)
  zeros = jnp.zeros(2)
  np.testing.assert_array_equal(
    run(module, variables, z, fallbacks=zeros), plain
  )
  with pytest.raises(ValueError, match='fallbacks'):
    run(module, variables, z, fallbacks=jnp.zeros(3))


def test_latent_vectors_of_another_size_are_refused():
  module = decoder(initial_set='zeros')
  with pytest.raises(ValueError, match=r'returns shape \(2, 5\) but'):
    init(module, jnp.zeros((2, Z + 1)))
