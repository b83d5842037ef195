"""Clipping of inner gradients, set by set."""

import jax
import jax.numpy as jnp


def set_norm(x: jax.Array) -> jax.Array:
  """Returns the L2 norm of every set, `(B, N, D)` to `(B,)`."""
  return jnp.sqrt(jnp.sum(jnp.square(x), axis=(-2, -1)))


def clip_per_set(gradient: jax.Array, max_norm: float) -> jax.Array:
  """Scales each set's gradient down to at most `max_norm`.

  The factor is `min(max_norm / (norm + 1e-6), 1)` with the norm over the whole
  `N × D` set, as the official code has it; other sets of the batch never
  matter.

  Args:
    gradient: `(B, N, D)`.
    max_norm: largest L2 norm to let through, positive.

  Returns:
    Array of the same shape.

  Raises:
    ValueError: if `max_norm` is not positive.
  """
  if not max_norm > 0:
    raise ValueError(f'grad_clip needs a positive norm; got {max_norm}.')
  square = jnp.sum(jnp.square(gradient), axis=(-2, -1), keepdims=True)
  # A safe square root: the derivative at a zero gradient is 0, not NaN.
  positive = square > 0
  norm = jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)
  return gradient * jnp.clip(max_norm / (norm + 1e-6), 0.0, 1.0)
