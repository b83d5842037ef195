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
from idspn_jax.render import loops
from idspn_jax.render import scenes as scenes_lib
from idspn_jax.render import shading
from idspn_jax.render import single_precision
from idspn_jax.render import vectors
from idspn_jax.render import visibility

# Samples of a pixel, along either axis.
SAMPLES = 2
# Scenes that are rendered together, except on CPUs.
_TOGETHER = 16


def _shadow_rectangles(solids, camera, lamps, index, width, height):
  """Blocks that may lie in the solids' shadows from one light, `(4, N)`."""
  corners = visibility.corners(solids, 0.15)
  if index == lights.NUM_LAMPS:
    t = corners[2] / constants.SUN_DIRECTION[2]
    flat = [
      c - t * d for c, d in zip(corners, constants.SUN_DIRECTION, strict=True)
    ]
  else:
    lamp = lamps[index].position
    t = lamp[2] / jnp.maximum(lamp[2] - corners[2], 0.2)
    flat = [p + t * (c - p) for c, p in zip(corners, lamp, strict=True)]
  ground_points = flat[0], flat[1], jnp.zeros_like(flat[0])
  x, y, depth = visibility.on_samples(camera, ground_points, width, height)
  seen = jnp.all(depth > 0.5, axis=-1, keepdims=True)
  ends = jnp.asarray([0.0, 1.0])[None]
  ends = jnp.broadcast_to(jnp.concatenate([ends] * 4, axis=-1), x.shape)
  x = jnp.where(seen, x, ends * width)
  y = jnp.where(seen, y, ends * height)
  return blocks.rectangle(x, y, width, height)


def _ground_image(look, objects, camera, lamps, light, width, height):
  """Radiance of the ground at samples, three images, and shadows on it."""
  rows = blocks.padded(height, blocks.ROWS)
  columns = blocks.padded(width, blocks.COLUMNS)
  x = jax.lax.broadcasted_iota(jnp.float32, (rows, columns), 1) + 0.5
  y = jax.lax.broadcasted_iota(jnp.float32, (rows, columns), 0) + 0.5
  rays = visibility.directions(camera, x, y, width, height)
  t = camera.position[2] / jnp.maximum(-rays[2], 1e-3)
  gx = camera.position[0] + t * rays[0]
  gy = camera.position[1] + t * rays[1]
  points = gx, gy, jnp.zeros_like(gx)
  positions, radii = lights.sources(lamps, look.sun_softness)
  where = jnp.stack(
    [
      _shadow_rectangles(objects.solids, camera, lamps, k, width, height)
      for k in range(lights.NUM_LIGHTS)
    ]
  )
  size = (blocks.ROWS, blocks.COLUMNS)

  def cast(pair, images):
    k, row = pair % lights.NUM_LIGHTS, pair // lights.NUM_LIGHTS
    solid = objects.solid(row)

    def function(top, left, parts):
      here = tuple(jax.lax.dynamic_slice(p, (top, left), size) for p in points)
      dimmed = geometry.switch(
        solid,
        lambda shape: lights.transmitted(
          shape, solid, positions[k], radii[k], here
        ),
      )
      return parts * dimmed

    return blocks.update(where[k, :, row], images, function, k)

  passed = jnp.ones((lights.NUM_LIGHTS, rows, columns))
  pairs = objects.count * lights.NUM_LIGHTS
  passed = jax.lax.fori_loop(0, pairs, cast, passed)
  radiance = ground.radiance(look, lamps, points, passed)
  bounce = ground.look_up(light.bounce, gx, gy)
  return vectors.add(radiance, bounce)


def _objects_image(look, objects, camera, lamps, light, seen, image):
  """Draws the objects over the ground's image."""
  depth, index, width, height = seen
  x, y, _ = visibility.on_samples(
    camera, visibility.corners(objects.solids), width, height
  )
  where = blocks.rectangle(x, y, width, height)

  def draw(row, image):
    def function(top, left, image):
      size = (blocks.ROWS, blocks.COLUMNS)
      t = jax.lax.dynamic_slice(depth, (top, left), size)
      mine = jax.lax.dynamic_slice(index, (top, left), size) == row

      def shaded(image):
        x, y = blocks.coordinates(top, left)
        rays = visibility.directions(camera, x, y, width, height)
        point = vectors.along(camera.position, rays, jnp.where(mine, t, 1))
        color = shading.shade(
          look, objects, lamps, light, row, camera.position, point, mine
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
  # Three times as fast as a power on CPUs, and as exact as pictures need.
  root = jnp.exp(jnp.log(jnp.maximum(value, 1e-6)) * (1 / 2.4))
  return jnp.where(value <= 0.0031308, 12.92 * value, 1.055 * root - 0.055)


def _shrink(image, width, height, taper):
  """Weights (taper, ½ − taper, ½ − taper, taper) over samples, each axis."""
  image = image[: height * SAMPLES, : width * SAMPLES]
  for axis in (0, 1):
    # So that no sample is encoded more than once.
    image = jax.lax.optimization_barrier(image)
    pairs = [slice(None), slice(None)]
    pairs[axis] = slice(0, None, 2)
    first = image[tuple(pairs)]
    pairs[axis] = slice(1, None, 2)
    second = image[tuple(pairs)]
    count = first.shape[axis]
    before = jax.lax.slice_in_dim(second, 0, count - 1, axis=axis)
    after = jax.lax.slice_in_dim(first, 1, count, axis=axis)
    padding = np.zeros((2, 2), int)
    padding[axis] = 1, 0
    before = jnp.pad(before, padding)
    after = jnp.pad(after, padding[:, ::-1])
    image = (0.5 - taper) * (first + second) + taper * (before + after)
    # At the picture's ends the kernel is cut off.
    lost = np.zeros(count, np.float32)
    lost[0] += 1
    lost[-1] += 1
    image = image / (1 - taper * jnp.expand_dims(lost, 1 - axis))
  return image


@single_precision.in_float32
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
  depth, index = visibility.visible(
    objects.solids, objects.count, camera, *size
  )
  # The ground changes little within a pixel.
  image = _ground_image(look, objects, camera, lamps, light, width, height)
  image = tuple(
    jnp.repeat(jnp.repeat(c, SAMPLES, axis=0), SAMPLES, axis=1)[
      : depth.shape[0], : depth.shape[1]
    ]
    for c in image
  )
  image = _objects_image(
    look, objects, camera, lamps, light, (depth, index, *size), image
  )
  taper = look.taper
  return jnp.stack(
    [_shrink(encode(c), width, height, taper) for c in image], axis=-1
  )


def as_bytes(pictures: jax.Array) -> jax.Array:
  """Pictures from 0 to 1 as uint8, rounded."""
  return jnp.round(pictures * 255).astype(jnp.uint8)


@single_precision.in_float32
def render(
  scenes: scenes_lib.Scenes,
  look: constants.Look,
  width: int,
  height: int,
  batch_size: int | None = None,
) -> jax.Array:
  """Renders scenes.

  One after another every scene takes only the branches and steps that it needs,
  which suits CPUs; together they take those of all, which suits accelerators.
  The default for accelerators is a guess: it has not been measured on one.

  Args:
    scenes: `(B, ...)`.
    look: fitted numbers.
    width: columns; the whole view is squashed into the picture.
    height: rows.
    batch_size: how many scenes are rendered together, at least 1; pictures
      hardly depend on it. None: 1 on CPUs, 16 elsewhere.

  Returns:
    `(B, height, width, 3)`, float32, sRGB from 0 to 1.

  Raises:
    ValueError: if `batch_size` is less than 1.
  """
  if batch_size is None:
    batch_size = 1 if jax.default_backend() == 'cpu' else _TOGETHER
  if batch_size < 1:
    raise ValueError(f'batch_size is {batch_size}; it must be at least 1.')
  return _render(scenes, look, width, height, batch_size)


@functools.partial(jax.jit, static_argnames=('width', 'height', 'batch_size'))
def _render(scenes, look, width, height, batch_size):
  def one(scene):
    return render_scene(scene, look, width, height)

  if batch_size == 1:
    return loops.map_in_turn(one, scenes)
  return jax.lax.map(one, scenes, batch_size=batch_size)
