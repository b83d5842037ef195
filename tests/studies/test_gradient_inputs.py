"""What `compare_gradients` is given: what works, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import idspn_jax as ij
from idspn_jax.studies import gradient_settings

SHAPE = (3, 2, 2)
RNG = np.random.default_rng(6)
Z, Y, C = (RNG.normal(size=shape) for shape in ((3, 4), SHAPE, SHAPE))
MODES = (ij.JacobianFree(), ij.Dense(), ij.Unrolled())


def energy_of(factor):
  """`½ a yᵀ y - zᵀ y` with `a = factor(params)`."""

  def energy(inputs, y):
    flat = y.reshape(len(y), -1)
    bent = 0.5 * factor(inputs.params) * jnp.sum(jnp.square(flat), axis=-1)
    return bent - jnp.sum(flat * inputs.z, axis=-1)

  return energy


def loss_of(y):
  return jnp.sum(C * y, axis=(-2, -1))


def compare(energy=None, params=1.0, z=Z, y=Y, loss=loss_of, **options):
  options = {'iterations': 3, 'settings': MODES, **options}
  return ij.compare_gradients(
    energy or energy_of(lambda a: a),
    ij.Inputs(params, z, y),
    loss,
    optimizer=ij.GradientDescent(0.5, 0.0),
    **options,
  )


WRONG = {
  'a loss of all sets': (
    {'loss': lambda y: jnp.sum(C * y)},
    r'loss must return one real number per set, shape \(3,\); got shape \(\)',
  ),
  'a loss of every element': (
    {'loss': lambda y: jnp.sum(C * y, axis=-1)},
    r'got shape \(3, 2\) of float64. Sum or average',
  ),
  'a loss of integers': (
    {'loss': lambda y: jnp.ones(3, int)},
    'of int64',
  ),
  'negative iterations': ({'iterations': -1}, 'iterations must .* got -1'),
  'half an iteration': ({'iterations': 2.5}, 'iterations must .* got 2.5'),
  'no z': ({'z': None}, r'inputs.z must have shape \(B, Z\); got None'),
  'z of one axis': ({'z': Z[0]}, r'inputs.z must .* got \(4,\)'),
  'sets of two axes': (
    {'y': Y.reshape(3, 4)},
    r'inputs.initial_set must have shape \(B, N, D\); got \(3, 4\)',
  ),
  'no sets': (
    {'z': np.ones((0, 4)), 'y': np.ones((0, 2, 2))},
    r'inputs.initial_set of shape \(0, 2, 2\) is empty',
  ),
  'margins of three axes': (
    {'margins': lambda inputs, y: y},
    r'margins must .* shape \(3, K\); got shape \(3, 2, 2\)',
  ),
  'margins of one axis': (
    {'margins': lambda inputs, y: y[:, 0, 0]},
    r'margins must .* shape \(3, K\); got shape \(3,\)',
  ),
  'names of modes': ({'settings': ['dense']}, "idspn_jax.Dense.*got 'dense'"),
}


@pytest.mark.parametrize('wrong', WRONG)
def test_refused(wrong):
  options, message = WRONG[wrong]
  with pytest.raises(ValueError, match=message):
    compare(**options)


def test_modes_are_settings():
  modes = (ij.Dense(ridge=0.5), ij.Neumann(3, scale=0.5), ij.Unrolled(True))
  found = [gradient_settings.setting_of(mode) for mode in modes]
  assert [setting.build() for setting in found] == [*modes]
  assert [setting.label for setting in found] == [
    'Dense(ridge=0.5)',
    'Neumann(terms=3, scale=0.5)',
    'Unrolled(checkpoint=True)',
  ]
  for setting in gradient_settings.SETTINGS:
    assert gradient_settings.setting_of(setting) is setting


def test_parameters_without_a_derivative():
  """Integers, booleans and keys are used, and have no gradient."""
  params = {
    'a': 0.5,
    'times': 2,
    'mask': np.array([True, False]),
    'key': jax.random.key(0),
  }
  found = compare(energy_of(lambda p: p['a'] * p['times']), params)
  plain = compare()
  assert found.counts['exact'] == 3
  for row, other in zip(found.rows, plain.rows, strict=True):
    assert row['parameters'].keys() == {'a', 'initial_set'}
    for name, value in row['theta'].items():
      assert value == pytest.approx(other['theta'][name], abs=1e-9)


@pytest.mark.parametrize('params', [None, {}, 1])
def test_without_parameters(params):
  found = compare(energy_of(lambda _: 1.0), params)
  assert found.counts['exact'] == 3
  for row in found.rows:
    assert row['z']['cosine']['median'] == pytest.approx(1.0)
    assert {*row['theta'].values()} == {None}


@pytest.mark.parametrize('place', ['z', 'initial_set', 'loss', 'unbounded'])
def test_a_set_that_is_not_finite_leaves_the_others_alone(place):
  z, y, c = Z.copy(), Y.copy(), C.copy()
  if place == 'unbounded':
    z[1] = 1e3
  else:
    {'z': z, 'initial_set': y, 'loss': c}[place][1] = np.nan

  def energy(inputs, y):
    sign = jnp.where(inputs.z[:, 0] == 1e3, -1e200, 1.0)
    return sign * energy_of(lambda a: a)(inputs, y)

  def loss(y):
    # Of two sets or three.
    rows = c if len(y) == 3 else np.delete(c, 1, axis=0)
    return jnp.sum(rows * y, axis=(-2, -1))

  found = compare(energy, z=z, y=y, loss=loss)
  assert found.counts['exact'] == 2 and found.counts['not finite'] == 1
  rest = compare(
    z=np.delete(z, 1, axis=0), y=np.delete(y, 1, axis=0), loss=loss
  )
  assert rest.counts['exact'] == 2
  np.testing.assert_allclose(
    found.reference.gradient.params, rest.reference.gradient.params
  )
  for row, other in zip(found.rows, rest.rows, strict=True):
    assert row['theta']['norm_ratio'] is not None
    for name, value in row['theta'].items():
      assert value == pytest.approx(other['theta'][name], abs=1e-9)
