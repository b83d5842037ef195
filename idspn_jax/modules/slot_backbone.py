"""The image encoder of Slot Attention: pictures to a grid of features."""

from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.ops import precision
from idspn_jax.solvers import option_checks

# Keras's default, which the authors' code leaves as it is.
NORM_EPSILON = 1e-3
# Of the four convolutions; 128 × 128 pixels become 32 × 32 positions.
STRIDES = (1, 2, 2, 1)


def scaled_images(images: jax.Array) -> jax.Array:
  """Brings pictures to `[-1, 1]`, the input range of Slot Attention.

  Args:
    images: `(B, H, W, 3)`, uint8 in 0 to 255 or floating in `[0, 1]`.

  Returns:
    `(B, H, W, 3)` in `[-1, 1]`, at least float32.

  Raises:
    ValueError: if the shape or the type is another one.
  """
  images = jnp.asarray(images)
  if images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(
      f'Images need shape (B, H, W, 3); got {images.shape}. Leave out an alpha '
      'channel, and give one picture as a batch of one.'
    )
  if images.dtype == jnp.uint8:
    return images.astype(jnp.float32) / 127.5 - 1
  if jnp.issubdtype(images.dtype, jnp.floating):
    return 2 * precision.at_least_float32(images) - 1
  raise ValueError(
    'Images need to be uint8 in 0 to 255 or floating in 0 to 1; got '
    f'{images.dtype}.'
  )


def position_grid(height: int, width: int) -> np.ndarray:
  """The position of every cell: `(y, x, 1 - y, 1 - x)`, each in `[0, 1]`.

  Args:
    height: rows H; y is 0 in the first and 1 in the last.
    width: columns W; x is 0 in the first and 1 in the last.

  Returns:
    `(H, W, 4)`, float64.
  """
  axes = (np.linspace(0.0, 1.0, height), np.linspace(0.0, 1.0, width))
  grid = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1)
  return np.concatenate([grid, 1 - grid], axis=-1)


def dense(
  features: int,
  name: str,
  *,
  use_bias: bool = True,
  dtype: Any = None,
) -> nn.Dense:
  """A linear layer initialised as Keras does: Glorot-uniform, bias zero.

  Args:
    features: output size.
    name: the layer's name within its parent.
    use_bias: whether it has a bias.
    dtype: type to compute in; None for that of the input and the parameters.

  Returns:
    A `flax.linen.Dense`.
  """
  return nn.Dense(
    features,
    use_bias=use_bias,
    dtype=dtype,
    kernel_init=nn.initializers.xavier_uniform(),
    name=name,
  )


class SoftPositionEmbedding(nn.Module):
  """Adds a learned linear map of the position to every feature.

  Attributes:
    dtype: type to compute in; None for that of the input and the parameters.
  """

  dtype: Any = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps features `(B, H, W, C)` to features of the same shape."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    grid = jnp.asarray(position_grid(*x.shape[1:3]), wide)
    embedding = dense(x.shape[-1], 'embedding', dtype=self.dtype)(grid)
    return x + embedding[None]


class SlotBackbone(nn.Module):
  """Convolutions, position embedding, and an MLP at every position.

  `[Conv 5×5 → ReLU] × 4 → + position → LayerNorm → Linear → ReLU → Linear`, all
  of one width, zero padding that keeps `ceil(size / stride)` rows and columns.

  Attributes:
    width: channels C of every layer.
    strides: of the convolutions, one for each; the default is that of the
      authors' code for set prediction. `(2, 2, 1, 1)` gives the same grid and
      takes a fraction of the time.
    kernel: size of the convolutions' windows.
    dtype: type that convolutions and linear layers compute in, for example
      `jnp.bfloat16`; None for that of the input and the parameters. Parameters
      stay float32, and the result is at least float32.

  References:
    Locatello et al.: Object-Centric Learning with Slot Attention. NeurIPS
    2020; the architecture for set prediction.
  """

  width: int = 64
  strides: Sequence[int] = STRIDES
  kernel: int = 5
  dtype: Any = None

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """Maps pictures `(B, H, W, 3)` to features `(B, H', W', C)`.

    Args:
      images: uint8 in 0 to 255 or floating in `[0, 1]`.

    Returns:
      Features; H' and W' are H and W over the product of the strides, rounded
      up at every convolution.

    Raises:
      ValueError: if the images or an attribute are wrong; names the remedy.
    """
    for name in ('width', 'kernel'):
      option_checks.integer(name, getattr(self, name), least=1)
    strides = self.strides
    wrong = isinstance(strides, str) or not isinstance(strides, Sequence)
    if wrong or not strides:
      raise ValueError(
        f'strides must be a tuple of integers such as {STRIDES}, one for each '
        f'convolution; got {strides!r}.'
      )
    x = scaled_images(images)
    for i, stride in enumerate(strides):
      stride = option_checks.integer(f'strides[{i}]', stride, least=1)
      x = nn.Conv(
        self.width,
        (self.kernel, self.kernel),
        strides=(stride, stride),
        padding='SAME',
        dtype=self.dtype,
        kernel_init=nn.initializers.xavier_uniform(),
        name=f'conv_{i}',
      )(x)
      x = nn.relu(x)
    x = SoftPositionEmbedding(self.dtype, name='position')(x)
    x = precision.at_least_float32(x)
    x = nn.LayerNorm(epsilon=NORM_EPSILON, name='norm')(x)
    x = nn.relu(dense(self.width, 'hidden', dtype=self.dtype)(x))
    x = dense(self.width, 'output', dtype=self.dtype)(x)
    return precision.at_least_float32(x)
