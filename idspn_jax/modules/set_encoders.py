"""Set encoders g: an MLP on every element, then a pooling over elements."""

import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from idspn_jax.modules import linear
from idspn_jax.ops import fspool
from idspn_jax.ops import pairs
from idspn_jax.ops import pooling
from idspn_jax.solvers import option_checks

POOLS = ('fs', 'rnfs', 'sum', 'mean', 'max', 'fs_autodiff')
ACTIVATIONS = {'relu': nn.relu, 'tanh': jnp.tanh}


class FSPool(nn.Module):
  """Featurewise sort pooling with learned weights.

  Attributes:
    pieces: None for one weight per sorted position, for sets of one size; K
      for piecewise-linear weight functions of K pieces, for sets of any size.
    autodiff: differentiate through the sort itself; slow, for comparison, and
      only without pieces.
  """

  pieces: int | None = None
  autodiff: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Pools `(..., N, C)` to `(..., C)`.

    Args:
      x: sets.
      mask: true for elements that exist, `(..., N)`.

    Returns:
      Pooled features.

    Raises:
      ValueError: if a mask is given and the weights are for one size, the
        sets have another size than the weights, or both attributes are set, or
        pieces are not a positive integer.
    """
    if self.pieces is not None:
      option_checks.integer('pieces', self.pieces, least=1)
    if self.autodiff and self.pieces is not None:
      raise ValueError(
        f'FSPool with pieces={self.pieces} has no slow derivative to compare '
        "with; leave pieces out, or pool with 'fs'."
      )
    if mask is not None and self.pieces is None:
      raise ValueError(
        'FSPool with one weight per position needs sets of one size; set '
        'pieces to pool masked sets.'
      )
    rows = x.shape[-2] if self.pieces is None else self.pieces + 1
    # A stored weight keeps its rows; the pooling checks them against the sets.
    if self.has_variable('params', 'weight'):
      rows = self.get_variable('params', 'weight').shape[0]
    if self.pieces is None and rows != x.shape[-2]:
      raise ValueError(
        f'FSPool weights are for sets of {rows} elements but the sets have '
        f'{x.shape[-2]}; for sets of any size train with SetEncoder(pieces=…).'
      )
    scale = 1.0 / math.sqrt(max(rows, 1))
    weight = self.param(
      'weight', nn.initializers.normal(scale), (rows, x.shape[-1])
    )
    if self.pieces is not None:
      return fspool.fspool_any_size(x, weight, mask)
    if self.autodiff:
      return fspool.fspool_autodiff(x, weight)
    return fspool.fspool(x, weight)


class SetEncoder(nn.Module):
  """`Linear → ReLU → Linear → pool`, permutation-invariant.

  With `activation='tanh'` and `pool='sum'` or 'mean' it is smooth; otherwise
  it is piecewise linear or has the kinks of sorting.

  Attributes:
    hidden_dim: width H of the hidden layer.
    latent_dim: size Z of the result.
    pool: 'fs' (FSPool), 'rnfs' (FSPool over all ordered pairs of elements, a
      relation network), 'sum', 'mean', 'max', or 'fs_autodiff' (FSPool without
      its fast derivative, for comparison).
    pieces: see `FSPool`; None for sets of one size.
    linear_init: 'torch' or 'flax'.
    dtype: type that the MLP computes in, for example `jnp.bfloat16`; None for
      that of the input and the parameters. Parameters stay float32, and the
      result is cast back to the input's type (at least float32) before it is
      pooled.
    activation: of the hidden layer, 'relu' or 'tanh'.
  """

  hidden_dim: int
  latent_dim: int
  pool: str = 'fs'
  pieces: int | None = None
  linear_init: str = 'torch'
  dtype: Any = None
  activation: str = 'relu'

  @nn.compact
  def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Encodes sets `(..., N, D)` into vectors `(..., Z)`.

    Args:
      x: sets.
      mask: true for elements that exist, `(..., N)`; all exist if None.

    Returns:
      Latent vectors.

    Raises:
      ValueError: if an attribute is wrong or the mask does not apply.
    """
    option_checks.integer('hidden_dim', self.hidden_dim, least=1)
    option_checks.integer('latent_dim', self.latent_dim, least=1)
    if self.pool not in POOLS:
      raise ValueError(f'pool is {self.pool!r}; choose one of {POOLS}.')
    if self.activation not in ACTIVATIONS:
      raise ValueError(
        f'activation is {self.activation!r}; choose one of '
        f'{", ".join(ACTIVATIONS)}.'
      )
    if self.pool == 'rnfs':
      x = pairs.all_pairs(x)
      mask = None if mask is None else pairs.pair_mask(mask)
    init = self.linear_init
    dtype = option_checks.float_type('dtype', self.dtype)
    # As one matrix: XLA then forms the weights' gradients without copies.
    shape, wide = x.shape, jnp.promote_types(x.dtype, jnp.float32)
    x = x.reshape(-1, shape[-1])
    x = linear.linear(self.hidden_dim, shape[-1], init, 'hidden', dtype)(x)
    x = ACTIVATIONS[self.activation](x)
    fan_in = self.hidden_dim
    x = linear.linear(self.latent_dim, fan_in, init, 'output', dtype)(x)
    x = x if dtype is None else x.astype(wide)
    x = x.reshape(*shape[:-1], self.latent_dim)
    if self.pool in ('fs', 'rnfs', 'fs_autodiff'):
      autodiff = self.pool == 'fs_autodiff'
      return FSPool(self.pieces, autodiff, name='pool')(x, mask)
    pool = {
      'sum': pooling.sum_pool,
      'mean': pooling.mean_pool,
      'max': pooling.max_pool,
    }[self.pool]
    return pool(x, mask)


def encode_with(encoder: nn.Module):
  """The pure function `g(params, sets)` of an unbound encoder.

  Args:
    encoder: a module whose only collection is 'params'.

  Returns:
    A function for `energy.squared_distance`.
  """

  def encode(params, sets: jax.Array) -> jax.Array:
    return jnp.asarray(encoder.apply({'params': params}, sets))

  return encode
