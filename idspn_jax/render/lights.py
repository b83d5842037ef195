"""Three square lamps and a sun: what reaches a point, and what blocks it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.render import constants
from idspn_jax.render import geometry
from idspn_jax.render import vectors
from idspn_jax.render.vectors import Vector

NUM_LAMPS = len(constants.LAMP_NAMES)
NUM_LIGHTS = NUM_LAMPS + 1
# A square's light fades like that of a disc of the same area.
_RADII = tuple(side / np.sqrt(np.pi) for side in constants.LAMP_SIDES)
_SUN = tuple(np.float32(v) for v in constants.SUN_DIRECTION)
# No shadow's edge is sharper, in scene units.
_SHARPEST = 0.01
_SUN_DISTANCE = 1e4


class Lamp(NamedTuple):
  """A lamp's place and the unit direction in which it faces; scalars."""

  position: Vector
  facing: Vector


def lamps_of(positions: jax.Array) -> list[Lamp]:
  """The lamps at positions `(3, 3)`, facing the origin."""
  lamps = []
  for row in positions:
    position = vectors.unstack(row)
    back = vectors.normalize(position)
    lamps.append(Lamp(position, vectors.scale(back, jnp.float32(-1))))
  return lamps


def intensity(index: int) -> tuple[float, float, float]:
  """RGB of light `index` (the sun comes last) that `strength` multiplies."""
  if index == NUM_LAMPS:
    return (constants.SUN_IRRADIANCE,) * 3
  return constants.LAMP_INTENSITIES[index]


def strength(
  index: int, lamps: list[Lamp], point: Vector
) -> tuple[jax.Array, Vector]:
  """What a surface at a point that faces the light receives of it, unblocked.

  Returns:
    A factor of the light's `intensity`, which gives irradiance, and the unit
    direction to the light.
  """
  if index == NUM_LAMPS:
    one = jnp.ones_like(point[0])
    return one, vectors.scale(_SUN, one)
  lamp = lamps[index]
  to_lamp = vectors.subtract(lamp.position, point)
  inverse = jax.lax.rsqrt(vectors.dot(to_lamp, to_lamp))
  direction = vectors.scale(to_lamp, inverse)
  facing = jnp.maximum(-vectors.dot(direction, lamp.facing), 0)
  return facing * inverse * inverse, direction


def angular_radius_squared(index: int, lamps: list[Lamp]) -> jax.Array:
  """Of a lamp's disc as seen from the origin, in radians squared."""
  position = lamps[index].position
  return _RADII[index] ** 2 / vectors.dot(position, position)


def sources(
  lamps: list[Lamp], sun_softness: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """All lights as discs: where they are, `(4, 3)`, and their radii, `(4,)`."""
  positions = [vectors.stack(lamp.position) for lamp in lamps]
  positions.append(jnp.asarray(_SUN) * _SUN_DISTANCE)
  radii = [jnp.float32(r) for r in _RADII]
  radii.append(jnp.float32(sun_softness) * _SUN_DISTANCE)
  return jnp.stack(positions), jnp.stack(radii)


def transmitted(
  shape: int,
  solid: geometry.Solid,
  position: jax.Array,
  radius: jax.Array,
  point: Vector,
) -> jax.Array:
  """Which part of a disc's light reaches points past one solid, 0 to 1.

  Args:
    shape: the solid's shape.
    solid: one solid (scalars).
    position: of the light, `(3,)`.
    radius: of the light's disc.
    point: where the light arrives.
  """
  to_light = vectors.subtract(vectors.unstack(position), point)
  gap, t = geometry.clearance(shape, solid, point, to_light)
  s = jnp.clip(gap / jnp.maximum(radius * t, _SHARPEST), -1, 1)
  return jnp.where(t > 0, 0.5 + s * (0.75 - 0.25 * s * s), 1)
