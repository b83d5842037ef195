"""Half-precision inputs, computed in float32."""

import jax
import jax.numpy as jnp


def _is_half(dtype):
  return jnp.issubdtype(dtype, jnp.floating) and jnp.dtype(dtype).itemsize < 4


def at_least_float32(x: jax.Array) -> jax.Array:
  """Returns bfloat16 and float16 arrays as float32, others as they are.

  Sums, differences of near numbers and loops that run to a tolerance lose too
  much in 8 or 11 bits of precision.
  """
  return x.astype(jnp.float32) if _is_half(x.dtype) else x


def as_inputs(x: jax.Array, *inputs: jax.Array) -> jax.Array:
  """Rounds a result to the inputs' dtype if that is a half precision."""
  dtype = jnp.result_type(*inputs)
  return x.astype(dtype) if _is_half(dtype) else x
