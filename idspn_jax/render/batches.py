"""Random pictures and their labels, on the device and from a key."""

import jax

from idspn_jax.render import constants
from idspn_jax.render import image
from idspn_jax.render import sample_scenes
from idspn_jax.render import scenes as scenes_lib

DEFAULT_OBJECTS = (sample_scenes.MIN_OBJECTS, sample_scenes.MAX_OBJECTS)


def batch(
  key: jax.Array,
  count: int,
  size: tuple[int, int],
  first: jax.Array | int = 0,
  num_objects: tuple[int, int] = DEFAULT_OBJECTS,
) -> tuple[jax.Array, jax.Array]:
  """Draws and renders scenes.

  Picture i depends on the key, the size, the range of objects and on i only:
  not on `count` or `first`.

  Args:
    key: what determines all pictures.
    count: how many.
    size: width and height in pixels; the whole view is squashed into it.
    first: number of the first picture.
    num_objects: smallest and largest number of objects, all equally likely.

  Returns:
    Pictures, `(count, height, width, 3)`, uint8, and the objects' features,
    `(count, 10, 19)`, float32, as `data.clevr_features` defines them.

  Raises:
    ValueError: if a size or a number of objects is impossible.
  """
  scenes = sample_scenes.sample_scenes(key, count, first, num_objects)
  pictures = image.render(scenes, constants.Look(), *size)
  return image.as_bytes(pictures), scenes_lib.features_of(scenes)
