"""Square roots whose derivatives stay finite at zero."""

import jax
import jax.numpy as jnp


def safe_sqrt(x: jax.Array) -> jax.Array:
  """The square root, with derivatives of zero at `x = 0`, of every order.

  So the norm of a vector has the derivative zero at the zero vector, which is
  one of its subgradients, in place of `0 · ∞`.

  Args:
    x: not negative; NaN stays NaN.

  Returns:
    Array of the same shape.
  """
  positive = x != 0
  root = jnp.sqrt(jnp.where(positive, x, jnp.ones_like(x)))
  return jnp.where(positive, root, jnp.zeros_like(x))
