"""Which object each sample of an image shows, and at what depth."""

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.render import blocks
from idspn_jax.render import camera as camera_lib
from idspn_jax.render import constants
from idspn_jax.render import geometry
from idspn_jax.render.vectors import Vector


def corners(solids: geometry.Solid, margin: float = 0.0) -> Vector:
  """Corners of boxes around solids, wider by `margin`, `(N, 8)` each."""
  cube = solids.shape == constants.CUBE
  turned = jnp.abs(solids.cosine) + jnp.abs(solids.sine)
  half = solids.radius * jnp.where(cube, turned, 1) + margin
  signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, 8)
  signs = jnp.asarray(signs, jnp.float32)
  halves = (half, half, solids.radius)
  return tuple(
    c[:, None] + h[:, None] * s[None]
    for c, h, s in zip(solids.center, halves, signs, strict=True)
  )


def on_samples(
  camera: camera_lib.Camera, point: Vector, width: int, height: int
) -> Vector:
  """Columns and rows of points on an image of this many samples."""
  x, y, depth = camera_lib.project(camera, point)
  return (
    x * (width / constants.WIDTH),
    y * (height / constants.HEIGHT),
    depth,
  )


def directions(
  camera: camera_lib.Camera,
  x: jax.Array,
  y: jax.Array,
  width: int,
  height: int,
) -> Vector:
  """Rays through samples: middles in columns and rows of an image."""
  return camera_lib.directions(
    camera, x * (constants.WIDTH / width), y * (constants.HEIGHT / height)
  )


def visible(
  solids: geometry.Solid,
  count: jax.Array,
  camera: camera_lib.Camera,
  width: int,
  height: int,
) -> tuple[jax.Array, jax.Array]:
  """Which object each sample of an image shows.

  Args:
    solids: attributes `(N,)`.
    count: how many of them exist.
    camera: where the image is taken.
    width: columns of samples.
    height: rows of samples.

  Returns:
    Depth (1e9 on the ground) and the object's row (-1 on the ground), both
    `(H, W)` with sides padded to multiples of a block's.
  """
  x, y, _ = on_samples(camera, corners(solids), width, height)
  where = blocks.rectangle(x, y, width, height)
  shape = (
    blocks.padded(height, blocks.ROWS),
    blocks.padded(width, blocks.COLUMNS),
  )

  def draw(row, images):
    solid = jax.tree.map(lambda a: a[row], solids)

    def function(top, left, parts):
      x, y = blocks.coordinates(top, left)
      rays = directions(camera, x, y, width, height)

      def of_shape(shape, depth, index):
        t = geometry.hit(shape, solid, camera.position, rays)
        return jnp.minimum(t, depth), jnp.where(t < depth, row, index)

      return geometry.switch(solid, of_shape, *parts)

    return blocks.update(where[:, row], images, function)

  start = jnp.full(shape, geometry.FAR), jnp.full(shape, -1, jnp.int32)
  return jax.lax.fori_loop(0, count, draw, start)
