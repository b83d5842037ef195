"""Rendered pictures as a `CLEVR_v1.0` directory that other tools read."""

from collections.abc import Mapping
import dataclasses
import functools
import json
import os
import pathlib

import jax
import numpy as np

from idspn_jax import errors
from idspn_jax.render import constants
from idspn_jax.render import image
from idspn_jax.render import jobs
from idspn_jax.render import rendered_pictures
from idspn_jax.render import sample_scenes
from idspn_jax.render import scene_files
from idspn_jax.runs import files

NAME = 'CLEVR_v1.0'
_NOTE = 'rendered by idspn-jax; not the official images'
_CHUNK = 10


def write_picture(path: str, picture: np.ndarray) -> None:
  """Writes a PNG, whole or not at all.

  Args:
    path: the file.
    picture: `(height, width, 3)`, uint8.

  Raises:
    UserError: if it cannot be written.
  """
  # Here, because importing it takes a while.
  import PIL.Image

  with files.replacing(path, 'wb') as f:
    PIL.Image.fromarray(picture).save(f, format='PNG')


@functools.partial(jax.jit, static_argnames=('num_objects',))
def _sample(key, first, num_objects):
  return sample_scenes.sample_scenes(key, _CHUNK, first, num_objects)


def _scenes(description, first):
  low, high = description.min_objects, description.max_objects
  scenes = _sample(description.key, first, (low, high))
  return jax.device_get(scenes)


def _write_chunk(
  folder: str, job: tuple[rendered_pictures.Description, int]
) -> int:
  """Renders the pictures of a chunk that do not exist; counts all of them."""
  description, first = job
  count = min(_CHUNK, description.count - first)
  paths = [
    os.path.join(
      folder,
      description.split,
      scene_files.picture_name(description.split, first + n),
    )
    for n in range(count)
  ]
  if not all(os.path.exists(path) for path in paths):
    scenes = _scenes(description, first)
    pictures = image.render(
      scenes, constants.Look(), description.width, description.height
    )
    pictures = jax.device_get(image.as_bytes(pictures))
    for path, picture in zip(paths, pictures, strict=False):
      write_picture(path, picture)
  return count


def _write_scenes(root, description):
  entries = []
  for first in range(0, description.count, _CHUNK):
    scenes = _scenes(description, first)
    for n in range(min(_CHUNK, description.count - first)):
      scene = jax.tree.map(lambda a, n=n: a[n], scenes)
      entries.append(scene_files.describe(scene, description.split, first + n))
  _write_json(
    root / 'scenes' / f'CLEVR_{description.split}_scenes.json',
    {'info': _info(description.split), 'scenes': entries},
  )


def _info(split):
  return {'split': split, 'version': '1.0', 'note': _NOTE}


def _write_json(path: pathlib.Path, content: Mapping) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_atomically(str(path), json.dumps(content) + '\n')


def _check_settings(root, descriptions):
  """Refuses to mix pictures of different settings in one directory."""
  path = root / 'rendering.json'
  wanted = {
    'version': rendered_pictures.VERSION,
    'splits': [dataclasses.asdict(d) for d in descriptions],
  }
  found = files.read_mapping(
    str(path), ('splits', 'version'), f'remove {root} and start anew'
  )
  if found is None:
    if os.path.exists(root) and any(root.iterdir()):
      raise errors.UserError(
        f'{root} holds files that are not from here; choose another --out.'
      )
    _write_json(path, wanted)
  elif found != wanted:
    raise errors.UserError(
      f'{root} was begun with other settings (see {path}); repeat that command '
      'to go on with it, or choose another --out.'
    )


def write_tree(
  directory: str,
  descriptions: list[rendered_pictures.Description],
  processes: int = 1,
) -> pathlib.Path:
  """Writes pictures, scene files and the questions files that TFDS wants.

  As in the archive, the test split has no scene file. The same call goes on
  where an earlier one was interrupted.

  Args:
    directory: gets a directory `CLEVR_v1.0`.
    descriptions: the splits to write, with at least one picture each.
    processes: how many processes render.

  Returns:
    The directory `CLEVR_v1.0`.

  Raises:
    UserError: if it cannot be written or holds other pictures.
  """
  root = pathlib.Path(directory) / NAME
  if not descriptions:
    raise errors.UserError(
      'There is nothing to render; set --num_train, --num_val or --num_test.'
    )
  _check_settings(root, descriptions)
  for split in rendered_pictures.SPLITS:
    files.make_directory(str(root / 'images' / split), '--out')
    _write_json(
      root / 'questions' / f'CLEVR_{split}_questions.json',
      {'info': _info(split), 'questions': []},
    )
  chunks = [
    (d, first) for d in descriptions for first in range(0, d.count, _CHUNK)
  ]
  write = functools.partial(_write_chunk, str(root / 'images'))
  total = sum(d.count for d in descriptions)
  jobs.run_all(write, chunks, processes, total, 'pictures')
  for description in descriptions:
    if description.split != 'test':
      _write_scenes(root, description)
  return root


def write_given(
  directory: str, scenes: str, facts: str | None, size: tuple[int, int]
) -> list[str]:
  """Renders the scenes of a scene file, each under its picture's name.

  Args:
    directory: gets the pictures.
    scenes: the scene file.
    facts: where camera and lamps stood, or None; see `scene_files.load`.
    size: width and height.

  Returns:
    The pictures' paths.

  Raises:
    UserError: if a file is not as described or cannot be written.
  """
  try:
    given, names = scene_files.load(scenes, facts)
  except ValueError as e:
    raise errors.UserError(str(e)) from e
  files.make_directory(directory, '--out')
  paths = [os.path.join(directory, name) for name in names]

  def write(first):
    rows = np.minimum(np.arange(first, first + _CHUNK), len(names) - 1)
    part = jax.tree.map(lambda a: a[rows], given)
    pictures = image.render(part, constants.Look(), *size)
    pictures = jax.device_get(image.as_bytes(pictures))
    chunk = paths[first : first + _CHUNK]
    for path, picture in zip(chunk, pictures, strict=False):
      write_picture(path, picture)
    return len(chunk)

  firsts = range(0, len(names), _CHUNK)
  jobs.run_all(write, firsts, 1, len(names), 'pictures')
  return paths
