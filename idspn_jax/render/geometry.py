"""Spheres, cubes and cylinders with rounded edges: rays that meet or miss them.

All three are unit shapes (radius, half edge and half height 1) in a frame of
their own: moved to the object's centre, turned about z and divided by its
radius. Rounded edges are what a smaller sharp shape covers when it is swept
by a small sphere.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from idspn_jax.render import constants
from idspn_jax.render import vectors
from idspn_jax.render.vectors import Vector

# Radii of spheres around the unit shapes.
BOUNDS = (1.0, 1.6, 1.4)
# Where rays end that meet nothing.
FAR = 1e9
_TINY = 1e-12
# Steps towards a rounded surface, and the distance (in radii) that is a hit.
_STEPS = 6
_TOLERANCE = 0.006


class Solid(NamedTuple):
  """An object's place and shape; scalars, or arrays over objects.

  Attributes:
    center: in scene units.
    radius: of the sphere and cylinder, half the edge of the cube.
    cosine: of the rotation about z.
    sine: of the rotation about z.
    shape: class number, as `data.clevr_features.SHAPES` orders them.
  """

  center: Vector
  radius: jax.Array
  cosine: jax.Array
  sine: jax.Array
  shape: jax.Array


def to_frame(solid: Solid, v: Vector) -> Vector:
  """Turns a world direction into the solid's frame; keeps its length."""
  c, s = solid.cosine, solid.sine
  return c * v[0] + s * v[1], c * v[1] - s * v[0], v[2]


def from_frame(solid: Solid, v: Vector) -> Vector:
  """Turns a direction of the solid's frame into the world; keeps its length."""
  c, s = solid.cosine, solid.sine
  return c * v[0] - s * v[1], s * v[0] + c * v[1], v[2]


def point_to_frame(solid: Solid, point: Vector) -> Vector:
  """A world point in the solid's frame, in radii."""
  moved = vectors.subtract(point, solid.center)
  return vectors.scale(to_frame(solid, moved), 1 / solid.radius)


def _sphere_hit(o, d):
  a, b = vectors.dot(d, d), vectors.dot(o, d)
  root = b * b - a * (vectors.dot(o, o) - 1)
  t = (-b - jnp.sqrt(jnp.maximum(root, 0))) / a
  return jnp.where((root > 0) & (t > 0), t, FAR)


def _slab(o, d):
  """Where a line enters and leaves |x| ≤ 1."""
  inverse = 1 / jnp.where(jnp.abs(d) < _TINY, _TINY, d)
  middle, half = -o * inverse, jnp.abs(inverse)
  return middle - half, middle + half


def _approach(o, d, t, entered, distance):
  """Steps from the sharp shape's surface to the rounded one's."""
  for _ in range(_STEPS):
    gap = distance(vectors.along(o, d, t))
    t = t + gap
  return jnp.where(entered & (t > 0) & (gap < _TOLERANCE), t, FAR)


def _cube_distance(p):
  flat = 1 - constants.CUBE_BEVEL
  x, y, z = (jnp.maximum(jnp.abs(v) - flat, 0) for v in p)
  return jnp.sqrt(x * x + y * y + z * z) - constants.CUBE_BEVEL


def _cylinder_distance(p):
  flat = 1 - constants.CYLINDER_BEVEL
  across = jnp.maximum(jnp.sqrt(p[0] * p[0] + p[1] * p[1]) - flat, 0)
  up = jnp.maximum(jnp.abs(p[2]) - flat, 0)
  return jnp.sqrt(across * across + up * up) - constants.CYLINDER_BEVEL


def _cube_hit(o, d):
  slabs = [_slab(a, b) for a, b in zip(o, d, strict=True)]
  near = jnp.maximum(jnp.maximum(slabs[0][0], slabs[1][0]), slabs[2][0])
  far = jnp.minimum(jnp.minimum(slabs[0][1], slabs[1][1]), slabs[2][1])
  return _approach(o, d, near, near < far, _cube_distance)


def _cylinder_hit(o, d):
  a = jnp.maximum(d[0] * d[0] + d[1] * d[1], _TINY)
  b = o[0] * d[0] + o[1] * d[1]
  root = b * b - a * (o[0] * o[0] + o[1] * o[1] - 1)
  half = jnp.sqrt(jnp.maximum(root, 0))
  near, far = _slab(o[2], d[2])
  near = jnp.maximum(near, (-b - half) / a)
  far = jnp.minimum(far, (-b + half) / a)
  return _approach(o, d, near, (root > 0) & (near < far), _cylinder_distance)


def switch(solid: Solid, function: Callable[..., Any], *args: Any) -> Any:
  """Calls `function(shape, *args)` with the solid's shape as an `int`.

  Under `lax.map` only the branch of that shape is computed, under `vmap` all.
  """
  branches = [
    functools.partial(function, shape)
    for shape in (constants.SPHERE, constants.CUBE, constants.CYLINDER)
  ]
  return jax.lax.switch(solid.shape, branches, *args)


def hit(
  shape: int, solid: Solid, origin: Vector, direction: Vector
) -> jax.Array:
  """Where rays first meet a solid from outside.

  Args:
    shape: the solid's shape.
    solid: one solid (scalars).
    origin: in scene units.
    direction: of any length.

  Returns:
    t such that origin + t · direction is on the surface; 1e9 for rays that miss
    it or start behind.
  """
  o = point_to_frame(solid, origin)
  d = to_frame(solid, direction)
  inverse = jax.lax.rsqrt(vectors.dot(d, d))
  t = _HITS[shape](o, vectors.scale(d, inverse))
  return jnp.where(t < FAR, t * inverse * solid.radius, FAR)


def may_hit(solid: Solid, origin: Vector, direction: Vector) -> jax.Array:
  """Whether rays along unit directions meet a sphere around a solid."""
  o = vectors.subtract(origin, solid.center)
  ahead = -vectors.dot(o, direction)
  bound = solid.radius * jnp.asarray(BOUNDS)[solid.shape]
  missed = vectors.dot(o, o) - ahead * ahead
  return (ahead > 0) & (missed < bound * bound)


def _sphere_normal(p):
  return p


def _cube_normal(p):
  flat = 1 - constants.CUBE_BEVEL
  x, y, z = (jnp.sign(v) * jnp.maximum(jnp.abs(v) - flat, _TINY) for v in p)
  return x, y, z


def _cylinder_normal(p):
  flat = 1 - constants.CYLINDER_BEVEL
  across = jnp.sqrt(jnp.maximum(p[0] * p[0] + p[1] * p[1], _TINY))
  outwards = jnp.maximum(across - flat, _TINY) / across
  up = jnp.sign(p[2]) * jnp.maximum(jnp.abs(p[2]) - flat, _TINY)
  return p[0] * outwards, p[1] * outwards, up


def normal(shape: int, point: Vector) -> Vector:
  """The outward unit normal of a unit shape at points on its surface."""
  return vectors.normalize(_NORMALS[shape](point))


def _sphere_clearance(o, d, m):
  del o
  return jnp.sqrt(vectors.dot(m, m) / vectors.dot(d, d)) - 1


def _cube_clearance(o, d, m):
  del o
  flat = 1 - constants.CUBE_BEVEL
  x, y, z = (jnp.abs(v) for v in d)
  xx, yy, zz = (v * v for v in d)

  def gap(moment, a, b, square):
    return (jnp.abs(moment) - flat * (a + b)) * jax.lax.rsqrt(square + _TINY)

  gaps = (
    gap(m[0], y, z, yy + zz),
    gap(m[1], x, z, xx + zz),
    gap(m[2], x, y, xx + yy),
  )
  nearest = jnp.maximum(jnp.maximum(gaps[0], gaps[1]), gaps[2])
  return nearest - constants.CUBE_BEVEL


def _cylinder_clearance(o, d, m):
  del m
  flat = 1 - constants.CYLINDER_BEVEL
  across = jnp.maximum(d[0] * d[0] + d[1] * d[1], _TINY)
  up = jnp.where(jnp.abs(d[2]) < 1e-6, 1e-6, d[2])
  middle, half = -o[2] / up, flat / jnp.abs(up)
  t = jnp.clip(
    -(o[0] * d[0] + o[1] * d[1]) / across, middle - half, middle + half
  )
  x, y = o[0] + t * d[0], o[1] + t * d[1]
  distance = jnp.sqrt(jnp.maximum(x * x + y * y, _TINY))
  slant = (x * d[0] + y * d[1]) / (distance * up)
  gap = (distance - flat) * jax.lax.rsqrt(1 + slant * slant)
  return gap - constants.CYLINDER_BEVEL


def clearance(
  shape: int, solid: Solid, origin: Vector, direction: Vector
) -> tuple[jax.Array, jax.Array]:
  """By how much lines miss a solid.

  Args:
    shape: the solid's shape.
    solid: one solid (scalars).
    origin: a point of the line, in scene units.
    direction: of any length.

  Returns:
    The distance in scene units from the line to the solid's outline as seen
    along the line, negative where the line goes through it; and t of the line's
    point nearest to the solid's centre.
  """
  o = point_to_frame(solid, origin)
  d = to_frame(solid, direction)
  gap = _CLEARANCES[shape](o, d, vectors.cross(o, d))
  t = -vectors.dot(o, d) / vectors.dot(d, d) * solid.radius
  return gap * solid.radius, t


_HITS = (_sphere_hit, _cube_hit, _cylinder_hit)
_NORMALS = (_sphere_normal, _cube_normal, _cylinder_normal)
_CLEARANCES = (_sphere_clearance, _cube_clearance, _cylinder_clearance)
