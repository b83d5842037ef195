"""Matching within classes against a penalty on mixed pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.losses import class_matching
from idspn_jax.losses import set_losses


def _problem(key, batch=3, size=6, classes=3):
  keys = jax.random.split(key, 3)
  labels = jax.random.randint(keys[0], (batch, size), 0, classes)
  prediction = jax.random.normal(keys[1], (batch, size, size))
  numbers = jax.random.randint(keys[2], (batch, size), 0, size)
  return prediction, jax.nn.one_hot(numbers, size), labels


@pytest.mark.parametrize('cost', ['l2', 'cross_entropy'])
@pytest.mark.parametrize('method', ['auto', 'optax'])
def test_equals_a_penalty_on_mixed_pairs(cost, method):
  """The official code adds 1000 wherever two classes meet."""
  prediction, target, labels = _problem(jax.random.key(0))
  loss, matching = class_matching.class_matched_loss(
    prediction, target, labels, cost, method
  )
  classes = jax.nn.one_hot(labels, 3)

  def penalised(a, b):
    plain = class_matching.COSTS[cost](a, b)
    return plain + 1000.0 * (1.0 - classes @ jnp.swapaxes(classes, -1, -2))

  expected = set_losses.hungarian_loss(prediction, target, cost=penalised)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  met = jnp.take_along_axis(labels, matching.columns, axis=-1)
  np.testing.assert_array_equal(met, labels)


def test_gradient_reaches_matched_elements_only():
  prediction, target, labels = _problem(jax.random.key(1))

  def loss(prediction):
    return jnp.sum(
      class_matching.class_matched_loss(prediction, target, labels)[0]
    )

  slope = jax.grad(loss)(prediction)
  _, matching = class_matching.class_matched_loss(prediction, target, labels)
  offset = prediction - jnp.take_along_axis(
    target, matching.columns[..., None], axis=1
  )
  unit = offset / jnp.linalg.norm(offset, axis=-1, keepdims=True)
  np.testing.assert_allclose(slope, unit / 6, atol=1e-6)


def test_a_nan_poisons_its_own_set_only():
  prediction, target, labels = _problem(jax.random.key(2))
  prediction = prediction.at[1, 2, 0].set(jnp.nan)
  loss, _ = class_matching.class_matched_loss(prediction, target, labels)
  np.testing.assert_array_equal(np.isnan(loss), [False, True, False])


def test_unknown_costs_are_refused():
  prediction, target, labels = _problem(jax.random.key(3))
  with pytest.raises(ValueError, match="cost is 'mse'"):
    class_matching.class_matched_loss(prediction, target, labels, 'mse')
