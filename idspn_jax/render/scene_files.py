"""CLEVR's scene files, to and from `Scenes` (NumPy, on the host)."""

from collections.abc import Mapping
import json
import os
import pathlib
import reprlib
from typing import Any

import numpy as np

from idspn_jax.data import clevr_features
from idspn_jax.render import camera as camera_lib
from idspn_jax.render import constants
from idspn_jax.render.scenes import Scenes

# An object is in a direction of another if it is further by more than this.
RELATION_MARGIN = 0.2

_BEHIND, _RIGHT = constants.BEHIND, constants.RIGHT
DIRECTIONS = {
  'behind': list(_BEHIND),
  'front': [-v for v in _BEHIND],
  'left': [-v for v in _RIGHT],
  'right': list(_RIGHT),
  'above': [0.0, 0.0, 1.0],
  'below': [-0.0, -0.0, -1.0],
}


def relationships(coordinates: np.ndarray) -> dict[str, list[list[int]]]:
  """Which objects lie in each direction of each object.

  Args:
    coordinates: centres, `(N, 3)`.

  Returns:
    By direction on the ground, for every object the others' numbers, ascending.
  """
  found = {}
  for name in ('behind', 'front', 'left', 'right'):
    along = np.asarray(coordinates) @ np.asarray(DIRECTIONS[name])
    further = along[None] - along[:, None] > RELATION_MARGIN
    found[name] = [np.flatnonzero(row).tolist() for row in further]
  return found


def describe(scene: Scenes, split: str, number: int) -> dict[str, Any]:
  """One scene as an entry of a scene file.

  Args:
    scene: one scene, NumPy arrays.
    split: `train`, `val` or `test`.
    number: of the picture within its split.

  Returns:
    A dictionary with the keys of the official files.
  """
  count = int(np.sum(scene.presence))
  coordinates = np.asarray(scene.coordinates, np.float64)[:count]
  pixels = camera_lib.pixel_coords(coordinates, scene.camera)
  objects = []
  for n in range(count):
    column, row, depth = pixels[n].tolist()
    objects.append(
      {
        'shape': clevr_features.SHAPES[scene.shapes[n]],
        'size': clevr_features.SIZES[scene.sizes[n]],
        'material': clevr_features.MATERIALS[scene.materials[n]],
        '3d_coords': coordinates[n].tolist(),
        'rotation': float(scene.rotations[n]),
        'pixel_coords': [int(column), int(row), depth],
        'color': clevr_features.COLORS[scene.colors[n]],
      }
    )
  return {
    'split': split,
    'image_index': number,
    'image_filename': picture_name(split, number),
    'objects': objects,
    'directions': DIRECTIONS,
    'relationships': relationships(coordinates),
  }


def picture_name(split: str, number: int) -> str:
  """`CLEVR_val_000003.png` of split `val` and number 3."""
  return f'CLEVR_{split}_{number:06d}.png'


def _read(path, key, kind):
  try:
    content = json.loads(pathlib.Path(path).read_text('utf-8-sig'))
  except OSError as e:
    raise ValueError(
      f'{path}: cannot be read ({e.strerror}); check the path.'
    ) from e
  except (ValueError, RecursionError) as e:
    raise ValueError(
      f'{path}: not valid JSON ({e}); give a complete file.'
    ) from e
  found = content.get(key) if isinstance(content, Mapping) else None
  if not isinstance(found, kind) or not found:
    raise ValueError(f'{path}: no {key!r} at the top level; give another file.')
  return found


def _position(value, where):
  numbers = np.asarray(value, object)
  try:
    numbers = numbers.astype(np.float32)
  except (TypeError, ValueError):
    numbers = np.zeros(0)
  if numbers.shape != (3,) or not np.all(np.isfinite(numbers)):
    raise ValueError(
      f'{where} is {reprlib.repr(value)}; it must be three finite numbers.'
    )
  return numbers


def _objects(entry, where):
  """Fields of `Scenes` that one entry's objects determine."""
  objects = entry.get('objects') if isinstance(entry, Mapping) else None
  if not isinstance(objects, list):
    raise ValueError(f"{where}: no list 'objects'; give a CLEVR scene file.")
  try:
    rows = clevr_features.features_of(objects, constants.MAX_OBJECTS)
  except ValueError as e:
    raise ValueError(f'{where}: {e}') from e
  found = clevr_features.decode(rows)
  coordinates = np.zeros((constants.MAX_OBJECTS, 3), np.float32)
  rotations = np.zeros(constants.MAX_OBJECTS, np.float32)
  for n, thing in enumerate(objects):
    coordinates[n] = thing['3d_coords']
    rotation = thing.get('rotation')
    if not isinstance(rotation, int | float) or not abs(rotation) < 1e6:
      raise ValueError(
        f"{where}, object {n}: 'rotation' is {reprlib.repr(rotation)}; it must "
        'be a number.'
      )
    rotations[n] = rotation
  present = found.presence > 0

  def classes(key):
    return np.where(present, found.classes[key], 0).astype(np.int32)

  return {
    'coordinates': coordinates,
    'rotations': rotations,
    'materials': classes('material'),
    'colors': classes('color'),
    'shapes': classes('shape'),
    'sizes': classes('size'),
    'presence': present,
  }


def entries(path: str | os.PathLike[str]) -> list[Any]:
  """The entries of a scene file, as they are.

  Raises:
    ValueError: if it cannot be read or has none.
  """
  return _read(path, 'scenes', list)


def load(
  scenes: str | os.PathLike[str], facts: str | os.PathLike[str] | None = None
) -> tuple[Scenes, list[str]]:
  """Reads scenes, and where camera and lamps stood for each.

  Args:
    scenes: a scene file; sizes follow from the classes, not the coordinates.
    facts: a JSON file with `images`: by the name of a picture, positions
      `Camera`, `Lamp_Key`, `Lamp_Fill` and `Lamp_Back`. None: without jitter.

  Returns:
    The scenes, `(S, ...)` NumPy arrays, and the pictures' names.

  Raises:
    ValueError: if a file or an entry is not as described; one line that names
      the file, the scene, the value and the remedy.
  """
  places = None if facts is None else _read(facts, 'images', dict)
  rows, names = [], []
  for number, entry in enumerate(entries(scenes)):
    where = f'{scenes}: scene {number}'
    row = _objects(entry, where)
    name = str(entry.get('image_filename', f'{number:06d}.png'))
    # Names become paths of pictures.
    if os.path.basename(name) != name or not name.endswith('.png'):
      raise ValueError(
        f"{where}: 'image_filename' is {name!r}; it must be a PNG's plain name."
      )
    names.append(name)
    camera, lamps = constants.CAMERA, constants.LAMPS
    if places is not None:
      if not isinstance(places.get(name), Mapping):
        raise ValueError(
          f"{facts}: no entry {name!r} in 'images'; give the facts of the same "
          'pictures as the scenes.'
        )
      place = places[name]
      camera = _position(place.get('Camera'), f'{facts}: {name}: Camera')
      lamps = [
        _position(place.get(lamp), f'{facts}: {name}: {lamp}')
        for lamp in constants.LAMP_NAMES
      ]
    row['camera'] = np.asarray(camera, np.float32)
    row['lamps'] = np.asarray(lamps, np.float32)
    rows.append(Scenes(**row))
  return Scenes(*(np.stack(field) for field in zip(*rows, strict=True))), names
