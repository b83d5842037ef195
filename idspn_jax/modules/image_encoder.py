"""The image encoder of Section 4.3: pictures to latent vectors."""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from idspn_jax.modules import batch_norm
from idspn_jax.modules import linear
from idspn_jax.modules import resnet
from idspn_jax.ops import convolution
from idspn_jax.solvers import option_checks

_PATCH = 2  # Edge and stride of the head's convolution.


class ImageEncoder(nn.Module):
  """ResNet-18 without average pool, and a head that keeps positions apart.

  The head is batch normalisation and a 2×2 convolution of stride 2, whose
  result is flattened channel by channel, as PyTorch does. Its channels are what
  `latent_dim` leaves per position: 2×2×128 for 512 features of pictures of 128
  pixels, 4×4×32 at 256, 1×1×512 at 64. Initial values are PyTorch's.

  Attributes:
    latent_dim: size Z of the result.
    width: channels of the trunk's first stage; the last has 8 times as many.
    stem: see `ResNet`.
    image_size: height and width of the pictures.
    blocks: see `ResNet`.
    convolution: see `ResNet`.
    dtype: type that the convolutions compute in, for example `jnp.bfloat16`;
      None for that of the input and the parameters. Parameters and running
      averages stay float32.
    axis_name: see `BatchNorm`.
  """

  latent_dim: int = 512
  width: int = 64
  stem: str = 'imagenet'
  image_size: int = 128
  blocks: Sequence[int] = (2, 2, 2, 2)
  convolution: str | None = None
  dtype: Any = None
  axis_name: str | None = None

  def _channels(self):
    """Channels of the head's convolution."""
    option_checks.integer('latent_dim', self.latent_dim, least=1)
    option_checks.integer('image_size', self.image_size, least=1)
    stride = resnet.total_stride(self.stem, self.blocks)
    edge = -(-self.image_size // stride)
    if edge % _PATCH:
      raise ValueError(
        f'image_size={self.image_size} gives {edge}×{edge} positions before '
        f'the head, whose 2×2 convolution needs an even number; take a '
        f'multiple of {_PATCH * stride} pixels.'
      )
    positions = (edge // _PATCH) ** 2
    if self.latent_dim % positions:
      raise ValueError(
        f'latent_dim={self.latent_dim} does not divide into the {positions} '
        f'positions that image_size={self.image_size} gives; take a multiple '
        f'of {positions}.'
      )
    return self.latent_dim // positions

  def _floats(self, images):
    shape = (self.image_size, self.image_size, 3)
    if images.ndim != 4 or images.shape[1:] != shape:
      raise ValueError(
        f'Pictures must have the shape (B, {", ".join(map(str, shape))}); got '
        f'{images.shape}. Resize them, or set image_size.'
      )
    if images.dtype == jnp.uint8:
      return images.astype(jnp.float32) / 255
    if not jnp.issubdtype(images.dtype, jnp.floating):
      raise ValueError(
        'Pictures must be uint8 from 0 to 255 or floats from 0 to 1; got '
        f'{images.dtype}.'
      )
    return images

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    """Encodes pictures `(B, H, W, 3)` into vectors `(B, Z)`.

    Args:
      images: uint8 from 0 to 255, or floats from 0 to 1.
      train: normalise by the statistics of this batch, and update the running
        averages if the collection 'batch_stats' is mutable; otherwise normalise
        by the running averages.

    Returns:
      Latent vectors, float32 (float64 if that was computed).

    Raises:
      ValueError: if the pictures have another size or type, or an attribute is
        wrong; names the remedy.
    """
    channels = self._channels()
    x = self._floats(jnp.asarray(images))
    x = resnet.ResNet(
      self.width,
      self.stem,
      self.blocks,
      self.convolution,
      self.dtype,
      self.axis_name,
      name='trunk',
    )(x, train)
    norm = batch_norm.BatchNorm(
      dtype=self.dtype, axis_name=self.axis_name, name='head_norm'
    )
    x = norm(x, train)
    uniform = linear.torch_uniform(_PATCH**2 * x.shape[-1])
    x = nn.Conv(
      channels,
      (_PATCH, _PATCH),
      strides=_PATCH,
      padding='VALID',
      conv_general_dilated=convolution.convolution_of(self.convolution),
      dtype=self.dtype,
      kernel_init=uniform,
      bias_init=uniform,
      name='head_conv',
    )(x)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return x.transpose(0, 3, 1, 2).reshape(len(x), self.latent_dim)
