"""Decoding and resizing of pictures as in the paper; PIL, nothing else."""

import io
import os

import numpy as np

# The edge lengths of the paper's experiments; any other works too.
IMAGE_SIZES = (128, 256)


def _rgb(image):
  """An opened picture as 8-bit RGB; None if the range of its values is unknown.

  Grey values of 16 bits become their high bytes, as PIL does with colours; its
  conversion of grey would cut them off at 255.
  """
  # Here, because most uses of the library need no pictures.
  from PIL import Image

  mode = image.mode
  # PNG has at most 16 bits; some versions of PIL read those as 'I'.
  if mode.startswith('I;16') or (mode == 'I' and image.format == 'PNG'):
    high = np.asarray(image).astype(np.int64) >> 8
    return Image.fromarray(high.astype(np.uint8)).convert('RGB')
  return None if mode in ('I', 'F') else image.convert('RGB')


def decode(
  content: bytes | str | os.PathLike[str],
  image_size: int | tuple[int, int] | None = None,
) -> np.ndarray:
  """Decodes a picture and squashes it to a size.

  Resizing is PIL's bilinear one with antialiasing, whatever the aspect ratio;
  an alpha channel is dropped first, and of 16 bits per value the upper 8 are
  kept.

  Args:
    content: an encoded picture (PNG, …), or the path of one.
    image_size: edge length, or width and height; None keeps the picture's
      size.

  Returns:
    `(H, W, 3)`, uint8.

  Raises:
    ValueError: if it cannot be decoded, or has grey values of 32 bits.
  """
  # Here, because most uses of the library need no pictures.
  from PIL import Image

  source = io.BytesIO(content) if isinstance(content, bytes) else content
  name = 'A picture' if isinstance(content, bytes) else os.fspath(content)
  try:
    with Image.open(source) as opened:
      image = _rgb(opened)
  except Image.DecompressionBombError as e:
    raise ValueError(f'{name}: {e}; give a smaller picture.') from e
  # Damaged files also raise SyntaxError and EOFError in some decoders.
  except (OSError, SyntaxError, EOFError, ValueError) as e:
    raise ValueError(
      f'{name}: cannot be decoded ({e}); fetch the file again.'
    ) from e
  if image is None:
    raise ValueError(
      f'{name}: has grey values of 32 bits; save it with 8 or 16 bits.'
    )
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
