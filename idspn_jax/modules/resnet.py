"""The convolutional trunk of ResNet-18 (He et al., 2016).

Without average pool and classifier: it maps pictures to feature maps. Paddings,
strides and initial values are those of torchvision's ResNet.
"""

from collections.abc import Sequence
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from idspn_jax.modules import batch_norm
from idspn_jax.ops import convolution
from idspn_jax.solvers import option_checks

# Pixels per position of the feature map that stage 1 gets.
STEMS = {'imagenet': 4, 'patch': 4, 'small': 2}
_PATCH = 4  # Edge of the blocks of pixels of 'patch'.
# torchvision's: normal, variance 2 over the fan out.
_kernel_init = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


def total_stride(stem: str, blocks: Sequence[int]) -> int:
  """Pixels of a picture per position of the feature map, along an edge.

  Args:
    stem: see `ResNet`.
    blocks: see `ResNet`.

  Returns:
    32 for a ResNet-18.

  Raises:
    ValueError: if the stem is unknown, or there are no blocks.
  """
  if stem not in STEMS:
    raise ValueError(f'stem is {stem!r}; choose one of {tuple(STEMS)}.')
  if not blocks:
    raise ValueError('blocks is empty; give the number of blocks per stage.')
  for count in blocks:
    option_checks.integer('blocks', count, least=1)
  return STEMS[stem] * 2 ** (len(blocks) - 1)


def _pixels_to_channels(images, edge):
  """`(B, H, W, C)` to `(B, H / edge, W / edge, edge² C)`."""
  batch, height, width, channels = images.shape
  x = images.reshape(batch, height // edge, edge, width // edge, edge, channels)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(batch, height // edge, width // edge, -1)


def _convolution(features, size, stride, method, dtype, name):
  """Without bias, padded so that stride 1 keeps the edge's length."""
  return nn.Conv(
    features,
    (size, size),
    strides=stride,
    padding=size // 2,
    use_bias=False,
    dtype=dtype,
    kernel_init=_kernel_init,
    conv_general_dilated=convolution.convolution_of(method),
    name=name,
  )


class BasicBlock(nn.Module):
  """Two 3×3 convolutions beside a shortcut.

  Attributes:
    features: channels of the result.
    stride: of the first convolution.
    convolution: see `ResNet`, as the next ones.
    dtype: type of convolutions and feature maps.
    axis_name: see `BatchNorm`.
  """

  features: int
  stride: int = 1
  convolution: str | None = None
  dtype: Any = None
  axis_name: str | None = None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    """Maps `(B, H, W, C)` to `(B, ⌈H/stride⌉, ⌈W/stride⌉, features)`."""
    conv = functools.partial(
      _convolution, self.features, method=self.convolution, dtype=self.dtype
    )
    norm = functools.partial(
      batch_norm.BatchNorm, dtype=self.dtype, axis_name=self.axis_name
    )
    y = conv(3, self.stride, name='conv_1')(x)
    y = nn.relu(norm(name='norm_1')(y, train))
    y = conv(3, 1, name='conv_2')(y)
    y = norm(name='norm_2')(y, train)
    if self.stride != 1 or x.shape[-1] != self.features:
      x = conv(1, self.stride, name='shortcut_conv')(x)
      x = norm(name='shortcut_norm')(x, train)
    return nn.relu(x + y)


class ResNet(nn.Module):
  """A residual network of basic blocks; ResNet-18 by default.

  Attributes:
    width: channels of the first stage; every later stage has twice as many.
    stem: 'imagenet' (7×7 convolution of stride 2, 3×3 max-pool of stride 2);
      for pictures of 64 pixels or so 'small' (3×3 convolution of stride 2) or
      'patch' (3×3 convolution over blocks of 4×4 pixels, which is one of 12×12
      and stride 4).
    blocks: blocks per stage. Every stage but the first halves both edges.
    convolution: how to convolve, see `ops.convolution.convolution_of`; None
      chooses by the backend.
    dtype: type of convolutions and feature maps, for example `jnp.bfloat16`;
      None for that of the input and the parameters. Parameters and running
      averages stay float32.
    axis_name: see `BatchNorm`.
  """

  width: int = 64
  stem: str = 'imagenet'
  blocks: Sequence[int] = (2, 2, 2, 2)
  convolution: str | None = None
  dtype: Any = None
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Maps pictures `(B, H, W, C)` to feature maps `(B, H', W', C')`.

    Args:
      images: floats.
      train: see `BatchNorm`.

    Returns:
      Features after the last block's ReLU, of type `dtype`: an edge is that of
      the picture over `total_stride`, rounded up; channels are `width` times 8
      after 4 stages.

    Raises:
      ValueError: if an attribute is wrong; names the remedy.
    """
    option_checks.integer('width', self.width, least=1)
    option_checks.float_type('dtype', self.dtype)
    total_stride(self.stem, self.blocks)  # Checks both.
    size, stride, x = 3, 2, images
    if self.stem == 'imagenet':
      size = 7
    elif self.stem == 'patch':
      stride = 1
      if any(n % _PATCH for n in images.shape[1:3]):
        raise ValueError(
          f"stem='patch' needs edges that are multiples of {_PATCH}; got "
          f'pictures {images.shape}.'
        )
      x = _pixels_to_channels(images, _PATCH)
    x = _convolution(
      self.width, size, stride, self.convolution, self.dtype, 'stem_conv'
    )(x)
    norm = batch_norm.BatchNorm(
      dtype=self.dtype, axis_name=self.axis_name, name='stem_norm'
    )
    x = nn.relu(norm(x, train))
    if self.stem == 'imagenet':
      # Padded by -inf.
      x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    for stage, count in enumerate(self.blocks):
      for block in range(count):
        x = BasicBlock(
          self.width * 2**stage,
          stride=2 if stage and not block else 1,
          convolution=self.convolution,
          dtype=self.dtype,
          axis_name=self.axis_name,
          name=f'stage_{stage + 1}_block_{block}',
        )(x, train)
    return jnp.asarray(x)
