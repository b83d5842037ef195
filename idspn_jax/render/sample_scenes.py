"""Random scenes under CLEVR's rules, from keys.

A number of objects is drawn first. Then objects are placed one after another,
each at the first of 50 random places that keeps its distance from those
before; if there is none, or the finished scene hides an object, placing starts
anew with the same number.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.data import clevr_features
from idspn_jax.render import camera as camera_lib
from idspn_jax.render import constants
from idspn_jax.render import loops
from idspn_jax.render import scenes as scenes_lib
from idspn_jax.render import single_precision
from idspn_jax.render import visibility
from idspn_jax.render.scenes import Scenes

REACH = 3.0
MIN_DISTANCE = 0.25
MARGIN = 0.4
MIN_PIXELS = 200
MIN_OBJECTS, MAX_OBJECTS = 3, constants.MAX_OBJECTS
_TRIES = 50
# A coarse image shows one pixel of 16; counts between these are not certain.
_COARSE = 4
_CERTAINLY_HIDDEN, _CERTAINLY_VISIBLE = 80, 352


def check_num_objects(num_objects: tuple[int, int]) -> None:
  """Refuses ranges of the number of objects that scenes cannot have.

  Raises:
    ValueError: unless 1 ≤ first ≤ last ≤ 10.
  """
  low, high = num_objects
  if not 1 <= low <= high <= MAX_OBJECTS:
    raise ValueError(
      f'A range of {low} to {high} objects: choose a range within 1 to '
      f'{MAX_OBJECTS}, the smaller number first.'
    )


def _place(key, count):
  """Sizes and centres of all rows, and whether every object found a place."""
  rows = MAX_OBJECTS
  size_key, place_key = jax.random.split(key)
  sizes = jax.random.bernoulli(size_key, 0.5, (rows,)).astype(jnp.int32)
  radii = jnp.asarray(constants.RADII)[sizes]
  tries = jax.random.uniform(
    place_key, (rows, _TRIES, 2), minval=-REACH, maxval=REACH
  )
  axes = np.stack([constants.BEHIND[:2], constants.RIGHT[:2]]).astype(
    np.float32
  )

  def add(row, state):
    places, placed = state
    here = tries[row]
    offset = here[:, None] - places[None]
    distance = jnp.sqrt(jnp.sum(offset * offset, -1))
    apart = distance - radii[row] - radii[None] >= MIN_DISTANCE
    for axis in axes:
      along = offset[..., 0] * axis[0] + offset[..., 1] * axis[1]
      apart &= jnp.abs(along) >= MARGIN
    good = jnp.all(apart | (jnp.arange(rows) >= row)[None], axis=-1)
    first = jnp.argmax(good)
    return places.at[row].set(here[first]), placed & good[first]

  start = jnp.zeros((rows, 2)), jnp.bool_(True)
  places, placed = jax.lax.fori_loop(0, count, add, start)
  coordinates = jnp.concatenate([places, radii[:, None]], axis=-1)
  return sizes, coordinates, placed


def _draw(key, count):
  """A scene whose visibility is not known yet, and whether it was placed."""
  keys = jax.random.split(key, 8)
  rows = (MAX_OBJECTS,)

  def classes(key, names):
    return jax.random.randint(key, rows, 0, len(names))

  def jitter(key, middle, width):
    middle = jnp.asarray(middle, jnp.float32)
    return middle + jax.random.uniform(
      key, middle.shape, minval=-width, maxval=width
    )

  sizes, coordinates, placed = _place(keys[0], count)
  presence = jnp.arange(MAX_OBJECTS) < count
  scene = Scenes(
    coordinates=coordinates,
    rotations=jax.random.uniform(keys[1], rows, maxval=360.0),
    materials=classes(keys[2], clevr_features.MATERIALS),
    colors=classes(keys[3], clevr_features.COLORS),
    shapes=classes(keys[4], clevr_features.SHAPES),
    sizes=sizes,
    presence=presence,
    camera=jitter(keys[5], constants.CAMERA, constants.CAMERA_JITTER),
    lamps=jitter(keys[6], constants.LAMPS, constants.LAMP_JITTER),
  )
  empty = jax.tree.map(jnp.zeros_like, scene)

  def blank(value, none):
    if value.shape[:1] != rows:
      return value
    return jnp.where(presence.reshape(-1, *[1] * (value.ndim - 1)), value, none)

  return jax.tree.map(blank, scene, empty), placed


@single_precision.in_float32
def visible_pixels(scene: Scenes, step: int = 1) -> jax.Array:
  """How many pixels of the 480 × 320 picture show each row's object.

  Args:
    scene: one scene.
    step: look at every step-th pixel of either axis only, and multiply.

  Returns:
    `(N,)`, int32.
  """
  camera = camera_lib.look_at_origin(scene.camera)
  solids = scenes_lib.solids_of(scene)
  count = jnp.sum(scene.presence)
  _, index = visibility.visible(
    solids, count, camera, constants.WIDTH // step, constants.HEIGHT // step
  )
  rows = jnp.arange(scene.presence.shape[0])
  # Padding beyond the picture does not count.
  index = index[: constants.HEIGHT // step, : constants.WIDTH // step]
  found = jnp.sum(index.ravel()[None] == rows[:, None], axis=-1)
  return found * step * step


@single_precision.in_float32
def all_visible(scene: Scenes) -> jax.Array:
  """Whether every object shows at least 200 pixels, a scalar.

  The picture is drawn in full only when a coarse one leaves doubt.
  """

  def enough(found, least):
    return jnp.all((found >= least) | ~scene.presence)

  coarse = visible_pixels(scene, _COARSE)
  return jax.lax.cond(
    enough(coarse, _CERTAINLY_VISIBLE) | ~enough(coarse, _CERTAINLY_HIDDEN),
    lambda: enough(coarse, _CERTAINLY_VISIBLE),
    lambda: enough(visible_pixels(scene), MIN_PIXELS),
  )


@single_precision.in_float32
def sample_scene(
  key: jax.Array, num_objects: tuple[int, int] = (MIN_OBJECTS, MAX_OBJECTS)
) -> Scenes:
  """Draws one scene.

  Args:
    key: what determines the scene.
    num_objects: smallest and largest number of objects, all equally likely.

  Raises:
    ValueError: if there are no scenes with so few or many objects.
  """
  check_num_objects(num_objects)
  count_key, key = jax.random.split(key)
  count = jax.random.randint(count_key, (), num_objects[0], num_objects[1] + 1)

  def attempt(state):
    tries, _, _ = state
    scene, placed = _draw(jax.random.fold_in(key, tries), count)
    good = jax.lax.cond(placed, all_visible, lambda s: jnp.bool_(False), scene)
    return tries + 1, scene, good

  scene = jax.tree.map(
    lambda a: jnp.zeros(a.shape, a.dtype),
    jax.eval_shape(lambda: _draw(key, count)[0]),
  )
  start = jnp.int32(0), scene, jnp.bool_(False)
  return jax.lax.while_loop(lambda s: ~s[2], attempt, start)[1]


@single_precision.in_float32
@functools.partial(jax.jit, static_argnames=('count', 'num_objects'))
def sample_scenes(
  key: jax.Array,
  count: int,
  first: jax.Array | int = 0,
  num_objects: tuple[int, int] = (MIN_OBJECTS, MAX_OBJECTS),
) -> Scenes:
  """Draws scenes; scene i depends on the key and on i only.

  Args:
    key: what determines all scenes.
    count: how many.
    first: number of the first one, so that parts of a long list can be drawn.
    num_objects: smallest and largest number of objects, all equally likely.

  Returns:
    Scenes `first` to `first + count − 1`, `(count, ...)`.

  Raises:
    ValueError: if there are no scenes with so few or many objects.
  """
  numbers = jnp.asarray(first, jnp.uint32) + jnp.arange(count, dtype=jnp.uint32)
  return loops.map_in_turn(
    lambda i: sample_scene(jax.random.fold_in(key, i), num_objects), numbers
  )
