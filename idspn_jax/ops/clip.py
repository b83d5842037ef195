"""Clipping of inner gradients, set by set."""

import jax
import jax.numpy as jnp

from idspn_jax.ops import precision
from idspn_jax.ops import roots


def _norm(x, **kwargs):
  square = jnp.square(precision.at_least_float32(x))
  return roots.safe_sqrt(jnp.sum(square, axis=(-2, -1), **kwargs))


def set_norm(x: jax.Array) -> jax.Array:
  """Returns the L2 norm of every set, `(B, N, D)` to `(B,)`.

  Its derivatives at a set of zeros are zero. Half precisions are computed in
  float32 and the result is rounded to them.
  """
  return precision.as_inputs(_norm(x), x)


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
  norm = _norm(gradient, keepdims=True)
  factor = jnp.clip(max_norm / (norm + 1e-6), 0.0, 1.0)
  return precision.as_inputs(gradient * factor, gradient)
