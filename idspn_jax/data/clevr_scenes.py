"""CLEVR scene files as sets of object features (Section 4.3).

An object is 19 numbers, in the order of the paper's code: coordinates / 3,
then one-hot material, colour, shape and size, then presence. Absent objects
are rows of zeros.
"""

from collections.abc import Mapping
import json
import os
import pathlib
import reprlib
from typing import Any

import numpy as np

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
COORDINATE_SCALE = 3.0

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


def _coordinates(value, where):
  numbers = isinstance(value, list) and len(value) == 3
  numbers = numbers and all(type(v) in (int, float) for v in value)
  # Too large for float32 counts as infinite.
  if not numbers or not all(abs(v) < 1e30 for v in value):
    raise ValueError(
      f"{where}: '3d_coords' is {reprlib.repr(value)}; it must be three finite "
      'numbers [x, y, z] in scene units.'
    )
  return value


def _object_row(thing, where):
  """One object's features, `(19,)`; `where` opens every error message."""
  if not isinstance(thing, Mapping):
    raise ValueError(
      f'{where}: {reprlib.repr(thing)} is not an object; write a dictionary '
      "with '3d_coords', 'material', 'color', 'shape' and 'size'."
    )
  for key in ('3d_coords', *ATTRIBUTES):
    if key not in thing:
      raise ValueError(
        f'{where}: {key!r} is missing (found: {reprlib.repr(sorted(thing))}); '
        'add it, or use the scene file that the CLEVR generator wrote.'
      )
  row = np.zeros(NUM_FEATURES, np.float32)
  row[COORDINATES] = _coordinates(thing['3d_coords'], where)
  row[COORDINATES] /= COORDINATE_SCALE
  for key, (names, columns) in ATTRIBUTES.items():
    if thing[key] not in names:
      raise ValueError(
        f'{where}: {key!r} is {reprlib.repr(thing[key])}; choose one of '
        f'{", ".join(names)}.'
      )
    row[columns.start + names.index(thing[key])] = 1.0
  row[PRESENCE] = 1.0
  return row


def _read_scenes(path):
  try:
    content = json.loads(pathlib.Path(path).read_text('utf-8-sig'))
  except FileNotFoundError as error:
    raise ValueError(f'{path}: no such file; check the path.') from error
  except OSError as error:
    raise ValueError(
      f'{path}: cannot be read ({error.strerror}); give a CLEVR scene file.'
    ) from error
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f'{path}: not valid JSON ({error}); give a complete CLEVR scene file.'
    ) from error
  scenes = content.get('scenes') if isinstance(content, Mapping) else None
  if not isinstance(scenes, list):
    found = sorted(content) if isinstance(content, Mapping) else content
    raise ValueError(
      f"{path}: no list 'scenes' at the top level (found: "
      f'{reprlib.repr(found)}); give a CLEVR scene file, not questions.'
    )
  if not scenes:
    raise ValueError(
      f"{path}: the list 'scenes' is empty; give a file with scenes."
    )
  return scenes


def load_scenes(
  path: str | os.PathLike[str], max_objects: int = 10
) -> np.ndarray:
  """Reads the objects of every scene of a CLEVR scene file.

  Args:
    path: a JSON file with a list `scenes`, each with a list `objects` of
      dictionaries with `3d_coords` (scene units), `material`, `color`, `shape`
      and `size`; further keys are ignored.
    max_objects: rows N per scene.

  Returns:
    Features, `(S, N, 19)`, float32, objects in the order of the file; the rows
    beyond a scene's objects are zero.

  Raises:
    ValueError: if the file cannot be read or an entry is not as described; one
      line that names the file, the scene, the object, the value and the remedy.
  """
  scenes = _read_scenes(path)
  sets = np.zeros((len(scenes), max_objects, NUM_FEATURES), np.float32)
  for index, scene in enumerate(scenes):
    where = f'{path}: scene {index}'
    if not isinstance(scene, Mapping):
      raise ValueError(
        f'{where}: {reprlib.repr(scene)} is not a scene; write a dictionary '
        "with a list 'objects'."
      )
    if 'image_filename' in scene:
      where += f' ({reprlib.repr(scene["image_filename"])})'
    objects = scene.get('objects')
    if not isinstance(objects, list):
      raise ValueError(
        f"{where}: no list 'objects' (found: {reprlib.repr(sorted(scene))}); "
        'add it, or use the scene file that the CLEVR generator wrote.'
      )
    if len(objects) > max_objects:
      raise ValueError(
        f'{where}: {len(objects)} objects, but sets hold at most '
        f'{max_objects}; remove the scene or raise max_objects.'
      )
    for n, thing in enumerate(objects):
      sets[index, n] = _object_row(thing, f'{where}, object {n}')
  return sets


def objects_of(
  features: np.ndarray, threshold: float = 0.5
) -> list[dict[str, Any]]:
  """Turns one set of features into readable objects.

  Args:
    features: one set, true or predicted, `(N, 19)`.
    threshold: keep the rows whose presence is above it.

  Returns:
    For every kept row, in order, a dictionary with the keys of a scene file
    (`3d_coords` in scene units; the likeliest `material`, `color`, `shape` and
    `size`) and `presence`, the score.

  Raises:
    ValueError: if the features have another shape.
  """
  features = np.asarray(features, np.float64)
  if features.ndim != 2 or features.shape[1] != NUM_FEATURES:
    raise ValueError(
      f'A set of CLEVR objects needs shape (N, {NUM_FEATURES}); got '
      f'{features.shape}.'
    )
  objects = []
  for row in features[features[:, PRESENCE] > threshold]:
    thing: dict[str, Any] = {
      '3d_coords': [float(v) * COORDINATE_SCALE for v in row[COORDINATES]]
    }
    for key, (names, columns) in ATTRIBUTES.items():
      thing[key] = names[int(np.argmax(row[columns]))]
    thing['presence'] = float(row[PRESENCE])
    objects.append(thing)
  return objects
