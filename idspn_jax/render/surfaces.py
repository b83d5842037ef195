"""Textures of light over objects: a small cube map around each of them.

Its texels are points on the surface, the same for every object of a shape.
"""

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.render import constants
from idspn_jax.render.vectors import Vector

SIDE = 3
TEXELS = 6 * SIDE * SIDE


def _map_points():
  """Texels on the cube |x|, |y|, |z| ≤ 1, face by face, `(TEXELS, 3)`."""
  middles = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
  u, v = (a.ravel() for a in np.meshgrid(middles, middles, indexing='ij'))
  faces = []
  for axis in range(3):
    for sign in (1.0, -1.0):
      face = np.zeros((SIDE * SIDE, 3))
      face[:, axis] = sign
      face[:, (axis + 1) % 3] = u
      face[:, (axis + 2) % 3] = v
      faces.append(face)
  return np.concatenate(faces)


def _tables():
  """Points and normals in the unit shapes' frames, `(3, TEXELS, 3)`."""
  cube = _map_points()
  flat = np.repeat(np.eye(3), 2, axis=0) * np.tile([[1], [-1]], (3, 1))
  flat = np.repeat(flat, SIDE * SIDE, axis=0)
  sphere = cube / np.linalg.norm(cube, axis=-1, keepdims=True)
  across = cube[:, :2]
  squared = np.linalg.norm(across, axis=-1, keepdims=True)
  largest = np.max(np.abs(across), axis=-1, keepdims=True)
  round_ = across * largest / np.maximum(squared, 1e-9)
  cylinder = np.concatenate([round_, cube[:, 2:]], axis=-1)
  side = np.concatenate([round_, 0 * cube[:, 2:]], axis=-1)
  normals = np.where(np.abs(flat[:, 2:]) > 0, flat, side)
  points = {
    constants.SPHERE: (sphere, sphere),
    constants.CUBE: (cube, flat),
    constants.CYLINDER: (cylinder, normals),
  }
  stacked = [np.stack([points[k][n] for k in range(3)]) for n in range(2)]
  return [table.astype(np.float32) for table in stacked]


POINTS, NORMALS = _tables()


def locate(shape: int, point: Vector) -> tuple[jax.Array, jax.Array]:
  """Where points of a unit shape's surface lie in its texture.

  Returns:
    Indices of four texels and their weights, each `(4, ...)`.
  """
  x, y, z = point
  if shape == constants.CYLINDER:
    square = jnp.maximum(jnp.maximum(jnp.abs(x), jnp.abs(y)), 1e-9)
    stretch = jnp.sqrt(x * x + y * y) / square
    x, y = x * stretch, y * stretch
  ax, ay, az = jnp.abs(x), jnp.abs(y), jnp.abs(z)
  if shape == constants.CYLINDER:
    # The rim belongs to the side, whose normals it continues.
    az = jnp.where(az > 0.999, az, 0)
  on_z = (az >= ax) & (az >= ay)
  on_x = ~on_z & (ax >= ay)
  major = jnp.where(on_z, z, jnp.where(on_x, x, y))
  u = jnp.where(on_z, x, jnp.where(on_x, y, z))
  v = jnp.where(on_z, y, jnp.where(on_x, z, x))
  face = jnp.where(on_z, 4, jnp.where(on_x, 0, 2)) + (major < 0)
  inverse = 1 / jnp.maximum(jnp.abs(major), 1e-9)

  def split(w):
    w = jnp.clip((w * inverse + 1) * (SIDE / 2) - 0.5, 0, SIDE - 1)
    low = jnp.minimum(w.astype(jnp.int32), SIDE - 2)
    return low, w - low

  (i, a), (j, b) = split(u), split(v)
  first = (face * SIDE + i) * SIDE + j
  steps = (0, 1, SIDE, SIDE + 1)
  weights = ((1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b)
  return jnp.stack([first + s for s in steps]), jnp.stack(weights)


def look_up(texture: jax.Array, shape: int, point: Vector) -> Vector:
  """The values of a texture `(TEXELS, 3)` at points of a unit shape."""
  indices, weights = locate(shape, point)
  channels = []
  for c in range(3):
    values = texture[:, c].at[indices].get(mode='promise_in_bounds')
    channels.append(jnp.sum(values * weights, axis=0))
  return tuple(channels)
