"""A bidirectional LSTM over the elements, the list baseline of Section 4.1."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from idspn_jax.modules import linear
from idspn_jax.solvers import option_checks


def _cell(hidden_dim, dtype, name):
  """An LSTM cell initialised like PyTorch's, whose two biases are one here."""
  uniform = linear.torch_uniform(hidden_dim)

  def sum_of_two(key, shape, dtype=jnp.float32):
    first, second = jax.random.split(key)
    return uniform(first, shape, dtype) + uniform(second, shape, dtype)

  def zeros(key, shape, param_dtype):
    del key, param_dtype
    return jnp.zeros(shape, dtype)

  return nn.OptimizedLSTMCell(
    hidden_dim,
    kernel_init=uniform,
    recurrent_kernel_init=uniform,
    bias_init=sum_of_two,
    carry_init=zeros,
    name=name,
  )


class BidirectionalLSTM(nn.Module):
  """`Linear → bidirectional LSTM layers → Linear`; depends on the order.

  Attributes:
    hidden_dim: size of each direction's state.
    features: output size per element.
    layers: number of LSTM layers.
  """

  hidden_dim: int
  features: int
  layers: int = 2

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps lists `(B, N, D)` to logits `(B, N, features)`.

    Raises:
      ValueError: if a size is not a positive integer.
    """
    for name in ('hidden_dim', 'features', 'layers'):
      option_checks.integer(name, getattr(self, name), least=1)
    x = linear.linear(self.hidden_dim, x.shape[-1], name='input')(x)
    for i in range(self.layers):
      forward = nn.RNN(_cell(self.hidden_dim, x.dtype, f'forward_{i}'))
      backward = nn.RNN(_cell(self.hidden_dim, x.dtype, f'backward_{i}'))
      x = nn.Bidirectional(forward, backward)(x)
    return linear.linear(self.features, x.shape[-1], name='output')(x)
