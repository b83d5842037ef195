"""The ground's radiance, and what stands far behind it."""

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.render import constants
from idspn_jax.render import lights
from idspn_jax.render import vectors
from idspn_jax.render.vectors import Vector

# A square map of the ground around the origin: half its side, and its cells.
REACH = 5.0
CELLS = 40
_BEHIND = tuple(np.float32(v) for v in constants.BEHIND)
_RIGHT = tuple(np.float32(v) for v in constants.RIGHT)


def cells() -> Vector:
  """The middles of the map's cells, each `(CELLS, CELLS)`; x along columns."""
  middles = ((np.arange(CELLS) + 0.5) / CELLS * 2 - 1) * REACH
  x, y = np.meshgrid(middles.astype(np.float32), middles.astype(np.float32))
  return jnp.asarray(x), jnp.asarray(y), jnp.zeros_like(x)


def far_radiance(look: constants.Look, x: jax.Array, y: jax.Array) -> jax.Array:
  """Radiance that the lamps do not explain: light from the curved backdrop."""
  s = jnp.clip((x * _BEHIND[0] + y * _BEHIND[1]) / 10, -0.6, 2.1)
  across = jnp.clip((x * _RIGHT[0] + y * _RIGHT[1]) / 10, -0.9, 0.9)
  return (
    look.far_0
    + s * (look.far_s + s * (look.far_ss + s * look.far_sss))
    + across * (look.far_l + look.far_ls * s + look.far_ll * across)
  )


def lit(lamps: list[lights.Lamp], index: int, point: Vector) -> jax.Array:
  """What the ground receives of a light, as a factor of its intensity."""
  strength, direction = lights.strength(index, lamps, point)
  return strength * jnp.maximum(direction[2], 0)


def radiance(
  look: constants.Look,
  lamps: list[lights.Lamp],
  point: Vector,
  transmitted: list[jax.Array] | None = None,
) -> Vector:
  """Radiance of ground points under lights of which parts are blocked.

  Args:
    look: fitted numbers.
    lamps: the lamps.
    point: on the ground.
    transmitted: for each light, which part arrives; None for all of it.
  """
  far = far_radiance(look, point[0], point[1])
  total = [far, far, far]
  for index in range(lights.NUM_LIGHTS):
    received = lit(lamps, index, point)
    if transmitted is not None:
      received = received * transmitted[index]
    for c, color in enumerate(lights.intensity(index)):
      scale = color * constants.GROUND_ALBEDO / np.pi
      total[c] = total[c] + np.float32(scale) * received
  return tuple(total)


def backdrop(look: constants.Look, direction: Vector) -> jax.Array:
  """Radiance from above the horizon, along unit directions."""
  edge = look.backdrop_slope * vectors.dot(direction, _BEHIND)
  part = jax.nn.sigmoid((edge - direction[2]) / look.backdrop_width)
  return look.backdrop * part


def map_weights(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Flat indices of four cells around points and their weights, `(4, ...)`."""

  def split(w):
    w = jnp.clip((w / REACH + 1) * (CELLS / 2) - 0.5, 0, CELLS - 1)
    low = jnp.minimum(w.astype(jnp.int32), CELLS - 2)
    return low, w - low

  (j, a), (i, b) = split(x), split(y)
  first = i * CELLS + j
  indices = [first + s for s in (0, 1, CELLS, CELLS + 1)]
  weights = [(1 - b) * (1 - a), (1 - b) * a, b * (1 - a), b * a]
  return jnp.stack(indices), jnp.stack(weights)


def _gather(table, indices, weights):
  values = table.at[indices].get(mode='promise_in_bounds')
  return jnp.sum(values * weights, axis=0)


def look_up(table: Vector, x: jax.Array, y: jax.Array) -> Vector:
  """The values of a map, three arrays `(CELLS * CELLS,)`, at ground points."""
  indices, weights = map_weights(x, y)
  return tuple(_gather(t, indices, weights) for t in table)
