"""Energies by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.solvers import energy as energy_lib


def encode(params, y):
  """A sum over the elements, weighted feature by feature."""
  return jnp.sum(y, axis=-2) * params


def test_squared_distance_by_hand():
  inputs = energy_lib.Inputs(
    params=jnp.array([[1.0, 2.0]]),
    z=jnp.array([[0.0, 1.0], [3.0, 12.0]]),
    initial_set=jnp.zeros((2, 2, 2)),
  )
  y = jnp.array([[[1.0, 1.0], [1.0, 0.5]], [[0.0, 2.0], [3.0, 4.0]]])
  # g = [2, 3] and [3, 12]: distances [2, 2] and [0, 0].
  energy = energy_lib.squared_distance(encode)
  np.testing.assert_allclose(energy(inputs, y), [0.5 * (4 + 4) / 2, 0.0])
  # d/dY_nd = (g - z)_d / Z · params_d.
  gradient = energy_lib.energy_gradient(energy)(inputs, y)
  np.testing.assert_allclose(gradient[0], [[1.0, 2.0], [1.0, 2.0]])
  np.testing.assert_array_equal(gradient[1], 0.0)


def test_known_features_and_elements_are_appended():
  seen = []

  def spy(params, y):
    seen.append(y)
    return jnp.zeros((1, 1))

  inputs = energy_lib.Inputs(
    params=None,
    z=jnp.zeros((1, 1)),
    initial_set=None,
    known_features=jnp.array([[[7.0], [8.0]]]),
    known_elements=jnp.array([[[3.0, 4.0, 9.0]]]),
  )
  energy_lib.squared_distance(spy)(
    inputs, jnp.array([[[1.0, 2.0], [5.0, 6.0]]])
  )
  np.testing.assert_array_equal(seen[0], [[[1, 2, 7], [5, 6, 8], [3, 4, 9]]])


def test_regularizer_by_hand():
  inputs = energy_lib.Inputs(None, jnp.zeros((2, 1)), jnp.ones((2, 2, 3)))
  y = jnp.ones((2, 2, 3)).at[0].add(2.0)
  energy = energy_lib.regularized(lambda inputs, y: jnp.array([5.0, 7.0]), 0.1)
  np.testing.assert_allclose(
    energy(inputs, y), [5.0 + 0.1 * 0.5 * 4.0, 7.0], rtol=1e-6
  )


def test_regularizer_may_be_learned():
  inputs = energy_lib.Inputs(0.1, jnp.zeros((2, 1)), jnp.ones((2, 2, 3)))
  y = jnp.ones((2, 2, 3)).at[0].add(2.0)
  energy = energy_lib.regularized(
    lambda inputs, y: jnp.zeros(2), lambda inputs: inputs.params
  )
  g = jax.grad(lambda w: jnp.sum(energy(inputs._replace(params=w), y)))(0.1)
  np.testing.assert_allclose(g, 0.5 * 4.0, rtol=1e-6)


@pytest.mark.parametrize('weight', (-0.1, np.nan, np.inf, True))
def test_wrong_weights_are_refused(weight):
  with pytest.raises(ValueError, match='regularizer must not be negative'):
    energy_lib.regularized(lambda inputs, y: y, weight)


def test_energies_come_with_their_gradient_if_asked():
  energy = energy_lib.regularized(lambda inputs, y: jnp.zeros(1), 2.0)
  inputs = energy_lib.Inputs(None, jnp.zeros((1, 1)), jnp.zeros((1, 1, 2)))
  y = jnp.array([[[1.0, 3.0]]])
  g, energies = energy_lib.energy_gradient(energy, with_energy=True)(inputs, y)
  np.testing.assert_allclose(energies, [5.0])
  np.testing.assert_allclose(g, y)


def test_latent_vectors_of_another_size_are_refused():
  inputs = energy_lib.Inputs(jnp.ones((1, 2)), jnp.zeros((1, 3)), None)
  with pytest.raises(ValueError, match=r'returns shape \(1, 2\) but'):
    energy_lib.squared_distance(encode)(inputs, jnp.zeros((1, 4, 2)))


def test_gradient_is_that_of_each_set_alone(rng, x64):
  inputs = energy_lib.Inputs(
    jnp.ones((1, 2)),
    jnp.asarray(rng.normal(size=(3, 2))),
    jnp.zeros((3, 4, 2)),
  )
  y = jnp.asarray(rng.normal(size=(3, 4, 2)))
  energy = energy_lib.squared_distance(encode)
  together = energy_lib.energy_gradient(energy)(inputs, y)
  for b in range(3):
    one = jax.grad(
      lambda y, b=b: energy(inputs._replace(z=inputs.z[b : b + 1]), y[None])[0]
    )(y[b])
    np.testing.assert_allclose(together[b], one, rtol=1e-13)
