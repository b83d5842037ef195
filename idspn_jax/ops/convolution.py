"""Two-dimensional convolution, in two forms."""

import jax
import jax.numpy as jnp

METHODS = ('direct', 'im2col')


def conv2d(
  x: jax.Array,
  kernel: jax.Array,
  stride: int = 1,
  padding: int = 0,
  method: str | None = None,
) -> jax.Array:
  """Cross-correlation, as convolutions of neural networks are.

  Args:
    x: `(B, H, W, C)`.
    kernel: `(K, K, C, F)`.
    stride: in both directions.
    padding: zeros on each of the four sides.
    method: 'direct' is XLA's own convolution; 'im2col' copies all patches side
      by side and multiplies matrices, K² times the memory. On CPUs, where
      XLA's convolutions reach a fraction of the speed of its matrix products,
      the copies pay. None takes 'im2col' on CPUs, else 'direct'.

  Returns:
    `(B, H', W', F)`, `H' = (H + 2 padding - K) // stride + 1`.

  Raises:
    ValueError: if the method is unknown or the picture is smaller than the
      kernel.
  """
  if method is None:
    method = 'im2col' if jax.default_backend() == 'cpu' else 'direct'
  if method not in METHODS:
    raise ValueError(f'method is {method!r}; choose one of {METHODS} or None.')
  size = kernel.shape[0]
  if min(x.shape[1:3]) + 2 * padding < size:
    raise ValueError(
      f'A picture of {x.shape[1]}×{x.shape[2]} with padding {padding} is '
      f'smaller than the kernel, {size}×{size}.'
    )
  if method == 'direct':
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      [(padding, padding)] * 2,
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
  return _im2col(x, kernel, stride, padding)


def _im2col(x, kernel, stride, padding):
  size, _, channels, features = kernel.shape
  if padding:
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  batch = x.shape[0]
  height, width = ((n - size) // stride + 1 for n in x.shape[1:3])
  rows = (height - 1) * stride + 1
  columns = (width - 1) * stride + 1
  patches = [
    x[:, i : i + rows : stride, j : j + columns : stride]
    for i in range(size)
    for j in range(size)
  ]
  matrix = jnp.concatenate(patches, axis=-1) if size > 1 else patches[0]
  out = matrix.reshape(-1, size * size * channels) @ kernel.reshape(
    -1, features
  )
  return out.reshape(batch, height, width, features)
