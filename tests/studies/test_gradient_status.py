"""Which sets have an exact gradient, whatever their units and their start."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import idspn_jax as ij
from idspn_jax.modules import set_encoders
from idspn_jax.studies import gradient_problem
from idspn_jax.studies import gradient_status

SHAPE = (2, 2, 2)
SIZE = 4
C = np.random.default_rng(3).normal(size=SHAPE)
Z = np.random.default_rng(4).normal(size=(SHAPE[0], SIZE))


def compare(energy, z=Z, y=None, params=1.0, rate=0.5, **options):
  options = {'settings': [ij.Dense()], 'iterations': 3, **options}
  return ij.compare_gradients(
    energy,
    ij.Inputs(np.float64(params), z, np.ones(SHAPE) if y is None else y),
    lambda y: jnp.sum(C * y, axis=(-2, -1)),
    optimizer=ij.GradientDescent(rate, 0.0),
    **options,
  )


def status(found):
  """The one status that all sets have."""
  (name,) = {*found.reference.status}
  return str(name)


def quadratic(eigenvalues):
  """`½ Σ h (y - z)²`."""

  def energy(inputs, y):
    difference = y.reshape(len(y), -1) - inputs.z
    square = jnp.asarray(eigenvalues)[None] * jnp.square(difference)
    return 0.5 * inputs.params * jnp.sum(square, axis=-1)

  return energy


class TestIllConditioned:
  @pytest.mark.parametrize('condition', [1e4, 1e6])
  def test_modes_that_fall_back_give_no_numbers(self, condition):
    energy = quadratic(np.geomspace(1 / condition, 1.0, SIZE))
    # Along the weakest direction: every set's solution is as long as it gets.
    modes = [
      ij.Dense(),
      ij.ConjugateGradient(),
      ij.NormalConjugateGradient(),
      ij.GMRES(),
      ij.Dense(max_growth=1e12),
    ]
    c = np.zeros((SHAPE[0], SIZE))
    c[:, 0] = 1.0
    found = ij.compare_gradients(
      energy,
      ij.Inputs(np.float64(1.0), Z, np.ones(SHAPE)),
      lambda y: jnp.sum(c.reshape(SHAPE) * y, axis=(-2, -1)),
      settings=modes,
      iterations=3,
      optimizer=ij.GradientDescent(0.5, 0.0),
    )
    assert status(found) == 'exact'
    np.testing.assert_allclose(found.reference.gradient.z, c, rtol=1e-9)
    for row in found.rows[:-2]:
      assert row['fallbacks'] == row['sets'] == SHAPE[0]
      for part in (row['theta'], *row['parameters'].values()):
        assert {*part.values()} == {None}
      for part in row['z'].values():
        assert {*part.values()} == {None}
    last = found.rows[-2]
    assert last['setting'] == 'Dense(max_growth=1000000000000.0)'
    assert last['fallbacks'] == 0 and last['z']['error']['median'] < 1e-9
    lines = found.text().splitlines()
    assert lines[0].rstrip(' |').endswith('fallback')
    cells = [cell.strip() for cell in lines[2].strip('|').split('|')]
    assert cells[2:] == ['–'] * 6 + ['2']
    assert 'got the Jacobian-free gradient' in lines[-1]
    assert 'max_growth' in lines[-1]

  def test_not_converged_along_a_flat_direction(self):
    """A small gradient says little where the curvature is smaller still."""
    found = compare(quadratic(np.geomspace(1e-9, 1.0, SIZE)))
    assert status(found) == 'not converged'

  def test_degenerate(self):
    def quartic(inputs, y):
      return inputs.params * jnp.sum(y**4, axis=(-2, -1))

    assert status(compare(quartic, rate=0.05)) == 'not converged'


class TestKinks:
  def margins(self, inputs, y):
    return y.reshape(len(y), -1)

  def test_a_minimum_on_a_kink_without_a_jump(self):
    """The Hessian jumps where the gradient is zero: there is no derivative."""

    def energy(inputs, y):
      square = jnp.square(y) + jnp.square(jax.nn.relu(y))
      return 0.5 * inputs.params * jnp.sum(square, axis=(-2, -1))

    found = compare(energy, margins=self.margins)
    assert status(found) == 'at a kink'
    assert np.all(found.reference.residual == 0)

  @pytest.mark.parametrize('moved', [0.0, 0.01])
  def test_equal_elements_of_a_sorting_encoder(
    self, variables_of, rng, x64, moved
  ):
    encoder = ij.SetEncoder(16, 16, activation='tanh')
    y = rng.normal(size=SHAPE)
    y[:, 1] = y[:, 0]
    variables = jax.tree.map(jnp.float64, variables_of(encoder, y))
    found = ij.compare_gradients(
      ij.squared_distance(set_encoders.encode_with(encoder)),
      ij.Inputs(
        variables['params'],
        encoder.apply(variables, jnp.asarray(y)),
        y + moved * rng.normal(size=SHAPE),
      ),
      lambda y: jnp.sum(C * y, axis=(-2, -1)),
      margins=gradient_problem.margins(encoder),
      settings=[ij.Dense()],
      iterations=3,
    )
    assert status(found) == 'at a kink'

  @pytest.mark.parametrize('unit', [1e-8, 1.0, 1e9])
  def test_units_make_no_difference(self, unit):
    def energy(inputs, y):
      smooth = 0.5 * jnp.square(y.reshape(len(y), -1) - inputs.z)
      held = 2 * unit * jnp.abs(y[:, 0, 0])
      return inputs.params * jnp.sum(smooth, axis=-1) + held

    found = compare(
      energy, unit * np.ones_like(Z), 3 * unit * C, margins=self.margins
    )
    assert status(found) == 'at a kink'
    # Beside the kink.
    z = unit * 5 * np.ones_like(Z)
    found = compare(energy, z, 3 * unit * C, margins=self.margins)
    assert status(found) == 'exact'


class TestStart:
  @pytest.mark.parametrize('scale', [1e-12, 1.0, 1e12])
  @pytest.mark.parametrize('away', [0.0, 1e-17, 1e-9])
  def test_at_the_optimum(self, away, scale):
    """As converged from there as from anywhere, whatever the energy's unit."""

    def energy(inputs, y):
      y = y.reshape(len(y), -1)
      return inputs.params * jnp.sum(jnp.cosh(y / 3 - inputs.z / 7), axis=-1)

    y = (3 * Z / 7).reshape(SHAPE) + away
    found = compare(energy, y=y, params=scale, rate=1.0 / scale)
    assert status(found) == 'exact'

  @pytest.mark.parametrize('scale', [1e-12, 1e12])
  def test_of_sets_of_zeros(self, scale):
    """Rounding errors of the energy are larger than such a set."""
    # There is no number between these, at which the gradient would be zero.
    low = np.exp(0.3)
    high = np.nextafter(low, np.inf)

    def energy(inputs, y):
      y = jnp.exp(y + 0.3)
      square = jnp.square(y - low) + jnp.square(y - high)
      return 0.5 * inputs.params * jnp.sum(square, axis=(-2, -1))

    y = np.zeros(SHAPE)
    found = compare(energy, y=y, params=scale, rate=0.25 / scale)
    assert np.all(found.reference.residual > 0)
    assert status(found) == 'exact'

  def test_of_one_set_by_hand(self):
    def judged(**changes):
      values = {
        'residual': 0.0,
        'newton': 0.0,
        'size': 10.0,
        'kink': 1.0,
        'eigenvalues': [0.1, 1.0],
        'norm': 1.0,
      }
      values.update(changes)
      arrays = {name: np.array([value]) for name, value in values.items()}
      rank, (found,) = gradient_status.judge(**arrays)
      return int(rank[0]), str(found)

    assert judged() == (2, 'exact')
    assert judged(residual=2e-8) == (2, 'not converged')
    assert judged(residual=2e-8, kink=9e-5) == (2, 'at a kink')
    assert judged(kink=9e-5) == (2, 'exact')
    assert judged(kink=9e-9) == (2, 'at a kink')
    assert judged(kink=np.nan) == (2, 'exact')
    assert judged(newton=2e-5) == (2, 'not converged')
    assert judged(eigenvalues=[1e-11, 1.0]) == (1, 'singular')
    assert judged(eigenvalues=[-0.1, 1.0]) == (2, 'indefinite')
    assert judged(norm=0.0) == (2, 'no gradient')
    assert judged(norm=np.inf) == (2, 'not finite')
    assert judged(residual=0.0, size=0.0) == (2, 'exact')
