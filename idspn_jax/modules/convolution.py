"""A convolutional layer that is fast on CPUs too."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn
from flax.linen import dtypes
import jax

from idspn_jax.ops import convolution
from idspn_jax.solvers import option_checks


class Conv2d(nn.Module):
  """A square convolution; parameters are named and shaped as `nn.Conv`'s.

  Attributes:
    features: channels of the result.
    size: edge of the kernel.
    stride: in both directions.
    padding: zeros on each side.
    use_bias: whether to add a bias.
    method: see `ops.convolution.conv2d`; None chooses by the backend.
    dtype: type to compute in; None for that of the input and the parameters.
    kernel_init: initial kernel.
    bias_init: initial bias.
  """

  features: int
  size: int
  stride: int = 1
  padding: int = 0
  use_bias: bool = True
  method: str | None = None
  dtype: Any = None
  kernel_init: Callable[..., Any] = nn.initializers.lecun_normal()
  bias_init: Callable[..., Any] = nn.initializers.zeros

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `(B, H, W, C)` to `(B, H', W', features)`.

    Raises:
      ValueError: if an option is wrong or the picture too small.
    """
    for name in ('features', 'size', 'stride'):
      option_checks.integer(name, getattr(self, name), least=1)
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape)
    bias = None
    if self.use_bias:
      bias = self.param('bias', self.bias_init, (self.features,))
    x, kernel, bias = dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    y = convolution.conv2d(x, kernel, self.stride, self.padding, self.method)
    return y if bias is None else y + bias.reshape(1, 1, 1, -1)
