"""A bidirectional LSTM over the elements, the list baseline of Section 4.1."""

from flax import linen as nn
import jax

from idspn_jax.modules import linear


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
    """Maps lists `(B, N, D)` to logits `(B, N, features)`."""
    x = linear.linear(self.hidden_dim, x.shape[-1], name='input')(x)
    for i in range(self.layers):
      forward = nn.RNN(
        nn.OptimizedLSTMCell(self.hidden_dim), name=f'forward_{i}'
      )
      backward = nn.RNN(
        nn.OptimizedLSTMCell(self.hidden_dim), name=f'backward_{i}'
      )
      x = nn.Bidirectional(forward, backward, name=f'layer_{i}')(x)
    return linear.linear(self.features, x.shape[-1], name='output')(x)
