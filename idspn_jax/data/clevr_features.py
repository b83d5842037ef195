"""CLEVR objects as features of a set, and back (Section 4.3).

An object is 19 numbers, in the order of the paper's code: coordinates / 3,
then one-hot material, colour, shape and size, then presence. Rows without an
object are zero. Classes are numbered in the paper's orders; data whose classes
stand in other orders go by their names.
"""

from collections.abc import Mapping, Sequence
import reprlib
from typing import Any, NamedTuple

import numpy as np

from idspn_jax.data import set_layout

MATERIALS = ('rubber', 'metal')
COLORS = ('cyan', 'blue', 'yellow', 'purple', 'red', 'green', 'gray', 'brown')
SHAPES = ('sphere', 'cube', 'cylinder')
SIZES = ('large', 'small')

COORDINATES = slice(0, 3)
MATERIAL = slice(3, 5)
COLOR = slice(5, 13)
SHAPE = slice(13, 16)
SIZE = slice(16, 18)
PRESENCE = 18
NUM_FEATURES = 19
# Coordinates in scene units are divided by it.
COORDINATE_SCALE = 3.0
# Objects whose presence is above it exist.
THRESHOLD = set_layout.THRESHOLD

# An attribute's key in the scene files: its classes and their columns.
ATTRIBUTES = {
  'material': (MATERIALS, MATERIAL),
  'color': (COLORS, COLOR),
  'shape': (SHAPES, SHAPE),
  'size': (SIZES, SIZE),
}
FEATURE_NAMES = (
  'x / 3',
  'y / 3',
  'z / 3',
  *(f'{k}: {name}' for k, (names, _) in ATTRIBUTES.items() for name in names),
  'presence',
)
# The same for what works on sets of any layout.
LAYOUT = set_layout.Layout(
  ('x', 'y', 'z'),
  tuple(
    set_layout.Category(key, names) for key, (names, _) in ATTRIBUTES.items()
  ),
  COORDINATE_SCALE,
  counts_repeats=False,
)


class Objects(NamedTuple):
  """Objects as arrays: of one set, `(N, …)`, or of many, `(S, N, …)`.

  Attributes:
    coordinates: in scene units, `(..., N, 3)`.
    classes: class of every object, `(..., N)` integers in the paper's order, by
      attribute (the keys of `ATTRIBUTES`); -1 where it is unknown.
    presence: 1 where an object exists and 0 where not, or a score, `(..., N)`.
  """

  coordinates: np.ndarray
  classes: Mapping[str, np.ndarray]
  presence: np.ndarray


def encode(objects: Objects) -> np.ndarray:
  """Turns objects into features.

  Args:
    objects: what they are; rows with a presence of 0 may hold anything.

  Returns:
    Features, `(..., N, 19)`, float32; zero in rows with a presence of 0, and in
    the columns of unknown classes.

  Raises:
    ValueError: if shapes do not fit or a class does not exist.
  """
  presence = np.asarray(objects.presence, np.float32)
  coordinates = np.asarray(objects.coordinates, np.float32)
  if coordinates.shape != (*presence.shape, 3):
    raise ValueError(
      f'Objects with presence {presence.shape} need coordinates '
      f'{(*presence.shape, 3)}; got {coordinates.shape}.'
    )
  scaled = coordinates / np.float32(COORDINATE_SCALE)
  elements = set_layout.Elements(scaled, objects.classes, presence)
  return LAYOUT.encode(elements).astype(np.float32)


def unit_scale(unit: float) -> np.ndarray:
  """What features are multiplied by so that coordinates count in a unit.

  Args:
    unit: what counts as 1, in scene units; 3 leaves features as they are.

  Returns:
    `(1, 1, 19)`, float32.
  """
  scale = np.ones(NUM_FEATURES, np.float32)
  scale[COORDINATES] = COORDINATE_SCALE / unit
  return scale.reshape(1, 1, -1)


def decode(features: np.ndarray) -> Objects:
  """Turns true or predicted features into objects; the inverse of `encode`.

  Args:
    features: `(..., N, 19)`.

  Returns:
    Objects in float64: coordinates in scene units, the likeliest class of each
    attribute (-1 where one of its scores is not finite), and presence as it is.

  Raises:
    ValueError: if the features have another shape.
  """
  found = LAYOUT.decode(features)
  return Objects(found.values * COORDINATE_SCALE, found.classes, found.presence)


def mask_of(features: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
  """Tells which rows are objects.

  Args:
    features: true or predicted, `(..., N, 19)`.
    threshold: a row is an object if its presence is above it; a presence of NaN
      is not.

  Returns:
    `(..., N)`, bool.

  Raises:
    ValueError: if the features have another shape.
  """
  return LAYOUT.mask_of(features, threshold)


def features_of(
  objects: Sequence[Mapping[str, Any]], num_rows: int | None = None
) -> np.ndarray:
  """Turns one set of described objects into features.

  Args:
    objects: dictionaries as in a CLEVR scene file, with `3d_coords` (scene
      units), `material`, `color`, `shape` and `size`; further keys are ignored.
    num_rows: rows N; those beyond the objects are zero. None: no such rows.

  Returns:
    Features, `(N, 19)`, float32, objects in the given order.

  Raises:
    ValueError: if there are more objects than rows or one is not as described.
  """
  count = len(objects)
  num_rows = count if num_rows is None else num_rows
  if count > num_rows:
    raise ValueError(
      f'{count} objects do not fit into {num_rows} rows; raise the number of '
      'rows.'
    )
  coordinates = np.zeros((num_rows, 3))
  classes = {key: np.zeros(num_rows, int) for key in ATTRIBUTES}
  for n, thing in enumerate(objects):
    _check_object(thing, f'object {n}')
    coordinates[n] = thing['3d_coords']
    for key, (names, _) in ATTRIBUTES.items():
      classes[key][n] = names.index(thing[key])
  return encode(Objects(coordinates, classes, np.arange(num_rows) < count))


def objects_of(
  features: np.ndarray, threshold: float = THRESHOLD
) -> list[dict[str, Any]]:
  """Turns one set of features into described objects.

  Args:
    features: one set, true or predicted, `(N, 19)`.
    threshold: keep the rows whose presence is above it.

  Returns:
    For every kept row, in order, a dictionary with the keys of a scene file
    (`3d_coords` in scene units; the likeliest `material`, `color`, `shape` and
    `size`, None where a score is not finite) and `presence`, the score.

  Raises:
    ValueError: if the features have another shape.
  """
  if np.ndim(features) != 2:
    raise ValueError(
      f'A set of CLEVR objects needs shape (N, {NUM_FEATURES}); got '
      f'{np.shape(features)}.'
    )
  found = decode(features)
  objects = []
  for n in np.flatnonzero(mask_of(features, threshold)):
    thing: dict[str, Any] = {'3d_coords': found.coordinates[n].tolist()}
    for key, (names, _) in ATTRIBUTES.items():
      index = found.classes[key][n]
      thing[key] = names[index] if index >= 0 else None
    thing['presence'] = float(found.presence[n])
    objects.append(thing)
  return objects


def _check_object(thing, where):
  """Refuses what is not an object; `where` opens every error message."""
  if not isinstance(thing, Mapping):
    raise ValueError(
      f'{where}: {reprlib.repr(thing)} is not an object; write a dictionary '
      "with '3d_coords', 'material', 'color', 'shape' and 'size'."
    )
  for key in ('3d_coords', *ATTRIBUTES):
    if key not in thing:
      found = reprlib.repr(sorted(map(str, thing)))
      raise ValueError(
        f'{where}: {key!r} is missing (found: {found}); '
        'add it, or use the scene file that the CLEVR generator wrote.'
      )
  _check_coordinates(thing['3d_coords'], where)
  for key, (names, _) in ATTRIBUTES.items():
    if thing[key] not in names:
      raise ValueError(
        f'{where}: {key!r} is {reprlib.repr(thing[key])}; choose one of '
        f'{", ".join(names)}.'
      )


def _check_coordinates(value, where):
  numbers = isinstance(value, list | tuple) and len(value) == 3
  numbers = numbers and all(
    isinstance(v, int | float) and not isinstance(v, bool) for v in value
  )
  # Too large for float32 counts as infinite.
  if not numbers or not all(abs(v) < 1e30 for v in value):
    raise ValueError(
      f"{where}: '3d_coords' is {reprlib.repr(value)}; it must be three finite "
      'numbers [x, y, z] in scene units.'
    )
