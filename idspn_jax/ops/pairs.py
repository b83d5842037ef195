"""All ordered pairs of elements, the input of relation networks."""

import jax
import jax.numpy as jnp


def all_pairs(x: jax.Array) -> jax.Array:
  """Expands each set into the set of all ordered pairs of its elements.

  Args:
    x: sets, `(..., N, D)`.

  Returns:
    Pairs, `(..., N², 2 D)`; row `i·N + j` is `[x_i, x_j]`.
  """
  *batch, n, d = x.shape
  first = jnp.broadcast_to(x[..., :, None, :], (*batch, n, n, d))
  second = jnp.broadcast_to(x[..., None, :, :], (*batch, n, n, d))
  return jnp.concatenate([first, second], -1).reshape(*batch, n * n, 2 * d)


def pair_mask(mask: jax.Array) -> jax.Array:
  """Marks the pairs of which both elements exist, `(..., N)` to `(..., N²)`."""
  mask = mask.astype(bool)
  both = mask[..., :, None] & mask[..., None, :]
  return both.reshape(*mask.shape[:-1], mask.shape[-1] ** 2)
