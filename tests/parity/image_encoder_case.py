"""Inputs of the golden numbers of the image encoder, and how they are kept.

The generating script and the test draw the same weights, pictures and
cotangents from `numpy.random.RandomState`, whose stream NumPy keeps, so that
files hold results only. Of a large array they hold some entries and one
weighted sum of all.
"""

import pathlib
from typing import NamedTuple

import numpy as np

WIDTH = 8
BATCH = 3
DIRECTORY = pathlib.Path(__file__).parent / 'image_encoder'
_KEPT = 96


class Case(NamedTuple):
  """One golden file."""

  stem: str
  image_size: int
  latent_dim: int


CASES = {
  'imagenet_64': Case('imagenet', 64, 24),
  'imagenet_128': Case('imagenet', 128, 48),
  'small_64': Case('small', 64, 48),
}


def _value(name, shape, random):
  noise = random.standard_normal(shape)
  if name.endswith('running_var'):
    return np.exp(0.3 * noise)
  if name.endswith('running_mean'):
    return 0.2 * noise
  if len(shape) == 4:
    return noise * np.sqrt(2 / np.prod(shape[1:]))
  # Scales and shifts; biases around 0, scales around 1.
  return 0.2 * noise + (0.0 if name.endswith('bias') else 1.0)


def weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """Values for arrays of these PyTorch names, float64."""
  random = np.random.RandomState(0)
  return {name: _value(name, shapes[name], random) for name in sorted(shapes)}


def pictures(case: Case) -> np.ndarray:
  """`(B, H, W, 3)` in [0, 1], float64."""
  shape = (BATCH, case.image_size, case.image_size, 3)
  return np.random.RandomState(1).random_sample(shape)


def cotangent(case: Case) -> np.ndarray:
  """`(B, Z)`, float64."""
  return np.random.RandomState(2).standard_normal((BATCH, case.latent_dim))


def kept(array: np.ndarray) -> np.ndarray:
  """Up to 96 entries of an array, spread over it, and a sum of all."""
  flat = np.asarray(array).reshape(-1)
  places = np.linspace(0, flat.size - 1, min(_KEPT, flat.size)).astype(int)
  total = flat @ np.random.RandomState(3).standard_normal(flat.size)
  return np.append(flat[places], total)
