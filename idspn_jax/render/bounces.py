"""Light that ground and objects send each other, once each way."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.render import constants
from idspn_jax.render import geometry
from idspn_jax.render import ground
from idspn_jax.render import lights
from idspn_jax.render import surfaces
from idspn_jax.render import vectors
from idspn_jax.render.vectors import Vector

NUM_DIRECTIONS = 24


def _directions():
  """Evenly spread unit directions, `(NUM_DIRECTIONS, 3)`."""
  k = np.arange(NUM_DIRECTIONS) + 0.5
  z = 1 - 2 * k / NUM_DIRECTIONS
  angle = np.pi * (1 + np.sqrt(5)) * k
  side = np.sqrt(1 - z * z)
  table = np.stack([side * np.cos(angle), side * np.sin(angle), z], axis=-1)
  return table.astype(np.float32)


DIRECTIONS = _directions()


class Objects(NamedTuple):
  """One scene's rows as the shading needs them; attributes `(N, ...)`."""

  solids: geometry.Solid
  color: jax.Array
  material: jax.Array
  count: jax.Array  # A scalar: rows from here on are empty.

  def solid(self, row: jax.Array) -> geometry.Solid:
    """The solid in a row, as scalars."""
    return jax.tree.map(lambda a: a[row], self.solids)


class Light(NamedTuple):
  """What a scene's surfaces send out.

  Attributes:
    ratio: the ground's radiance over that without objects, on the map's cells,
      three arrays `(CELLS * CELLS,)`.
    bounce: the part of the radiance that objects send to the ground, alike.
    received: irradiance that objects receive from the ground and each other,
      as textures `(N, T, 3)` that `surfaces.look_up` reads.
    sent: radiance of the objects' surfaces, alike.
    flags: which objects may shade which; see `neighbours`.
  """

  ratio: Vector
  bounce: Vector
  received: jax.Array
  sent: jax.Array
  flags: jax.Array


def neighbours(objects: Objects, lamps: list[lights.Lamp]) -> jax.Array:
  """Which objects may shade which, by bounding spheres.

  Returns:
    Whether the object of a row may block a light from another's surface,
    `(N others, N, 4 lights)`, bool; false for itself and for empty rows.
  """
  solids = objects.solids
  center = vectors.stack(solids.center)
  bound = solids.radius * jnp.asarray(geometry.BOUNDS)[solids.shape]
  rows = jnp.arange(bound.size)
  apart = rows[:, None] != rows[None]
  apart &= (rows < objects.count)[:, None]
  flags = []
  for k in range(lights.NUM_LIGHTS):
    if k == lights.NUM_LAMPS:
      towards = jnp.asarray(constants.SUN_DIRECTION, jnp.float32)
      towards = jnp.broadcast_to(towards * 10, center.shape)
    else:
      towards = vectors.stack(lamps[k].position)[None] - center
    offset = center[:, None] - center[None]
    squared = jnp.sum(towards * towards, -1)
    t = jnp.sum(offset * towards[None], -1) / squared[None]
    missed = offset - t[..., None] * towards[None]
    distance = jnp.sqrt(jnp.sum(missed * missed, -1))
    reach = bound[:, None] + bound[None] + 0.2
    along = bound[:, None] + bound[None]
    ahead = t * jnp.sqrt(squared)[None] > -along
    flags.append(apart & ahead & (distance < reach))
  return jnp.stack(flags, axis=-1)


def blocked(
  look: constants.Look,
  objects: Objects,
  lamps: list[lights.Lamp],
  point: Vector,
  flags: jax.Array,
) -> jax.Array:
  """Which part of each light reaches points past the objects, `(4, ...)`.

  Args:
    look: fitted numbers.
    objects: the scene's objects.
    lamps: the lamps.
    point: where the light arrives.
    flags: which objects may block which light there, `(N, 4)`, bool.
  """

  positions, radii = lights.sources(lamps, look.sun_softness)

  def body(row, passed):
    solid = objects.solid(row)

    def past(k, passed):
      def dim(passed):
        part = geometry.switch(
          solid,
          lambda shape: lights.transmitted(
            shape, solid, positions[k], radii[k], point
          ),
        )
        return passed.at[k].multiply(part)

      return jax.lax.cond(flags[row, k], dim, lambda p: p, passed)

    def apply(passed):
      return jax.lax.fori_loop(0, lights.NUM_LIGHTS, past, passed)

    return jax.lax.cond(jnp.any(flags[row]), apply, lambda p: p, passed)

  start = jnp.ones((lights.NUM_LIGHTS, *point[0].shape))
  return jax.lax.fori_loop(0, objects.count, body, start)


def _texels(objects):
  """World points and normals of all textures, `(N, TEXELS)` each."""
  solids = jax.tree.map(lambda a: a[:, None], objects.solids)
  points = jnp.asarray(surfaces.POINTS)[objects.solids.shape]
  normals = jnp.asarray(surfaces.NORMALS)[objects.solids.shape]
  moved = geometry.from_frame(solids, vectors.unstack(points))
  moved = vectors.scale(moved, solids.radius)
  return (
    vectors.add(moved, solids.center),
    geometry.from_frame(solids, vectors.unstack(normals)),
  )


def direct(
  lamps: list[lights.Lamp],
  point: Vector,
  normal: Vector,
  transmitted: jax.Array,
) -> Vector:
  """Irradiance from lamps and sun."""
  total = [jnp.zeros_like(point[0])] * 3
  for k in range(lights.NUM_LIGHTS):
    strength, direction = lights.strength(k, lamps, point)
    received = jnp.maximum(vectors.dot(normal, direction), 0)
    received = received * strength * transmitted[k]
    for c, color in enumerate(lights.intensity(k)):
      total[c] = total[c] + np.float32(color) * received
  return tuple(total)


def ground_seen(
  look: constants.Look,
  lamps: list[lights.Lamp],
  ratio: Vector,
  point: Vector,
  direction: Vector,
) -> Vector:
  """Radiance of ground and backdrop along unit directions from points."""
  down = direction[2] < -0.01
  t = point[2] / jnp.where(down, -direction[2], 1)
  t = jnp.minimum(t, 40)
  x = point[0] + t * direction[0]
  y = point[1] + t * direction[1]
  free = ground.radiance(look, lamps, (x, y, jnp.zeros_like(x)))
  ratio = ground.look_up(ratio, x, y)
  sky = ground.backdrop(look, direction)
  return tuple(
    jnp.where(down, f * r, sky) for f, r in zip(free, ratio, strict=True)
  )


def _from_surroundings(look, objects, seen, mean, row, point, normal):
  """Irradiance of an object's texels from the ground and other objects.

  Args:
    seen: radiance of the ground's cells, three arrays `(CELLS * CELLS,)`.
    mean: average radiance of each object, `(N, 3)`.
    row: the object.
    point: its texels, three arrays `(TEXELS,)`.
    normal: alike.

  Returns:
    `(TEXELS, 3)`.
  """
  shape = (surfaces.TEXELS, NUM_DIRECTIONS)
  spread = tuple(
    jnp.broadcast_to(d[None], shape)
    for d in vectors.unstack(jnp.asarray(DIRECTIONS))
  )
  start = tuple(jnp.broadcast_to(p[:, None], shape) for p in point)
  facing = sum(n[:, None] * d for n, d in zip(normal, spread, strict=True))
  weight = jnp.maximum(facing, 0)
  weight = weight * (np.pi / jnp.sum(weight, -1, keepdims=True))
  down = spread[2] < 0
  t = start[2] / jnp.where(down, -spread[2], 1)
  ends = vectors.along(start, spread, t)
  below = ground.look_up(seen, ends[0], ends[1])
  sky = ground.backdrop(look, spread)
  radiance = tuple(jnp.where(down, b, sky) for b in below)

  def body(other, radiance):
    solid = objects.solid(other)

    def cover(shape):
      gap, t = geometry.clearance(shape, solid, start, spread)
      part = jnp.clip(0.5 - gap / (0.4 * jnp.maximum(t, 0.05)), 0, 1)
      return jnp.where(t > 0, part, 0)

    def apply(radiance):
      part = geometry.switch(solid, cover)
      return tuple(
        r + part * (mean[other, c] - r) for c, r in enumerate(radiance)
      )

    return jax.lax.cond(other == row, lambda r: r, apply, radiance)

  radiance = jax.lax.fori_loop(0, objects.count, body, radiance)
  return vectors.stack(tuple(jnp.sum(r * weight, -1) for r in radiance))


# Texels that send light to the ground: those of the four sides.
_SIDES = slice(0, 4 * surfaces.SIDE**2)
_AREAS = np.array([4 * np.pi / 6, 4.0, np.pi / 2 * 2]) / surfaces.SIDE**2


def _onto_ground(objects, points, normals, sent):
  """Irradiance of the map's cells from objects, three `(CELLS * CELLS,)`.

  Every texel of the objects' sides counts as a small disc.
  """
  solids = objects.solids
  areas = jnp.asarray(_AREAS, jnp.float32)[solids.shape] * solids.radius**2
  x, y, _ = (a.ravel()[None] for a in ground.cells())

  def body(row, total):
    px, py, pz = (p[row, _SIDES, None] for p in points)
    nx, ny, nz = (n[row, _SIDES, None] for n in normals)
    dx, dy = px - x, py - y
    squared = dx * dx + dy * dy + pz * pz
    away = -(dx * nx + dy * ny + pz * nz)
    # A small disc's form factor; the area keeps near ones finite.
    area = areas[row]
    factor = jnp.maximum(away, 0) * (pz * area)
    factor = factor / (squared * (squared * np.pi + area))
    return total + jnp.matmul(sent[row, _SIDES].T, factor, precision='highest')

  total = jnp.zeros((3, x.size))
  total = jax.lax.fori_loop(0, objects.count, body, total)
  return tuple(np.pi * total)


def gather(
  look: constants.Look, objects: Objects, lamps: list[lights.Lamp]
) -> Light:
  """Sends light from lamps to ground and objects, and between these."""
  cells = ground.cells()
  rows = jnp.arange(objects.material.size)
  everything = jnp.broadcast_to(
    (rows < objects.count)[:, None], (rows.size, lights.NUM_LIGHTS)
  )
  passed = blocked(look, objects, lamps, cells, everything)
  shadowed = ground.radiance(look, lamps, cells, passed)
  free = ground.radiance(look, lamps, cells)
  points, normals = _texels(objects)
  flags = neighbours(objects, lamps)

  def of_row(function):
    def body(row, table):
      point = tuple(p[row] for p in points)
      normal = tuple(n[row] for n in normals)
      return table.at[row].set(function(row, point, normal))

    table = jnp.zeros((*points[0].shape, 3))
    return jax.lax.fori_loop(0, objects.count, body, table)

  def lit(row, point, normal):
    passed = blocked(look, objects, lamps, point, flags[:, row])
    return vectors.stack(direct(lamps, point, normal, passed))

  first = of_row(lit)
  albedo = jnp.where(
    objects.material == constants.METAL,
    look.metal_radiosity,
    look.rubber_diffuse,
  )
  albedo = (objects.color * albedo[:, None])[:, None]
  # Before anything is known of the ground's light, a guess of it.
  mean = jnp.mean(albedo * (first + 0.3), axis=1) / np.pi
  seen = tuple(s.ravel() for s in shadowed)
  received = look.ground_bounce * of_row(
    functools.partial(_from_surroundings, look, objects, seen, mean)
  )
  sent = albedo * (first + received + look.object_fill) / np.pi
  part = jnp.where(
    objects.material == constants.METAL,
    look.metal_bounce / look.metal_radiosity,
    1.0,
  )
  onto = _onto_ground(objects, points, normals, sent * part[:, None, None])
  scale = look.object_bounce * constants.GROUND_ALBEDO / np.pi
  bounce = tuple(scale * o for o in onto)
  ratio = tuple(
    (s + b) / f.ravel() for s, b, f in zip(seen, bounce, free, strict=True)
  )
  received, sent = (
    surfaces.with_borders(objects.solids.shape, t) for t in (received, sent)
  )
  return Light(ratio, bounce, received, sent, flags)
