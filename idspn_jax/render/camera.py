"""The camera: rays through pixels, and the pixels of points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.render import constants
from idspn_jax.render import vectors
from idspn_jax.render.vectors import Vector


class Camera(NamedTuple):
  """Where a camera stands and its axes, unit vectors of scalars."""

  position: Vector
  right: Vector
  up: Vector
  forward: Vector


def look_at_origin(position: jax.Array) -> Camera:
  """A camera at `position`, `(3,)`, that faces the origin, z upwards."""
  where = vectors.unstack(position)
  back = vectors.normalize(where)
  right = vectors.normalize((-back[1], back[0], jnp.zeros_like(back[0])))
  return Camera(
    position=where,
    right=right,
    up=vectors.cross(back, right),
    forward=vectors.scale(back, jnp.float32(-1)),
  )


def directions(camera: Camera, x: jax.Array, y: jax.Array) -> Vector:
  """Directions of rays through points of the picture.

  Args:
    camera: where they start.
    x: from the left edge, in pixels of the 480 × 320 picture.
    y: from the upper edge, in the same pixels.

  Returns:
    Directions whose component along the camera's axis is 1, so that t along
    them is depth.
  """
  across = (x - constants.WIDTH / 2) / constants.FOCAL_PIXELS
  up = (constants.HEIGHT / 2 - y) / constants.FOCAL_PIXELS
  return tuple(
    across * r + up * u + f
    for r, u, f in zip(camera.right, camera.up, camera.forward, strict=True)
  )


def project(camera: Camera, point: Vector) -> Vector:
  """The picture's x and y (pixels of 480 × 320) and the depth of points."""
  moved = vectors.subtract(point, camera.position)
  depth = vectors.dot(moved, camera.forward)
  scale = constants.FOCAL_PIXELS / depth
  x = constants.WIDTH / 2 + scale * vectors.dot(moved, camera.right)
  y = constants.HEIGHT / 2 - scale * vectors.dot(moved, camera.up)
  return x, y, depth


def pixel_coords(points: np.ndarray, position: np.ndarray) -> np.ndarray:
  """The `pixel_coords` of scene files, in float64 on the host.

  Args:
    points: in scene units, `(..., 3)`.
    position: of the camera, `(3,)`.

  Returns:
    Column and row in the 480 × 320 picture, rounded, and depth, `(..., 3)`.
  """
  position = np.asarray(position, np.float64)
  back = position / np.linalg.norm(position)
  right = np.cross([0.0, 0.0, 1.0], back)
  right /= np.linalg.norm(right)
  axes = np.stack([right, np.cross(back, right), -back], axis=-1)
  x, y, depth = np.moveaxis((points - position) @ axes, -1, 0)
  focal = constants.FOCAL_PIXELS
  column = np.round(constants.WIDTH / 2 + focal * x / depth)
  row = np.round(constants.HEIGHT / 2 - focal * y / depth)
  return np.stack([column, row, depth], axis=-1)
