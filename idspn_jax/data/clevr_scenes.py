"""CLEVR scene files (JSON) as sets of object features (Section 4.3)."""

from collections.abc import Mapping
import json
import os
import pathlib
import reprlib

import numpy as np

from idspn_jax.data import clevr_features


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


def _objects(scene, where, max_objects):
  """The list of a scene's objects, and how error messages name the scene."""
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
  return objects, where


def load_scenes(
  path: str | os.PathLike[str], max_objects: int = 10
) -> np.ndarray:
  """Reads the objects of every scene of a CLEVR scene file.

  Args:
    path: a JSON file with a list `scenes`, each with a list `objects` of
      dictionaries as `clevr_features.features_of` takes them; further keys are
      ignored.
    max_objects: rows N per scene.

  Returns:
    Features, `(S, N, 19)`, float32, objects in the order of the file; the rows
    beyond a scene's objects are zero. See `clevr_features`.

  Raises:
    ValueError: if the file cannot be read or an entry is not as described; one
      line that names the file, the scene, the object, the value and the remedy.
  """
  return _features(_read_scenes(path), path, max_objects)


def load_named_scenes(
  path: str | os.PathLike[str], max_objects: int = 10
) -> tuple[list[str], np.ndarray]:
  """Reads scenes and the names of their images.

  Args:
    path: as for `load_scenes`; every scene has an `image_filename`.
    max_objects: rows N per scene.

  Returns:
    The names, in the order of the file, and the features, `(S, N, 19)`.

  Raises:
    ValueError: like `load_scenes`, or if a name is missing or occurs twice.
  """
  scenes = _read_scenes(path)
  sets = _features(scenes, path, max_objects)
  places: dict[str, int] = {}
  for index, scene in enumerate(scenes):
    name = scene.get('image_filename')
    if not isinstance(name, str):
      raise ValueError(
        f"{path}: scene {index}: no text 'image_filename' (found: "
        f'{reprlib.repr(name)}); add the name of its image.'
      )
    if name in places:
      raise ValueError(
        f'{path}: scenes {places[name]} and {index} are both of image {name}; '
        'remove one.'
      )
    places[name] = index
  return list(places), sets


def _features(scenes, path, max_objects):
  """Features of all scenes of the file at `path`."""
  shape = (len(scenes), max_objects, clevr_features.NUM_FEATURES)
  sets = np.zeros(shape, np.float32)
  for index, scene in enumerate(scenes):
    objects, where = _objects(scene, f'{path}: scene {index}', max_objects)
    try:
      sets[index] = clevr_features.features_of(objects, max_objects)
    except ValueError as error:
      raise ValueError(f'{where}, {error}') from error
  return sets
