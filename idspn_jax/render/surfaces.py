"""Textures of light over objects: a small cube map around each of them.

Its texels are points on the surface, the same for every object of a shape.
Between texels light is interpolated, also from face to face where the surface
is smooth there; `with_borders` prepares this.
"""

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.render import constants
from idspn_jax.render.vectors import Vector

SIDE = 3
TEXELS = 6 * SIDE * SIDE
_PADDED = SIDE + 2


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


def _neighbour(axis, sign, place):
  """The number of the texel at a place beyond one edge of a face.

  Args:
    axis: of the face.
    sign: of the face along it.
    place: two coordinates within the face's plane; one is beyond ±1, by as much
      as the outermost texel is within it.
  """
  point = np.zeros(3)
  point[axis] = sign * (1 - 1 / SIDE)
  point[(axis + 1) % 3], point[(axis + 2) % 3] = np.clip(place, -1, 1)
  return int(np.argmin(np.sum((_map_points() - point) ** 2, -1)))


def _borders():
  """Matrices that surround every face with a border, by shape.

  Beyond an edge lies the neighbouring face's outermost texel where the surface
  goes on smoothly, and the face's own outermost one elsewhere.

  Returns:
    `(3, 6 · PADDED², TEXELS)`, float32.
  """
  table = np.zeros((3, 6, _PADDED, _PADDED, TEXELS), np.float32)
  middles = ((np.arange(_PADDED) - 0.5) / SIDE) * 2 - 1
  own = np.clip(np.arange(_PADDED) - 1, 0, SIDE - 1)
  for shape, face in np.ndindex(3, 6):
    axis, sign = face // 2, 1 - 2 * (face % 2)
    across = [(axis + 1) % 3, (axis + 2) % 3]
    for i, j in np.ndindex(_PADDED, _PADDED):
      here = (face * SIDE + own[i]) * SIDE + own[j]
      inside = [middles[own[i] + 1], middles[own[j] + 1]]
      sources = []
      for k in (0, 1):
        outside = (i, j)[k] in (0, _PADDED - 1)
        # Around the cylinder's side, not over its rims.
        side = shape == constants.CYLINDER and axis < 2 and across[k] < 2
        if outside and (shape == constants.SPHERE or side):
          place = list(inside)
          place[k] = middles[(i, j)[k]]
          sources.append(_neighbour(axis, sign, place))
      # Three faces meet in a corner.
      if len(sources) != 1:
        sources.append(here)
      for source in sources:
        table[shape, face, i, j, source] += 1 / len(sources)
  return table.reshape(3, -1, TEXELS)


_BORDERS = _borders()


def with_borders(shapes: jax.Array, textures: jax.Array) -> jax.Array:
  """Textures `(N, TEXELS, 3)` of objects, as `look_up` reads them."""
  return jnp.einsum(
    'nbt,ntc->nbc', jnp.asarray(_BORDERS)[shapes], textures, precision='highest'
  )


def locate(shape: int, point: Vector) -> tuple[jax.Array, jax.Array]:
  """Where points of a unit shape's surface lie in its texture.

  Returns:
    Indices of four texels of a texture with borders and their weights, each
    `(4, ...)`.
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
    w = jnp.clip((w * inverse + 1) * (SIDE / 2) + 0.5, 0, _PADDED - 1)
    low = jnp.minimum(w.astype(jnp.int32), _PADDED - 2)
    return low, w - low

  (i, a), (j, b) = split(u), split(v)
  first = (face * _PADDED + i) * _PADDED + j
  steps = (0, 1, _PADDED, _PADDED + 1)
  weights = ((1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b)
  return jnp.stack([first + s for s in steps]), jnp.stack(weights)


def look_up(texture: jax.Array, shape: int, point: Vector) -> Vector:
  """The values of a texture with borders at points of a unit shape."""
  indices, weights = locate(shape, point)
  channels = []
  for c in range(3):
    values = texture[:, c].at[indices].get(mode='promise_in_bounds')
    channels.append(jnp.sum(values * weights, axis=0))
  return tuple(channels)
