"""Textures around objects: exact at texels, without seams where smooth."""

import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.render import constants
from idspn_jax.render import surfaces


@pytest.fixture(scope='module')
def textures():
  """Any light for every shape."""
  rng = np.random.default_rng(0)
  return rng.uniform(size=(3, surfaces.TEXELS, 3)).astype(np.float32)


def look_up(textures, shape, points):
  bordered = surfaces.with_borders(jnp.arange(3), textures)[shape]
  points = tuple(np.asarray(points, np.float32).T)
  return np.stack(surfaces.look_up(bordered, shape, points), -1)


@pytest.mark.parametrize('shape', range(3))
def test_texels_keep_their_values(textures, shape):
  found = look_up(textures, shape, surfaces.POINTS[shape])
  np.testing.assert_allclose(found, textures[shape], atol=1e-5)


@pytest.mark.parametrize('axes', [(0, 1), (1, 2), (0, 2)])
def test_spheres_have_no_seams(textures, axes):
  points = np.random.default_rng(1).normal(size=(1000, 3))
  # Where two faces of the map meet.
  first, second = axes
  points[:, second] = np.copysign(points[:, first], points[:, second])
  sides = []
  for scale in (1 - 1e-5, 1 + 1e-5):
    moved = points.copy()
    moved[:, first] *= scale
    moved /= np.linalg.norm(moved, axis=-1, keepdims=True)
    sides.append(look_up(textures, constants.SPHERE, moved))
  np.testing.assert_allclose(*sides, atol=1e-3)


def test_cylinders_have_no_seams_around_their_side(textures):
  rng = np.random.default_rng(2)
  z = rng.uniform(-0.99, 0.99, 1000)
  corner = np.pi / 4 + np.pi / 2 * rng.integers(4, size=1000)
  sides = [
    look_up(
      textures,
      constants.CYLINDER,
      np.stack([np.cos(angle), np.sin(angle), z], axis=-1),
    )
    for angle in (corner - 1e-5, corner + 1e-5)
  ]
  np.testing.assert_allclose(*sides, atol=1e-3)


def test_faces_of_cubes_stay_apart(textures):
  # A top's light is its own up to the edge.
  top = 4 * surfaces.SIDE**2
  textures = np.zeros_like(textures)
  textures[:, top : top + surfaces.SIDE**2] = 1
  points = [(0.99, 0.3, 1.0), (1.0, 0.3, 0.99)]
  found = look_up(textures, constants.CUBE, points)
  np.testing.assert_allclose(found, [[1, 1, 1], [0, 0, 0]], atol=1e-6)
