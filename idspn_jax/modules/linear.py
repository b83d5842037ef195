"""Linear layers with PyTorch's default initialisation.

PyTorch draws weight *and bias* from `U(±1/√fan_in)`; Flax draws LeCun-normal
weights and zero biases. The paper's numbers need the former.
"""

from collections.abc import Callable
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

LINEAR_INITS = ('torch', 'flax')


def torch_uniform(fan_in: int) -> Callable[..., jax.Array]:
  """The initialiser `U(±1/√fan_in)`."""
  bound = 1.0 / math.sqrt(max(fan_in, 1))

  def uniform(key, shape, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, -bound, bound)

  return uniform


def linear(
  features: int,
  fan_in: int,
  init: str = 'torch',
  name: str | None = None,
  dtype: Any = None,
) -> nn.Dense:
  """Builds a dense layer.

  Args:
    features: output size.
    fan_in: input size, which sets the scale of PyTorch's bias.
    init: 'torch' or 'flax'.
    name: the layer's name within its parent.
    dtype: type to compute in and to return; None for that of the input and
      the parameters, which stay float32.

  Returns:
    A `flax.linen.Dense`.

  Raises:
    ValueError: if `init` is unknown.
  """
  if init == 'flax':
    return nn.Dense(features, dtype=dtype, name=name)
  if init != 'torch':
    raise ValueError(f'linear_init is {init!r}; choose one of {LINEAR_INITS}.')
  uniform = torch_uniform(fan_in)
  return nn.Dense(
    features,
    dtype=dtype,
    kernel_init=uniform,
    bias_init=uniform,
    name=name,
  )
