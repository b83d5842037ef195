"""Several starts: who wins, what is reported, and whose the derivative is."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import idspn_jax
from idspn_jax.ops import simplex
from idspn_jax.solvers import decode as decode_lib
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step
from idspn_jax.solvers.restarts import Restarts
from tests import on_devices

KEY = jax.random.key(7)
B, N, D, Z = 6, 4, 3, 12


def _encode(params, y):
  return jnp.sum(jnp.tanh(y @ params['w']), axis=1)


ENERGY = energy_lib.regularized(energy_lib.squared_distance(_encode), 0.1)


def make_inputs(dtype=np.float32):
  rng = np.random.default_rng(3)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), dtype)

  return energy_lib.Inputs({'w': normal(D, Z)}, normal(B, Z), normal(B, N, D))


def run(restarts, inputs=None, **options):
  inputs = make_inputs() if inputs is None else inputs
  options = {'iterations': 5, 'key': KEY, **options}
  return jax.jit(
    lambda inputs: decode_lib.decode(
      ENERGY, inputs, restarts=restarts, **options
    )
  )(inputs)


@pytest.mark.parametrize(
  'gradient', (gradients.JacobianFree(), gradients.Unrolled())
)
@pytest.mark.parametrize('parallel', (False, True))
def test_one_start_is_the_decoder_without_restarts(gradient, parallel):
  expected = run(None, gradient=gradient)
  one = run(Restarts(1, parallel=parallel), gradient=gradient, key=None)
  np.testing.assert_array_equal(one.set, expected.set)
  np.testing.assert_array_equal(one.last_residual, expected.last_residual)
  np.testing.assert_array_equal(one.winner, np.zeros(B))
  assert expected.winner is None and expected.start_energies is None
  assert one.start_energies.shape == (1, B) and one.start_sets is None


SETTINGS = {
  'plain': {},
  'unrolled': {'gradient': gradients.Unrolled()},
  'projection': {'projection': simplex.project_simplex},
  'tolerance': {'tolerance': 1e-3, 'iterations': 30},
  'adam': {'optimizer': inner_step.OptaxOptimizer(optax.adam(0.1))},
  'line search': {'optimizer': inner_step.BacktrackingLineSearch()},
  'projected gradient': {
    'optimizer': idspn_jax.ProjectedGradient(),
    'projection': simplex.project_simplex,
  },
  'trajectory': {'trajectory': True},
}


@pytest.mark.parametrize('name', SETTINGS)
def test_the_winner_has_the_least_energy(name, x64):
  """In float64: float32's rounding differs between programs and processors."""
  inputs, options = make_inputs(np.float64), SETTINGS[name]

  def same(actual, desired):
    np.testing.assert_allclose(actual, desired, rtol=1e-9, atol=1e-9)

  found = run(Restarts(4, scale=0.5, keep_all=True), inputs, **options)
  assert found.start_energies.shape == (4, B)
  winner = np.argmin(found.start_energies, axis=0)
  np.testing.assert_array_equal(found.winner, winner)
  assert len(np.unique(winner)) > 1
  same(found.set, found.start_sets[winner, np.arange(B)])
  # Reported energies are those of the sets, without the regulariser.
  plain = energy_lib.squared_distance(_encode)
  for sets, energies in zip(
    found.start_sets, found.start_energies, strict=True
  ):
    same(energies, plain(inputs, sets))
  if found.trajectory is not None:
    same(found.trajectory[-1], found.set)
  # Start k does not depend on the number of starts, nor on how they run.
  side = run(
    Restarts(2, scale=0.5, parallel=True, keep_all=True), inputs, **options
  )
  same(side.start_sets, found.start_sets[:2])
  np.testing.assert_array_equal(
    side.winner, np.argmin(found.start_energies[:2], axis=0)
  )


@pytest.mark.parametrize('parallel', (False, True))
def test_ties_go_to_the_first_and_non_finite_energies_lose(parallel):
  tie = run(Restarts(3, scale=0.0, parallel=parallel))
  np.testing.assert_array_equal(tie.winner, np.zeros(B))
  inputs = make_inputs()
  bad = inputs._replace(
    initial_set=inputs.initial_set.at[0].set(jnp.nan).at[1].set(jnp.inf)
  )
  alone = Restarts(3, around_initial_set=False, parallel=parallel)
  energy = energy_lib.squared_distance(_encode)
  found = jax.jit(
    lambda inputs: decode_lib.decode(energy, inputs, restarts=alone, key=KEY)
  )(bad)
  assert np.all(np.isfinite(found.set))
  assert np.all(found.winner[:2] > 0)

  def without_bound(inputs, y):
    """Minus infinity near the initial set, and so of the first start."""
    far = jnp.max(jnp.abs(y - inputs.initial_set), axis=(1, 2)) > 0.1
    return jnp.where(far, energy(inputs, y), -jnp.inf)

  found = decode_lib.decode(
    without_bound,
    inputs,
    iterations=0,
    restarts=Restarts(3, scale=1.0, parallel=parallel),
    key=KEY,
  )
  assert np.all(found.start_energies[0] == -np.inf)
  np.testing.assert_array_equal(
    found.winner, 1 + np.argmin(found.start_energies[1:], axis=0)
  )


@pytest.mark.parametrize('parallel', (False, True))
@pytest.mark.parametrize('scale', (np.float64(0.5), np.float32(0.5)))
def test_numbers_of_numpy_do_not_change_the_type(scale, parallel):
  inputs = jax.tree.map(lambda a: a.astype(jnp.bfloat16), make_inputs())
  restarts = Restarts(np.int64(2), scale, parallel=np.bool_(parallel))
  assert restarts == Restarts(2, 0.5, parallel=parallel)
  assert run(restarts, inputs).set.dtype == jnp.bfloat16
  # Options of modules and of compiled functions have a hash.
  assert hash(Restarts(jnp.int32(2), jnp.float32(0.5))) == hash(
    Restarts(2, 0.5)
  )


@pytest.mark.parametrize(
  'gradient',
  (
    gradients.JacobianFree(),
    gradients.Dense(),
    gradients.Neumann(3, scale=0.5),
    gradients.Unrolled(),
  ),
)
@pytest.mark.parametrize('parallel', (False, True))
def test_the_derivative_is_that_of_a_decode_from_the_winners_start(
  gradient, parallel
):
  with jax.enable_x64(True):
    inputs = make_inputs(np.float64)
    restarts = Restarts(3, scale=0.5, parallel=parallel)
    found = run(restarts, inputs, gradient=gradient)
    starts = [inputs.initial_set]
    for k in (1, 2):
      noise = jax.random.normal(
        jax.random.fold_in(KEY, k), (B, N, D), np.float64
      )
      starts.append(inputs.initial_set + 0.5 * noise)
    offsets = jnp.stack(starts)[found.winner, jnp.arange(B)]
    offsets = offsets - inputs.initial_set

    def pulled(inputs, y):
      """The same energy for a decode whose initial set is the start."""
      centre = inputs.initial_set - inputs.params['offsets']
      pull = jnp.mean(jnp.square(y - centre), axis=(-2, -1))
      return energy_lib.squared_distance(_encode)(inputs, y) + 0.1 * 0.5 * pull

    weight = jnp.arange(N * D, dtype=np.float64).reshape(1, N, D)

    def winners(inputs):
      out = decode_lib.decode(
        ENERGY,
        inputs,
        iterations=5,
        gradient=gradient,
        restarts=restarts,
        key=KEY,
      )
      return jnp.sum(weight * out.set)

    def plain(inputs):
      moved = inputs._replace(
        initial_set=inputs.initial_set + offsets,
        params={**inputs.params, 'offsets': offsets},
      )
      out = decode_lib.decode(pulled, moved, iterations=5, gradient=gradient)
      return jnp.sum(weight * out.set)

    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10),
      jax.jit(jax.grad(winners))(inputs),
      jax.jit(jax.grad(plain))(inputs),
    )


def make_decoder(**options):
  return idspn_jax.SetDecoder(
    idspn_jax.SetEncoder(16, Z), N, D, iterations=5, **options
  )


@pytest.mark.parametrize('kind', ('learned', 'normal', 'zeros'))
def test_module_takes_restarts_as_attribute_and_as_option(kind):
  z = make_inputs().z
  restarts = Restarts(4)
  module = make_decoder(initial_set=kind, regularizer=0.1)
  rngs = {'params': jax.random.key(0), 'initial_set': KEY}
  variables = module.init(rngs, z)
  noise = {'initial_set': jax.random.key(1)}

  def apply(module, **options):
    return module.apply(variables, z, method='solve', rngs=noise, **options)

  one, several = apply(module), apply(module, restarts=restarts)
  own = apply(module.clone(restarts=restarts))
  np.testing.assert_array_equal(own.set, several.set)
  np.testing.assert_allclose(
    jnp.where((own.winner == 0)[:, None, None], own.set, one.set),
    one.set,
    rtol=1e-5,
    atol=1e-6,
  )
  assert np.any(own.winner > 0)
  assert np.all(
    own.start_energies[own.winner, jnp.arange(B)] <= own.start_energies[0]
  )
  called = module.apply(variables, z, restarts=restarts, rngs=noise)
  np.testing.assert_array_equal(called, several.set)


@pytest.mark.parametrize('kind', ('learned', 'normal', 'zeros'))
def test_one_key_initializes_a_module_with_restarts(kind):
  z = make_inputs().z
  module = make_decoder(initial_set=kind, regularizer=0.1)
  several = module.clone(restarts=Restarts(3))
  jax.tree.map(
    np.testing.assert_array_equal,
    several.init(jax.random.key(0), z),
    module.init(jax.random.key(0), z),
  )


def test_seeds_in_one_program_get_their_own_starts():
  z = make_inputs().z
  module = make_decoder(initial_set='learned', regularizer=0.1)
  variables = module.init(jax.random.key(0), z)

  def gradient(key):
    def loss(variables):
      options = {'restarts': Restarts(3), 'rngs': {'initial_set': key}}
      return jnp.sum(module.apply(variables, z, **options) ** 2)

    return jax.grad(loss)(variables)

  keys = jax.random.split(KEY, 2)
  both = jax.jit(jax.vmap(gradient))(keys)
  for i, key in enumerate(keys):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5),  # noqa: B023
      both,
      jax.jit(gradient)(key),
    )


def test_what_is_wrong_is_named():
  z = make_inputs().z
  module = make_decoder(initial_set='zeros')
  variables = module.init(jax.random.key(0), z)
  with pytest.raises(ValueError, match='rngs={"initial_set": key}'):
    module.apply(variables, z, restarts=Restarts(2))
  with pytest.raises(ValueError, match='restarts must be a Restarts'):
    module.apply(variables, z, restarts=2, rngs={'initial_set': KEY})
  with pytest.raises(ValueError, match='starts'):
    Restarts(0)
  with pytest.raises(ValueError, match='scale'):
    Restarts(2, scale=-1.0)
  with pytest.raises(ValueError, match='parallel'):
    Restarts(2, parallel='yes')


def test_memory_does_not_grow_with_the_starts():
  z = jnp.zeros((32, 64))
  module = idspn_jax.SetDecoder(
    idspn_jax.SetEncoder(64, 64), 8, 4, initial_set='zeros', regularizer=0.1
  )
  variables = module.init(jax.random.key(0), z)

  def peak(restarts):
    def loss(variables, z):
      options = {'restarts': restarts, 'rngs': {'initial_set': KEY}}
      return jnp.sum(module.apply(variables, z, **options) ** 2)

    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(variables, z).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  one = peak(None)
  assert one < peak(Restarts(2)) <= 1.01 * one
  assert peak(Restarts(8)) <= 1.01 * one


@pytest.mark.parametrize('placement', ('automatic', 'explicit', 'shard_map'))
def test_starts_do_not_depend_on_the_devices(placement):
  printed = on_devices.run(__file__, placement)
  assert printed.split() == ['same']


def _main(placement):
  kinds = jax.sharding.AxisType
  kind = kinds.Explicit if placement == 'explicit' else kinds.Auto
  mesh = jax.make_mesh((4,), ('data',), axis_types=(kind,))
  spec = jax.sharding.PartitionSpec
  z = jnp.asarray(np.random.default_rng(0).normal(size=(8, Z)), jnp.float32)
  module = make_decoder(
    initial_set='normal', regularizer=0.1, restarts=Restarts(4)
  )
  rngs = {'params': jax.random.key(0), 'initial_set': KEY}
  variables = module.init(rngs, z)
  axis = 'data' if placement == 'shard_map' else None

  def value_and_gradients(variables, z):
    def loss(variables, z):
      out = module.clone(axis_name=axis).apply(
        variables, z, method='solve', rngs={'initial_set': KEY}
      )
      return jnp.sum(out.set**2), (out.set, out.winner)

    return jax.grad(loss, (0, 1), has_aux=True)(variables, z)

  expected = jax.jit(value_and_gradients)(variables, z)
  assert np.any(expected[1][1] > 0)
  rows = jax.NamedSharding(mesh, spec('data'))
  placed = jax.device_put(variables, jax.NamedSharding(mesh, spec()))
  function = value_and_gradients
  if placement == 'shard_map':
    function = jax.shard_map(
      function,
      mesh=mesh,
      in_specs=(spec(), spec('data')),
      out_specs=((spec(), spec('data')), spec('data')),
    )
  found = jax.jit(function)(placed, jax.device_put(z, rows))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    jax.device_get(found),
    jax.device_get(expected),
  )
  print('same')


if __name__ == '__main__':
  _main(sys.argv[1])
