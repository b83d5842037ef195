"""The radiance that objects send to the camera: rubber and metal.

Rubber: a diffuse part in the object's colour under a white gloss. Metal: a
sharp and a rough mirror in the object's colour, which show ground, backdrop,
other objects and, as highlights, lamps and sun.
"""

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.render import bounces
from idspn_jax.render import constants
from idspn_jax.render import geometry
from idspn_jax.render import lights
from idspn_jax.render import surfaces
from idspn_jax.render import vectors
from idspn_jax.render.vectors import Vector


def fresnel(cosine: jax.Array) -> jax.Array:
  """Part of unpolarised light that a dielectric reflects."""
  n = constants.REFRACTIVE_INDEX
  g = jnp.sqrt(n * n - 1 + cosine * cosine)
  a = (g - cosine) / (g + cosine)
  b = (cosine * (g + cosine) - 1) / (cosine * (g - cosine) + 1)
  return 0.5 * a * a * (1 + b * b)


def _ggx(cosine, squared):
  """The distribution of normals of roughness² `squared`."""
  k = cosine * cosine * (squared - 1) + 1
  return squared / (np.pi * k * k)


def _beckmann(cosine, squared):
  c2 = jnp.maximum(cosine * cosine, 1e-4)
  slope = (1 - c2) / (c2 * squared)
  return jnp.exp(-slope) / (np.pi * squared * c2 * c2)


def _highlight(look, lamps, passed, point, normal, view, squared, distribution):
  """Lamps and sun in a mirror whose lobe integrates to 1, RGB."""
  total = [jnp.zeros_like(point[0])] * 3
  towards = jnp.maximum(vectors.dot(normal, view), 0.05)
  for k in range(lights.NUM_LIGHTS):
    strength, direction = lights.strength(k, lamps, point)
    half = vectors.normalize(vectors.add(direction, view))
    if k == lights.NUM_LAMPS:
      spread = look.sun_softness * look.sun_softness
    else:
      spread = lights.angular_radius_squared(k, lamps)
    wide = squared + look.highlight * spread
    lobe = distribution(jnp.maximum(vectors.dot(normal, half), 0), wide)
    front = jnp.clip(vectors.dot(normal, direction) * 20, 0, 1)
    value = lobe * strength * passed[k] * front / (4 * towards)
    for c, color in enumerate(lights.intensity(k)):
      total[c] = total[c] + np.float32(color) * value
  return tuple(total)


def reflected(
  look: constants.Look,
  objects: bounces.Objects,
  lamps: list[lights.Lamp],
  light: bounces.Light,
  row: jax.Array,
  point: Vector,
  direction: Vector,
) -> Vector:
  """Radiance along unit directions from points on object `row`."""
  radiance = bounces.ground_seen(look, lamps, light.ratio, point, direction)
  nearest = jnp.full_like(point[0], geometry.FAR)

  def body(other, state):
    solid = objects.solid(other)

    def trace(shape, state):
      nearest, radiance = state
      t = geometry.hit(shape, solid, point, direction)
      closer = t < nearest

      def see(radiance):
        there = vectors.along(point, direction, jnp.where(closer, t, 0))
        local = geometry.point_to_frame(solid, there)
        seen = surfaces.look_up(light.sent[other], shape, local)
        return tuple(
          jnp.where(closer, s, r) for s, r in zip(seen, radiance, strict=True)
        )

      radiance = jax.lax.cond(jnp.any(closer), see, lambda r: r, radiance)
      return jnp.minimum(t, nearest), radiance

    near = geometry.may_hit(solid, point, direction)
    return jax.lax.cond(
      (other != row) & jnp.any(near),
      lambda s: geometry.switch(solid, trace, s),
      lambda s: s,
      state,
    )

  state = jax.lax.fori_loop(0, objects.count, body, (nearest, radiance))
  return state[1]


def _rubber(look, objects, lamps, row, surface):
  point, normal, view, received, passed = surface
  irradiance = bounces.direct(lamps, point, normal, passed)
  f = fresnel(jnp.maximum(vectors.dot(normal, view), 0))
  alpha = look.rubber_alpha * look.rubber_alpha
  gloss = _highlight(look, lamps, passed, point, normal, view, alpha, _beckmann)
  mirror = vectors.reflect(vectors.scale(view, jnp.float32(-1)), normal)
  down = jnp.clip(0.5 - mirror[2], 0, 1)
  diffuse = look.rubber_diffuse / np.pi
  return tuple(
    objects.color[row, c] * diffuse * (irradiance[c] + received[c])
    + f * (look.rubber_gloss * gloss[c])
    + f * look.rubber_ground * down * received[c] * (2 / np.pi)
    for c in range(3)
  )


# Offsets of the rays of the rough mirror, in units of its roughness.
_ROUGH = ((1.4, 0.0), (-0.7, 1.212), (-0.7, -1.212))


def _rough_directions(look, mirror, normal):
  """Directions around the mirrored ones, each coordinate `(3, ...)`."""
  side = vectors.normalize(vectors.cross(mirror, _unlike(mirror)))
  other = vectors.cross(side, mirror)
  offsets = jnp.asarray(_ROUGH).reshape(-1, 2, *([1] * mirror[0].ndim))
  offsets = offsets * look.rough_alpha
  direction = vectors.normalize(
    tuple(
      m[None] + offsets[:, 0] * a[None] + offsets[:, 1] * b[None]
      for m, a, b in zip(mirror, side, other, strict=True)
    )
  )
  # Directions below the surface are turned back to it.
  normal = tuple(n[None] for n in normal)
  below = jnp.minimum(vectors.dot(direction, normal), 0)
  return vectors.normalize(
    vectors.subtract(direction, vectors.scale(normal, 2 * below))
  )


def _unlike(direction):
  """A unit vector that is not parallel to unit directions."""
  steep = jnp.abs(direction[2]) > 0.9
  one, zero = jnp.ones_like(direction[0]), jnp.zeros_like(direction[0])
  return jnp.where(steep, one, zero), zero, jnp.where(steep, zero, one)


def _metal_rough(look, objects, lamps, light, row, surface):
  """The rough mirror, and the lamps in it."""
  point, normal, view, _, passed = surface
  f = fresnel(jnp.maximum(vectors.dot(normal, view), 0))
  mirror = vectors.reflect(vectors.scale(view, jnp.float32(-1)), normal)
  around = _rough_directions(look, mirror, normal)
  starts = tuple(jnp.broadcast_to(p[None], around[0].shape) for p in point)
  starts, around = jax.lax.optimization_barrier((starts, around))
  seen = reflected(look, objects, lamps, light, row, starts, around)
  squared = look.rough_alpha * look.rough_alpha
  spots = _highlight(look, lamps, passed, point, normal, view, squared, _ggx)
  weight = look.rough + look.rough_fresnel * f
  return tuple(
    objects.color[row, c] * weight * (jnp.mean(seen[c], 0) + spots[c])
    for c in range(3)
  )


def _metal_sharp(look, objects, lamps, light, row, surface):
  """The sharp mirror, and the lamps in it."""
  point, normal, view, _, passed = surface
  f = fresnel(jnp.maximum(vectors.dot(normal, view), 0))
  mirror = vectors.reflect(vectors.scale(view, jnp.float32(-1)), normal)
  mirror = jax.lax.optimization_barrier(mirror)
  seen = reflected(look, objects, lamps, light, row, point, mirror)
  squared = look.sharp_alpha * look.sharp_alpha
  spots = _highlight(look, lamps, passed, point, normal, view, squared, _ggx)
  weight = look.sharp + look.sharp_fresnel * f
  return tuple(
    objects.color[row, c] * weight * (seen[c] + spots[c]) for c in range(3)
  )


def _pick(mask, values):
  """One sample of every pixel that has the mask, of images `(2 H, 2 W)`."""

  def split(a):
    return a[0::2, 0::2], a[0::2, 1::2], a[1::2, 0::2], a[1::2, 1::2]

  masks = split(mask)

  def pick(value):
    parts = split(value)
    chosen = parts[3]
    for m, part in zip(masks[2::-1], parts[2::-1], strict=True):
      chosen = jnp.where(m, part, chosen)
    return chosen

  return jax.tree.map(pick, values)


def _repeat(image):
  """Every pixel for its four samples: `(..., H, W)` as `(..., 2 H, 2 W)`."""
  return jnp.repeat(jnp.repeat(image, 2, axis=-2), 2, axis=-1)


def shade(
  look: constants.Look,
  objects: bounces.Objects,
  lamps: list[lights.Lamp],
  light: bounces.Light,
  row: jax.Array,
  eye: Vector,
  points: Vector,
  mine: jax.Array,
) -> Vector:
  """The radiance that samples of object `row` send to the eye, RGB.

  What changes little within a pixel is computed for one of its samples.

  Args:
    look: fitted numbers.
    objects: the scene's objects.
    lamps: the lamps.
    light: what surfaces send out.
    row: the object.
    eye: the camera's position.
    points: of samples on the surface, `(2 H, 2 W)`; 2 × 2 are a pixel.
    mine: which samples show the object; others get any value.
  """
  solid = objects.solid(row)

  def view_from(point):
    return vectors.normalize(
      tuple(e - p for e, p in zip(eye, point, strict=True))
    )

  point = _pick(mine, points)
  local = geometry.point_to_frame(solid, point)

  def of_shape(shape):
    normal = geometry.from_frame(solid, geometry.normal(shape, local))
    return normal, surfaces.look_up(light.received[row], shape, local)

  normal, received = geometry.switch(solid, of_shape)
  passed = bounces.blocked(look, objects, lamps, point, light.flags[:, row])
  surface = jax.lax.optimization_barrier(
    (point, normal, view_from(point), received, passed)
  )

  def rubber():
    color = _rubber(look, objects, lamps, row, surface)
    return tuple(_repeat(c) for c in color)

  def metal():
    rough = _metal_rough(look, objects, lamps, light, row, surface)
    local = geometry.point_to_frame(solid, points)
    normal = geometry.switch(solid, lambda shape: geometry.normal(shape, local))
    normal = geometry.from_frame(solid, normal)
    fine = (points, normal, view_from(points), None, _repeat(passed))
    fine = jax.lax.optimization_barrier(fine)
    sharp = _metal_sharp(look, objects, lamps, light, row, fine)
    return tuple(_repeat(a) + b for a, b in zip(rough, sharp, strict=True))

  return jax.lax.cond(objects.material[row] == constants.METAL, metal, rubber)
