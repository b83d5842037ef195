"""Scenes as arrays: what is in them, and where camera and lamps stand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from idspn_jax.data import clevr_features
from idspn_jax.render import constants
from idspn_jax.render import geometry
from idspn_jax.render import single_precision
from idspn_jax.render import vectors


class Scenes(NamedTuple):
  """One scene, or many along leading axes.

  Objects come first, empty rows last. Classes are numbered as in
  `data.clevr_features`.

  Attributes:
    coordinates: centres of the objects in scene units, `(..., N, 3)`.
    rotations: the scene files' number, `(..., N)`; it is called degrees there
      and was used as radians about z.
    materials: class numbers, `(..., N)`, int32; so are the next three.
    colors: class numbers.
    shapes: class numbers.
    sizes: class numbers.
    presence: which rows are objects, `(..., N)`, bool.
    camera: where it stands, `(..., 3)`.
    lamps: where key, fill and back lamp hang, `(..., 3, 3)`.
  """

  coordinates: jax.Array
  rotations: jax.Array
  materials: jax.Array
  colors: jax.Array
  shapes: jax.Array
  sizes: jax.Array
  presence: jax.Array
  camera: jax.Array
  lamps: jax.Array


@single_precision.in_float32
def features_of(scenes: Scenes) -> jax.Array:
  """The objects as `data.clevr_features` writes them, `(..., N, 19)`."""
  classes = {
    'material': scenes.materials,
    'color': scenes.colors,
    'shape': scenes.shapes,
    'size': scenes.sizes,
  }
  # In the order of the columns.
  parts = [scenes.coordinates / clevr_features.COORDINATE_SCALE]
  for key, (names, _) in clevr_features.ATTRIBUTES.items():
    parts.append(jax.nn.one_hot(classes[key], len(names)))
  mask = scenes.presence.astype(jnp.float32)[..., None]
  return jnp.concatenate([*parts, mask], axis=-1) * mask


def solids_of(scene: Scenes) -> geometry.Solid:
  """The shapes of one scene's rows, each attribute `(N,)`."""
  radii = jnp.asarray(constants.RADII)[scene.sizes]
  return geometry.Solid(
    center=vectors.unstack(scene.coordinates),
    radius=radii,
    cosine=jnp.cos(scene.rotations),
    sine=jnp.sin(scene.rotations),
    shape=scene.shapes,
  )
