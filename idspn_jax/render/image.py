"""Scenes into pictures of any size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.render import blocks
from idspn_jax.render import bounces
from idspn_jax.render import camera as camera_lib
from idspn_jax.render import constants
from idspn_jax.render import geometry
from idspn_jax.render import ground
from idspn_jax.render import lights
from idspn_jax.render import scenes as scenes_lib
from idspn_jax.render import shading
from idspn_jax.render import vectors

# Samples of a pixel, along either axis.
SAMPLES = 2


def _corners(solids, margin=0.0):
  """Corners of boxes around solids, each coordinate `(N, 8)`."""
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


def _on_samples(camera, point, width, height):
  """Columns and rows of points on an image of this many samples."""
  x, y, depth = camera_lib.project(camera, point)
  return (
    x * (width / constants.WIDTH),
    y * (height / constants.HEIGHT),
    depth,
  )


def directions(camera, x, y, width, height):
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
  x, y, _ = _on_samples(camera, _corners(solids), width, height)
  where = blocks.rectangle(x, y, width, height)
  shape = (
    blocks.padded(height, blocks.ROWS),
    blocks.padded(width, blocks.COLUMNS),
  )

  def draw(row, images):
    solid = jax.tree.map(lambda a: a[row], solids)

    def of_shape(shape, images):
      def function(top, left, parts):
        depth, index = parts
        x, y = blocks.coordinates(top, left)
        rays = directions(camera, x, y, width, height)
        t = geometry.hit(shape, solid, camera.position, rays)
        return jnp.minimum(t, depth), jnp.where(t < depth, row, index)

      return blocks.update(where[:, row], images, function)

    return geometry.switch(solid, of_shape, images)

  start = jnp.full(shape, geometry.FAR), jnp.full(shape, -1, jnp.int32)
  return jax.lax.fori_loop(0, count, draw, start)


def _shadow_rectangles(solids, camera, lamps, index, width, height):
  """Blocks that may lie in the solids' shadows from one light, `(4, N)`."""
  corners = _corners(solids, 0.15)
  if index == lights.NUM_LAMPS:
    t = corners[2] / constants.SUN_DIRECTION[2]
    flat = [c - t * d for c, d in zip(corners, constants.SUN_DIRECTION, strict=True)]
  else:
    lamp = lamps[index].position
    t = lamp[2] / jnp.maximum(lamp[2] - corners[2], 0.2)
    flat = [p + t * (c - p) for c, p in zip(corners, lamp, strict=True)]
  ground_points = flat[0], flat[1], jnp.zeros_like(flat[0])
  x, y, depth = _on_samples(camera, ground_points, width, height)
  seen = jnp.all(depth > 0.5, axis=-1, keepdims=True)
  ends = jnp.asarray([0.0, 1.0])[None]
  ends = jnp.broadcast_to(
    jnp.concatenate([ends] * 4, axis=-1), x.shape
  )
  x = jnp.where(seen, x, ends * width)
  y = jnp.where(seen, y, ends * height)
  return blocks.rectangle(x, y, width, height)


def _ground_image(look, objects, camera, lamps, light, width, height):
  """Radiance of the ground at samples, three images, and shadows on it."""
  rows = blocks.padded(height, blocks.ROWS)
  columns = blocks.padded(width, blocks.COLUMNS)
  x = jax.lax.broadcasted_iota(jnp.float32, (rows, columns), 1) + 0.5
  y = jax.lax.broadcasted_iota(jnp.float32, (rows, columns), 0) + 0.5
  rays = directions(camera, x, y, width, height)
  t = camera.position[2] / jnp.maximum(-rays[2], 1e-3)
  gx = camera.position[0] + t * rays[0]
  gy = camera.position[1] + t * rays[1]
  points = gx, gy, jnp.zeros_like(gx)
  positions, radii = lights.sources(lamps, look.sun_softness)
  passed = []
  for k in range(lights.NUM_LIGHTS):
    where = _shadow_rectangles(
      objects.solids, camera, lamps, k, width, height
    )

    def cast(row, image, k=k, where=where):
      solid = objects.solid(row)

      def of_shape(shape, image):
        def function(top, left, part):
          size = (blocks.ROWS, blocks.COLUMNS)
          here = [
            jax.lax.dynamic_slice(p, (top, left), size) for p in points
          ]
          return part * lights.transmitted(
            shape, solid, positions[k], radii[k], tuple(here)
          )

        return blocks.update(where[:, row], image, function)

      return geometry.switch(solid, of_shape, image)

    image = jnp.ones((rows, columns))
    passed.append(jax.lax.fori_loop(0, objects.count, cast, image))
  radiance = ground.radiance(look, lamps, points, passed)
  bounce = ground.look_up(light.bounce, gx, gy)
  return vectors.add(radiance, bounce)


def _objects_image(look, objects, camera, lamps, light, seen, image):
  """Draws the objects over the ground's image."""
  depth, index, width, height = seen
  x, y, _ = _on_samples(camera, _corners(objects.solids), width, height)
  where = blocks.rectangle(x, y, width, height)

  def draw(row, image):
    def function(top, left, image):
      size = (blocks.ROWS, blocks.COLUMNS)
      t = jax.lax.dynamic_slice(depth, (top, left), size)
      mine = jax.lax.dynamic_slice(index, (top, left), size) == row

      def shaded(image):
        x, y = blocks.coordinates(top, left)
        rays = directions(camera, x, y, width, height)
        point = vectors.along(camera.position, rays, jnp.where(mine, t, 1))
        color = shading.shade(
          look, objects, lamps, light, row, camera.position, point
        )
        return tuple(
          jnp.where(mine, c, old) for c, old in zip(color, image, strict=True)
        )

      return jax.lax.cond(jnp.any(mine), shaded, lambda i: i, image)

    return blocks.update(where[:, row], image, function)

  return jax.lax.fori_loop(0, objects.count, draw, image)


def encode(radiance: jax.Array) -> jax.Array:
  """Linear radiance as sRGB, 0 to 1."""
  value = jnp.clip(radiance, 0.0, 1.0)
  curve = 1.055 * jnp.maximum(value, 1e-6) ** (1 / 2.4) - 0.055
  return jnp.where(value <= 0.0031308, 12.92 * value, curve)


def _shrink(image, width, height, taper):
  """Weights (taper, ½ − taper, ½ − taper, taper) over samples, each axis."""
  image = image[: height * SAMPLES, : width * SAMPLES]
  for axis in (0, 1):
    image = jnp.moveaxis(image, axis, 0)
    first, second = image[0::2], image[1::2]
    none = jnp.zeros_like(first[:1])
    before = jnp.concatenate([none, second[:-1]])
    after = jnp.concatenate([first[1:], none])
    image = (0.5 - taper) * (first + second) + taper * (before + after)
    # At the picture's ends the kernel is cut off.
    lost = np.zeros((image.shape[0], 1), np.float32)
    lost[0] += 1
    lost[-1] += 1
    image = jnp.moveaxis(image / (1 - taper * lost), 0, axis)
  return image


def render_scene(
  scene: scenes_lib.Scenes,
  look: constants.Look,
  width: int,
  height: int,
) -> jax.Array:
  """Renders one scene.

  Args:
    scene: one scene.
    look: fitted numbers.
    width: columns; the whole view is squashed into the picture.
    height: rows.

  Returns:
    `(height, width, 3)`, float32, sRGB from 0 to 1.
  """
  camera = camera_lib.look_at_origin(scene.camera)
  lamps = lights.lamps_of(scene.lamps)
  objects = bounces.Objects(
    solids=scenes_lib.solids_of(scene),
    color=jnp.asarray(constants.COLORS)[scene.colors],
    material=scene.materials,
    count=jnp.sum(scene.presence),
  )
  light = bounces.gather(look, objects, lamps)
  size = width * SAMPLES, height * SAMPLES
  depth, index = visible(objects.solids, objects.count, camera, *size)
  import os
  if os.environ.get('GF','1')=='1':
    image = _ground_image(look, objects, camera, lamps, light, width, height)
    image = tuple(jnp.repeat(jnp.repeat(i,2,0),2,1)[:depth.shape[0],:depth.shape[1]] for i in image)
  else:
    image = _ground_image(look, objects, camera, lamps, light, *size)
  image = _objects_image(
    look, objects, camera, lamps, light, (depth, index, *size), image
  )
  taper = look.taper
  return jnp.stack(
    [_shrink(encode(c), width, height, taper) for c in image], axis=-1
  )


@functools.partial(jax.jit, static_argnames=('width', 'height'))
def render(
  scenes: scenes_lib.Scenes,
  look: constants.Look,
  width: int,
  height: int,
) -> jax.Array:
  """Renders scenes `(B, ...)` as `(B, height, width, 3)`."""
  return jax.lax.map(
    lambda scene: render_scene(scene, look, width, height), scenes
  )
