"""Convolution as one matrix product, for CPUs.

XLA's own convolutions reach a fraction of the speed of its matrix products on
CPUs. `flax.linen.Conv` takes what `convolution_of` returns as
`conv_general_dilated`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

METHODS = ('direct', 'im2col')


def convolution_of(method: str | None = None) -> Callable[..., jax.Array]:
  """Returns a function like `jax.lax.conv_general_dilated`.

  Args:
    method: 'direct' is that function itself, 'im2col' is `im2col`. None takes
      'im2col' on CPUs, else 'direct'.

  Raises:
    ValueError: if the method is unknown.
  """
  if method is None:
    method = 'im2col' if jax.default_backend() == 'cpu' else 'direct'
  if method not in METHODS:
    raise ValueError(f'method is {method!r}; choose one of {METHODS} or None.')
  return im2col if method == 'im2col' else jax.lax.conv_general_dilated


def im2col(
  x: jax.Array,
  kernel: jax.Array,
  strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  *,
  precision: Any = None,
  **unused: Any,
) -> jax.Array:
  """Copies all patches side by side and multiplies matrices.

  Takes `height × width` of the kernel times the memory of its input.

  Args:
    x: `(B, H, W, C)`.
    kernel: `(K, L, C, F)`; it is not flipped, as in neural networks.
    strides: of rows and columns.
    padding: 'SAME', 'VALID', or zeros before and after rows and columns.
    precision: of the matrix product.
    **unused: the other arguments of `jax.lax.conv_general_dilated`, which
      `flax.linen.Conv` passes; dilations and groups must be 1.

  Returns:
    `(B, H', W', F)`.

  Raises:
    ValueError: if there are dilations or groups, or the padded picture is
      smaller than the kernel.
  """
  dilations = (unused.get(f'{side}_dilation') or () for side in ('lhs', 'rhs'))
  groups = unused.get('feature_group_count', 1)
  if any(n != 1 for found in dilations for n in found) or groups != 1:
    raise ValueError(
      "'im2col' convolves without dilation and groups; use 'direct'."
    )
  batch, channels, features = x.shape[0], x.shape[3], kernel.shape[3]
  if isinstance(padding, str):
    padding = jax.lax.padtype_to_pads(
      x.shape[1:3], kernel.shape[:2], strides, padding
    )
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
  sizes = []
  for edge, size, stride in zip(
    x.shape[1:3], kernel.shape[:2], strides, strict=True
  ):
    if edge < size:
      raise ValueError(
        f'A padded picture of {x.shape[1]}×{x.shape[2]} is smaller than the '
        f'kernel, {kernel.shape[0]}×{kernel.shape[1]}.'
      )
    sizes.append((edge - size) // stride + 1)
  reach = [
    (n - 1) * stride + 1 for n, stride in zip(sizes, strides, strict=True)
  ]
  patches = [
    x[:, i : i + reach[0] : strides[0], j : j + reach[1] : strides[1]]
    for i in range(kernel.shape[0])
    for j in range(kernel.shape[1])
  ]
  matrix = jnp.concatenate(patches, axis=-1).reshape(
    -1, len(patches) * channels
  )
  out = jnp.matmul(matrix, kernel.reshape(-1, features), precision=precision)
  return out.reshape(batch, *sizes, features)
