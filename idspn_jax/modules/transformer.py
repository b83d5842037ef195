"""Encoder-decoder Transformers over sets, the baselines of Section 4.1.

Both encoder and decoder see the input set, each through its own projection;
the decoder's output at position i belongs to input element i. Without a
position encoding the model is set-equivariant.
"""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.modules import linear
from idspn_jax.ops import batch_noise
from idspn_jax.solvers import option_checks

POSITIONS = ('none', 'sinusoidal', 'random')
_EPSILON = 1e-5  # PyTorch's default for layer normalisation.


def sinusoidal_positions(length: int, features: int) -> np.ndarray:
  """Sines and cosines of Vaswani et al., interleaved, `(length, features)`."""
  position = np.arange(length)[:, None]
  rate = np.exp(-math.log(1e4) * np.arange(0, features, 2) / features)
  table = np.zeros((length, features))
  table[:, 0::2] = np.sin(position * rate)
  table[:, 1::2] = np.cos(position * rate)[:, : features // 2]
  return table


class _Attention(nn.Module):
  heads: int

  @nn.compact
  def __call__(self, x, memory):
    attention = nn.MultiHeadDotProductAttention(
      self.heads,
      # PyTorch draws queries, keys and values as one (h, 3h) matrix.
      kernel_init=nn.initializers.variance_scaling(0.5, 'fan_avg', 'uniform'),
      out_kernel_init=nn.initializers.xavier_uniform(),
      name='attention',
    )
    normalized = nn.LayerNorm(epsilon=_EPSILON, name='norm')
    return normalized(x + attention(x, memory))


class _FeedForward(nn.Module):
  width: int

  @nn.compact
  def __call__(self, x):
    def dense(features, fan_in, name):
      return nn.Dense(
        features,
        kernel_init=nn.initializers.xavier_uniform(),
        bias_init=linear.torch_uniform(fan_in),
        name=name,
      )

    hidden = nn.relu(dense(self.width, x.shape[-1], 'hidden')(x))
    out = dense(x.shape[-1], self.width, 'output')(hidden)
    return nn.LayerNorm(epsilon=_EPSILON, name='norm')(x + out)


class SetTransformer(nn.Module):
  """Post-norm Transformer without dropout, from sets to logits per element.

  Attributes:
    hidden_dim: model width h; the feed-forward layers have 2h.
    features: output size per element.
    positions: 'none'; 'sinusoidal', added to the decoder's input; or 'random',
      half of whose features become `α + exp(β) · noise` with two learned
      numbers α and β, noise from the 'positions' random stream.
    layers: encoder layers, and decoder layers.
    heads: attention heads.
    axis_name: the axis of `jax.pmap` over which batches are divided, or None.
  """

  hidden_dim: int
  features: int
  positions: str = 'none'
  layers: int = 2
  heads: int = 8
  axis_name: str | None = None

  def _noise(self, shape, dtype):
    zeros = nn.initializers.zeros
    shift = self.param('noise_mean', zeros, ())
    scale = self.param('noise_log_scale', zeros, ())
    noise = batch_noise.normal_rows(
      self.make_rng('positions'), shape, dtype, self.axis_name
    )
    return shift + jnp.exp(scale) * noise

  def _attend(self, name, x, memory):
    return _Attention(self.heads, name=name)(x, memory)

  def _feed(self, name, x):
    return _FeedForward(2 * self.hidden_dim, name=name)(x)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps sets `(B, N, D)` to logits `(B, N, features)`.

    Raises:
      ValueError: if `positions` is unknown, a size is not a positive integer,
        or the heads do not divide the width.
    """
    for name in ('hidden_dim', 'features', 'layers', 'heads'):
      option_checks.integer(name, getattr(self, name), least=1)
    if self.hidden_dim % self.heads:
      raise ValueError(
        f'hidden_dim must be a multiple of heads; got {self.hidden_dim} and '
        f'{self.heads}.'
      )
    if self.positions not in POSITIONS:
      raise ValueError(
        f'positions is {self.positions!r}; choose one of {POSITIONS}.'
      )
    fan_in = x.shape[-1]
    source = linear.linear(self.hidden_dim, fan_in, name='source')(x)
    random = self.hidden_dim // 2 if self.positions == 'random' else 0
    target = linear.linear(self.hidden_dim - random, fan_in, name='target')(x)
    if self.positions == 'sinusoidal':
      table = sinusoidal_positions(*target.shape[1:])
      target += jnp.asarray(table, target.dtype)[None]
    if random:
      noise = self._noise((*x.shape[:-1], random), target.dtype)
      target = jnp.concatenate([target, noise], axis=-1)
    for i in range(self.layers):
      layer = f'encoder_{i}'
      source = self._attend(f'{layer}_attention', source, source)
      source = self._feed(f'{layer}_feed_forward', source)
    source = nn.LayerNorm(epsilon=_EPSILON, name='encoder_norm')(source)
    for i in range(self.layers):
      layer = f'decoder_{i}'
      target = self._attend(f'{layer}_attention', target, target)
      target = self._attend(f'{layer}_cross_attention', target, source)
      target = self._feed(f'{layer}_feed_forward', target)
    target = nn.LayerNorm(epsilon=_EPSILON, name='decoder_norm')(target)
    return linear.linear(self.features, target.shape[-1], name='output')(target)
