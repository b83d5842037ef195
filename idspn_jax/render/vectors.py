"""Vectors as tuples of three arrays, one per coordinate.

Arrays of one coordinate each keep long inner loops contiguous.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp

Vector: TypeAlias = tuple[jax.Array, jax.Array, jax.Array]


def add(a: Vector, b: Vector) -> Vector:
  """a + b."""
  return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def subtract(a: Vector, b: Vector) -> Vector:
  """a − b."""
  return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def scale(a: Vector, s: jax.Array) -> Vector:
  """s · a for a scalar or an array of scalars."""
  return a[0] * s, a[1] * s, a[2] * s


def dot(a: Vector, b: Vector) -> jax.Array:
  """The scalar product."""
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
  """The vector product."""
  return (
    a[1] * b[2] - a[2] * b[1],
    a[2] * b[0] - a[0] * b[2],
    a[0] * b[1] - a[1] * b[0],
  )


def normalize(a: Vector) -> Vector:
  """a / |a|; a must not be zero."""
  return scale(a, jax.lax.rsqrt(dot(a, a)))


def reflect(direction: Vector, normal: Vector) -> Vector:
  """Mirrors a direction at the plane with this unit normal."""
  return subtract(direction, scale(normal, 2 * dot(direction, normal)))


def along(origin: Vector, direction: Vector, t: jax.Array) -> Vector:
  """origin + t · direction."""
  return add(origin, scale(direction, t))


def unstack(array: jax.Array) -> Vector:
  """`(..., 3)` as three arrays `(...)`."""
  return array[..., 0], array[..., 1], array[..., 2]


def stack(a: Vector) -> jax.Array:
  """Three arrays `(...)` as `(..., 3)`."""
  return jnp.stack(a, axis=-1)
