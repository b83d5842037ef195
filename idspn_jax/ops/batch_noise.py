"""Noise with one row per example, however a batch is divided."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def normal_rows(
  key: jax.Array,
  shape: Sequence[int],
  dtype: jnp.dtype,
  axis_name: str | None = None,
) -> jax.Array:
  """Standard normal noise for the rows of a batch.

  Inside `jax.pmap` every device holds some rows of a batch, and the same key.
  With the axis' name each device gets the rows that it would get if the batch
  were whole; outside of that axis, as in evaluation, the name is ignored.

  Args:
    key: a random key.
    shape: `(B, …)`, of this device's rows.
    dtype: of the noise.
    axis_name: the mapped axis over which the batch is divided, or None.

  Returns:
    Noise of that shape.
  """
  if axis_name is None:
    return jax.random.normal(key, shape, dtype)
  try:
    devices = jax.lax.axis_size(axis_name)
  except NameError:  # The axis is not mapped here.
    return jax.random.normal(key, shape, dtype)
  whole = jax.random.normal(key, (devices * shape[0], *shape[1:]), dtype)
  start = jax.lax.axis_index(axis_name) * shape[0]
  return jax.lax.dynamic_slice_in_dim(whole, start, shape[0])
