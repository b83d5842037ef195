"""Batch normalisation with PyTorch's running averages.

Flax's own keeps running averages of the biased variance of a batch, PyTorch's
those of the unbiased one: converted weights, and runs that are compared with
PyTorch's, need the latter.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from idspn_jax.solvers import option_checks


class BatchNorm(nn.Module):
  """Normalises every feature over all other axes, then scales and shifts it.

  Parameters `scale` and `bias`; the collection 'batch_stats' holds `mean` and
  `var`, which training updates and evaluation uses. Statistics are computed
  from deviations from the mean, in float32 at least.

  Attributes:
    momentum: weight of a batch in the running averages.
    epsilon: added to the variance.
    dtype: type of the result; None for that of the input and the parameters.
    axis_name: a mapped axis (`jax.pmap`, `jax.shard_map`) over which batches
      are divided, so that statistics are those of the whole batch; None
      elsewhere, also under `jax.jit` on several devices.
  """

  momentum: float = 0.1
  epsilon: float = 1e-5
  dtype: Any = None
  axis_name: str | None = None

  def _is_divided(self):
    # Initialising runs outside of the mapped axis.
    return self.axis_name is not None and not self.is_initializing()

  def _mean(self, x):
    mean = jnp.mean(x, tuple(range(x.ndim - 1)))
    return jax.lax.pmean(mean, self.axis_name) if self._is_divided() else mean

  def _count(self, x):
    """Values per feature in the whole batch."""
    devices = jax.lax.axis_size(self.axis_name) if self._is_divided() else 1
    return devices * (x.size // x.shape[-1])

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Normalises `(..., C)`.

    Args:
      x: features on the last axis.
      train: take the statistics of this batch, and update the running averages
        if 'batch_stats' is mutable; otherwise take the running averages.

    Returns:
      The same shape.

    Raises:
      ValueError: if a batch in training has one value per feature, whose
        variance is not defined, or an option is wrong.
    """
    train = option_checks.flag('train', train)
    features = x.shape[-1]
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, (features,))
    running_var = self.variable('batch_stats', 'var', jnp.ones, (features,))
    scale = self.param('scale', nn.initializers.ones, (features,))
    bias = self.param('bias', nn.initializers.zeros, (features,))
    dtype = option_checks.float_type('dtype', self.dtype)
    dtype = jnp.result_type(x, scale, bias) if dtype is None else dtype
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    rows = (*(1,) * (x.ndim - 1), features)
    if train:
      mean = self._mean(x)
      centred = x - mean.reshape(rows)
      var = self._mean(jnp.square(centred))
      count = self._count(x)
      if count < 2 and not self.is_initializing():
        raise ValueError(
          'Batch normalisation in training needs more than one value per '
          f'feature; got an input of shape {x.shape}. Give larger batches.'
        )
      if not self.is_initializing() and self.is_mutable_collection(
        'batch_stats'
      ):
        self._update(running_mean, mean)
        self._update(running_var, var * (count / (count - 1)))
    else:
      centred = x - running_mean.value.reshape(rows)
      var = running_var.value
    factor = scale * jax.lax.rsqrt(var + self.epsilon)
    y = centred * factor.reshape(rows) + bias.reshape(rows)
    return y.astype(dtype)

  def _update(self, running, value):
    old = running.value
    new = (1 - self.momentum) * old + self.momentum * value
    running.value = jax.lax.stop_gradient(new.astype(old.dtype))
