"""Decoding and resizing of pictures as in the paper; PIL, nothing else."""

import io
import os

import numpy as np

# The edge lengths of the paper's experiments; any other works too.
IMAGE_SIZES = (128, 256)


def decode(
  content: bytes | str | os.PathLike[str],
  image_size: int | tuple[int, int] | None = None,
) -> np.ndarray:
  """Decodes a picture and squashes it to a size.

  Resizing is PIL's bilinear one with antialiasing, whatever the aspect ratio;
  an alpha channel is dropped first.

  Args:
    content: an encoded picture (PNG, …), or the path of one.
    image_size: edge length, or width and height; None keeps the picture's
      size.

  Returns:
    `(H, W, 3)`, uint8.

  Raises:
    ValueError: if it cannot be decoded.
  """
  # Here, because most uses of the library need no pictures.
  from PIL import Image

  source = io.BytesIO(content) if isinstance(content, bytes) else content
  name = 'A picture' if isinstance(content, bytes) else os.fspath(content)
  try:
    with Image.open(source) as image:
      image = image.convert('RGB')
  except Image.DecompressionBombError as e:
    raise ValueError(f'{name}: {e}; give a smaller picture.') from e
  # Damaged files also raise SyntaxError and EOFError in some decoders.
  except (OSError, SyntaxError, EOFError, ValueError) as e:
    raise ValueError(
      f'{name}: cannot be decoded ({e}); fetch the file again.'
    ) from e
  if image_size is not None:
    if isinstance(image_size, int):
      image_size = (image_size, image_size)
    image = image.resize(image_size, Image.Resampling.BILINEAR)
  return np.asarray(image)


def to_floats(images: np.ndarray) -> np.ndarray:
  """Scales pictures from 0 … 255 to 0 … 1, as the paper does.

  Works on NumPy and JAX arrays, also inside `jax.jit`.

  Args:
    images: `(..., H, W, 3)`, uint8.

  Returns:
    float32.
  """
  return images.astype('float32') / np.float32(255)
