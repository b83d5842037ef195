"""Resizing against an independent triangle filter; damaged files."""

import io

import numpy as np
from PIL import Image
import pytest

from idspn_jax.data import pictures


def png(pixels, kind='PNG'):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, kind)
  return file.getvalue()


def triangle(length, size):
  """Weights of the antialiased bilinear filter, `(size, length)`."""
  scale = length / size
  support = max(scale, 1.0)
  centre = (np.arange(size)[:, None] + 0.5) * scale
  distance = np.abs(np.arange(length) + 0.5 - centre) / support
  weights = np.maximum(1 - distance, 0)
  return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize('size', [6, 16, 128])
def test_squashes_with_antialiasing(size, rng):
  pixels = rng.integers(0, 256, (32, 48, 3), np.uint8)
  found = pictures.decode(png(pixels), size)
  assert found.shape == (size, size, 3) and found.dtype == np.uint8
  expected = np.einsum(
    'yh,xw,hwc->yxc', triangle(32, size), triangle(48, size), pixels / 1.0
  )
  assert np.max(np.abs(found - expected)) <= 1.1  # It rounds in between.


def test_keeps_the_size_and_drops_alpha(rng, tmp_path):
  pixels = rng.integers(0, 256, (5, 7, 4), np.uint8)
  np.testing.assert_array_equal(pictures.decode(png(pixels)), pixels[..., :3])
  (tmp_path / 'a.png').write_bytes(png(pixels))
  found = pictures.decode(tmp_path / 'a.png')
  np.testing.assert_array_equal(found, pixels[..., :3])


def test_grey_pictures_have_three_channels(rng):
  pixels = rng.integers(0, 256, (5, 7), np.uint8)
  np.testing.assert_array_equal(
    pictures.decode(png(pixels)), np.repeat(pixels[..., None], 3, -1)
  )


@pytest.mark.parametrize('kind', ['PNG', 'TIFF'])
def test_grey_of_16_bits_keeps_its_range(kind, rng):
  pixels = rng.integers(0, 2**16, (5, 7), np.uint16)
  np.testing.assert_array_equal(
    pictures.decode(png(pixels, kind)), np.repeat(pixels[..., None] >> 8, 3, -1)
  )


@pytest.mark.parametrize('dtype', [np.int32, np.float32])
def test_grey_of_32_bits_has_no_known_range(dtype):
  content = png(np.ones((5, 7), dtype), 'TIFF')
  with pytest.raises(ValueError, match='32 bits; save it with 8 or 16'):
    pictures.decode(content)


@pytest.mark.parametrize('keep', [0, 20, 100])
def test_damaged_files_are_named(keep, rng, tmp_path):
  content = png(rng.integers(0, 256, (32, 48, 3), np.uint8))[:keep]
  (tmp_path / 'half.png').write_bytes(content)
  with pytest.raises(ValueError, match='half.png.*cannot be decoded'):
    pictures.decode(tmp_path / 'half.png', 8)


def test_floats_run_from_0_to_1():
  found = pictures.to_floats(np.asarray([0, 51, 255], np.uint8))
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, [0, 0.2, 1], rtol=1e-7)
