"""Clipping of gradients, set by set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.ops import clip


def test_by_hand():
  # Norms 5 and 0.5; only the first is above 1.
  g = jnp.array([[[3.0, 0.0], [0.0, 4.0]], [[0.3, 0.4], [0.0, 0.0]]])
  np.testing.assert_allclose(clip.set_norm(g), [5.0, 0.5])
  clipped = clip.clip_per_set(g, 1.0)
  np.testing.assert_allclose(clipped[0], g[0] / (5.0 + 1e-6), rtol=1e-6)
  np.testing.assert_array_equal(clipped[1], g[1])


def test_other_sets_do_not_matter(rng):
  g = jnp.asarray(rng.normal(size=(3, 4, 2)).astype(np.float32))
  louder = g.at[1].mul(1e6).at[2].set(jnp.nan)
  np.testing.assert_array_equal(
    clip.clip_per_set(g, 0.5)[0], clip.clip_per_set(louder, 0.5)[0]
  )


def test_zero_gradient_has_a_finite_derivative(debug_nans):
  g = jnp.zeros((2, 3, 2))
  np.testing.assert_array_equal(clip.clip_per_set(g, 1.0), 0.0)
  derivative = jax.grad(lambda g: jnp.sum(clip.clip_per_set(g, 1.0)))(g)
  np.testing.assert_array_equal(derivative, 1.0)


def test_norm_of_zeros_has_derivatives_zero(debug_nans):
  g = jnp.zeros((2, 3, 2)).at[1, 0, 0].set(2.0)

  def total(g):
    return jnp.sum(clip.set_norm(g))

  first = jax.grad(total)(g)
  np.testing.assert_array_equal(first, g / 2.0)
  direction = jnp.ones_like(g)
  _, second = jax.jvp(jax.grad(total), (g,), (direction,))
  np.testing.assert_array_equal(second[0], 0.0)
  np.testing.assert_allclose(second[1].ravel(), [0.0] + [0.5] * 5)


@pytest.mark.parametrize('max_norm', (0.0, -1.0, float('nan')))
def test_norms_that_are_not_positive_are_refused(max_norm):
  with pytest.raises(ValueError, match='grad_clip needs a positive norm'):
    clip.clip_per_set(jnp.ones((1, 2, 2)), max_norm)
