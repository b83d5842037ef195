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
from idspn_jax.render import ground
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
  radiance = bounces.ground_seen(
    look, lamps, light.ratio, point, direction
  )
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


def _rubber(look, objects, lamps, row, view, point, normal, received, passed):
  irradiance = bounces.direct(lamps, point, normal, passed)
  f = fresnel(jnp.maximum(vectors.dot(normal, view), 0))
  alpha = look.rubber_alpha * look.rubber_alpha
  gloss = _highlight(
    look, lamps, passed, point, normal, view, alpha, _beckmann
  )
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
import os
_OFFSETS = ((0.0, 0.0), (0.7, 0.0), (-0.35, 0.606), (-0.35, -0.606))[:int(os.environ.get('NR','4'))]


def _metal(look, objects, lamps, light, row, view, point, normal, passed):
  f = fresnel(jnp.maximum(vectors.dot(normal, view), 0))
  mirror = vectors.reflect(vectors.scale(view, jnp.float32(-1)), normal)
  # A basis across the mirrored direction.
  side = vectors.normalize(vectors.cross(mirror, normal_or_up(mirror)))
  other = vectors.cross(side, mirror)

  def look_along(offset):
    tilt = vectors.add(
      vectors.scale(side, 2 * look.rough_alpha * offset[0]),
      vectors.scale(other, 2 * look.rough_alpha * offset[1]),
    )
    direction = vectors.normalize(vectors.add(mirror, tilt))
    # Directions below the surface are turned back to it.
    below = jnp.minimum(vectors.dot(direction, normal), 0)
    direction = vectors.normalize(
      vectors.subtract(direction, vectors.scale(normal, 2 * below))
    )
    return reflected(look, objects, lamps, light, row, point, direction)

  seen = jax.lax.map(look_along, jnp.asarray(_OFFSETS))
  sharp = tuple(s[0] for s in seen)
  rough = tuple(jnp.mean(s, axis=0) for s in seen)
  spots = [
    _highlight(look, lamps, passed, point, normal, view, a * a, _ggx)
    for a in (look.sharp_alpha, look.rough_alpha)
  ]
  weights = (
    look.sharp + look.sharp_fresnel * f,
    look.rough + look.rough_fresnel * f,
  )
  return tuple(
    objects.color[row, c]
    * (
      weights[0] * (sharp[c] + spots[0][c])
      + weights[1] * (rough[c] + spots[1][c])
    )
    for c in range(3)
  )


def normal_or_up(direction: Vector) -> Vector:
  """A unit vector that is not parallel to unit directions."""
  steep = jnp.abs(direction[2]) > 0.9
  one, zero = jnp.ones_like(direction[0]), jnp.zeros_like(direction[0])
  return jnp.where(steep, one, zero), zero, jnp.where(steep, zero, one)


def shade(
  look: constants.Look,
  objects: bounces.Objects,
  lamps: list[lights.Lamp],
  light: bounces.Light,
  row: jax.Array,
  eye: Vector,
  point: Vector,
) -> Vector:
  """The radiance that points on object `row` send to the eye, RGB."""
  solid = objects.solid(row)
  back = vectors.subtract(tuple(jnp.broadcast_to(e, point[0].shape) for e in eye), point)
  view = vectors.normalize(back)
  local = geometry.point_to_frame(solid, point)

  def of_shape(shape):
    normal = geometry.from_frame(solid, geometry.normal(shape, local))
    return normal, surfaces.look_up(light.received[row], shape, local)

  normal, received = geometry.switch(solid, of_shape)
  passed = bounces.blocked(
    look, objects, lamps, point, light.flags[:, row]
  )

  def rubber():
    return _rubber(
      look, objects, lamps, row, view, point, normal, received, passed
    )

  def metal():
    return _metal(
      look, objects, lamps, light, row, view, point, normal, passed
    )

  return jax.lax.cond(objects.material[row] == constants.METAL, metal, rubber)
