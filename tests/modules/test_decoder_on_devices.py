"""Decoding on several devices equals decoding on one, derivatives included."""

import contextlib
import sys

import pytest

from tests import on_devices

DEVICES = 4


@pytest.mark.parametrize(
  'placement',
  (
    'shard_map',
    pytest.param('explicit', marks=pytest.mark.deep),
    pytest.param('explicit_in_context', marks=pytest.mark.deep),
  ),
)
def test_results_and_derivatives_do_not_depend_on_the_devices(placement):
  printed = on_devices.run(
    __file__, placement, flags=on_devices.UNOPTIMIZED, devices=DEVICES
  )
  assert printed.splitlines() == [*_CASES, 'done']


# Modes that solve a system; their cases sort, and report what fell back.
_MODES = (
  'ConjugateGradient',
  'NormalConjugateGradient',
  'RegularizedConjugateGradient',
  'GMRES',
  'Dense',
  'Neumann',
)
_CASES = (
  'learned',
  'unrolled',
  'until_converged',
  'adam',
  'line_search',
  'projected_gradient',
  'lbfgs',
  *_MODES,
  'sets of 70',
)


def _settings(case, arrays):
  """The decoder's options, and those of its call, that are split by set."""
  import numpy as np
  import optax

  import idspn_jax
  from idspn_jax.ops import simplex
  from idspn_jax.solvers import gradients

  given = {'initial_set': arrays['initial_set']}
  if case in _MODES:
    return {
      'gradient': getattr(gradients, case)(),
      'initial_set': 'learned',
      'regularizer': 1.0,
    }, {'fallbacks': np.zeros(len(arrays['z']), np.float32)}
  if case == 'sets of 70':
    return {'initial_set': 'learned', 'regularizer': 1.0, 'set_size': 70}, {}
  if case == 'learned':
    return {'initial_set': 'learned', 'regularizer': 0.1}, {}
  if case == 'unrolled':
    known = {'known_features': arrays['known_features']}
    return {
      'gradient': gradients.Unrolled(),
      'initial_set': 'learned',
      'projection': simplex.project_simplex,
    }, known
  if case == 'until_converged':
    known = {'known_elements': arrays['known_elements']}
    return {'initial_set': 'zeros', 'tolerance': 1e-2, 'grad_clip': 0.1}, known
  if case == 'adam':
    optimizer = idspn_jax.OptaxOptimizer(optax.adam(0.1))
    return {'initial_set': 'zeros', 'optimizer': optimizer}, {}
  if case == 'line_search':
    optimizer = idspn_jax.BacktrackingLineSearch()
    return {'initial_set': 'given', 'optimizer': optimizer}, given
  if case == 'projected_gradient':
    return {
      'initial_set': 'zeros',
      'optimizer': idspn_jax.ProjectedGradient(),
      'projection': simplex.project_simplex,
    }, {}
  # From zeros, rounding decides which step a line search of L-BFGS accepts.
  optimizer = idspn_jax.OptaxOptimizer(optax.lbfgs())
  return {'initial_set': 'given', 'optimizer': optimizer}, given


def _arrays():
  import numpy as np

  rng = np.random.default_rng(0)
  shapes = {
    'z': (8, 6),
    'initial_set': (8, 3, 2),
    'known_features': (8, 3, 1),
    'known_elements': (8, 1, 2),
    'weight': (1, 70, 2),
  }
  return {
    name: rng.normal(size=shape).astype(np.float32)
    for name, shape in shapes.items()
  }


def _main(placement):
  import warnings

  # jaxopt says that it is not maintained.
  warnings.filterwarnings('ignore', category=DeprecationWarning)

  import jax
  import jax.numpy as jnp
  import numpy as np

  import idspn_jax

  arrays = _arrays()
  weight = arrays['weight']
  kind = 'Auto' if placement == 'shard_map' else 'Explicit'
  kind = getattr(jax.sharding.AxisType, kind)
  mesh = jax.make_mesh((DEVICES,), ('data',), axis_types=(kind,))
  spec = jax.sharding.PartitionSpec

  def check(case):
    options, known = _settings(case, arrays)
    sorts = case in (*_MODES, 'sets of 70')
    encoder = idspn_jax.SetEncoder(8, 6, pool='fs' if sorts else 'mean')
    options = {'set_size': 3, 'set_dim': 2, 'iterations': 3, **options}
    module = idspn_jax.SetDecoder(encoder, **options)
    z = jnp.asarray(arrays['z'])
    key = jax.random.key(0)
    variables = jax.jit(lambda z, known: module.init(key, z, **known))(z, known)

    def value_and_gradients(variables, z, known):
      def loss(variables, z, known):
        out = module.apply(variables, z, method='solve', **known)
        kept = (out.set, out.steps, out.last_energy, out.last_residual)
        return jnp.sum(weight[:, : out.set.shape[1]] * out.set**2), kept

      return jax.grad(loss, (0, 1, 2), has_aux=True)(variables, z, known)

    expected = jax.jit(value_and_gradients)(variables, z, known)
    if placement != 'shard_map':
      whole = jax.NamedSharding(mesh, spec())
      split = jax.NamedSharding(mesh, spec('data'))
      variables = jax.device_put(variables, whole)
      z, known = jax.device_put((z, known), split)
      inside = placement == 'explicit_in_context'
      with jax.set_mesh(mesh) if inside else contextlib.nullcontext():
        found = jax.jit(value_and_gradients)(variables, z, known)
    else:
      mapped = jax.shard_map(
        value_and_gradients,
        mesh=mesh,
        in_specs=(spec(), spec('data'), spec('data')),
        out_specs=((spec(), spec('data'), spec('data')), spec('data')),
      )
      found = jax.jit(mapped)(variables, z, known)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(
        np.asarray(a), np.asarray(b), rtol=1e-5, atol=1e-6
      ),
      found,
      expected,
    )

  for case in _CASES:
    if case == 'lbfgs' and placement == 'shard_map':
      # Loops of optax make arrays that do not vary; refused by name.
      try:
        check(case)
      except ValueError as e:
        assert 'use BacktrackingLineSearch' in str(e)
      else:
        raise AssertionError('lbfgs was not refused.')
    else:
      check(case)
    print(case)
  print('done')


if __name__ == '__main__':
  _main(sys.argv[1])
