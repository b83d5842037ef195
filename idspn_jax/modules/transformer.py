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

POSITIONS = ('none', 'sinusoidal', 'random')
_EPSILON = 1e-5  # PyTorch's default for layer normalisation.


def sinusoidal_positions(length: int, features: int) -> np.ndarray:
  """Sines and cosines of Vaswani et al., interleaved, `(length, features)`."""
  position = np.arange(length)[:, None]
  rate = np.exp(-math.log(1e4) * np.arange(0, features, 2) / features)
  table = np.zeros((length, features), np.float32)
  table[:, 0::2] = np.sin(position * rate)
  table[:, 1::2] = np.cos(position * rate)[:, : features // 2]
  return table


class _Attention(nn.Module):
  heads: int

  @nn.compact
  def __call__(self, x, memory):
    attention = nn.MultiHeadDotProductAttention(
      self.heads, kernel_init=nn.initializers.xavier_uniform()
    )
    normalized = nn.LayerNorm(epsilon=_EPSILON)
    return normalized(x + attention(x, memory))


class _FeedForward(nn.Module):
  width: int

  @nn.compact
  def __call__(self, x):
    init = nn.initializers.xavier_uniform()
    hidden = nn.relu(nn.Dense(self.width, kernel_init=init)(x))
    out = nn.Dense(x.shape[-1], kernel_init=init)(hidden)
    return nn.LayerNorm(epsilon=_EPSILON)(x + out)


class SetTransformer(nn.Module):
  """Post-norm Transformer without dropout, from sets to logits per element.

  Attributes:
    hidden_dim: model width h; the feed-forward layers have 2h.
    features: output size per element.
    positions: 'none'; 'sinusoidal', added to the decoder's input; or 'random',
      half of whose features become `α + exp(β) · noise`, noise from the
      'positions' random stream.
    layers: encoder layers, and decoder layers.
    heads: attention heads.
  """

  hidden_dim: int
  features: int
  positions: str = 'none'
  layers: int = 2
  heads: int = 8

  def _noise(self, shape):
    zeros = nn.initializers.zeros
    shift = self.param('noise_mean', zeros, shape[-1:])[None, None]
    scale = self.param('noise_log_scale', zeros, shape[-1:])[None, None]
    noise = jax.random.normal(self.make_rng('positions'), shape)
    return shift + jnp.exp(scale) * noise

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps sets `(B, N, D)` to logits `(B, N, features)`.

    Raises:
      ValueError: if `positions` is unknown.
    """
    if self.positions not in POSITIONS:
      raise ValueError(
        f'positions is {self.positions!r}; choose one of {POSITIONS}.'
      )
    fan_in = x.shape[-1]
    source = linear.linear(self.hidden_dim, fan_in, name='source')(x)
    random = self.hidden_dim // 2 if self.positions == 'random' else 0
    target = linear.linear(self.hidden_dim - random, fan_in, name='target')(x)
    if self.positions == 'sinusoidal':
      target += jnp.asarray(sinusoidal_positions(*target.shape[1:]))[None]
    if random:
      noise = self._noise((*x.shape[:-1], random))
      target = jnp.concatenate([target, noise], axis=-1)
    for _ in range(self.layers):
      source = _Attention(self.heads)(source, source)
      source = _FeedForward(2 * self.hidden_dim)(source)
    source = nn.LayerNorm(epsilon=_EPSILON)(source)
    for _ in range(self.layers):
      target = _Attention(self.heads)(target, target)
      target = _Attention(self.heads)(target, source)
      target = _FeedForward(2 * self.hidden_dim)(target)
    target = nn.LayerNorm(epsilon=_EPSILON)(target)
    return linear.linear(self.features, target.shape[-1], name='output')(target)
