"""How far rendered pictures are from real ones."""

import os
from typing import NamedTuple

import jax
import numpy as np

from idspn_jax import errors
from idspn_jax.data import clevr_tree
from idspn_jax.data import pictures
from idspn_jax.render import camera as camera_lib
from idspn_jax.render import constants
from idspn_jax.render import image
from idspn_jax.render import scene_files
from idspn_jax.render import scenes as scenes_lib

# Where a real picture differs by more from the median one, objects are (mean
# of the channels, grey levels).
OBJECT_THRESHOLD = 25
_CHUNK = 20


class Comparison(NamedTuple):
  """Pictures side by side, and their errors in grey levels.

  Attributes:
    names: of the pictures, S.
    real: `(S, height, width, 3)`, uint8.
    rendered: alike.
    error: mean absolute difference over all pixels and channels.
    object_error: the same over pixels of objects.
    median_error: `error` of the median picture of the train split instead.
    median_object_error: alike.
    projection_error: largest distance between the `pixel_coords` of the scene
      file and the projected centre of an object, in pixels of 480 × 320.
  """

  names: list[str]
  real: np.ndarray
  rendered: np.ndarray
  error: float
  object_error: float
  median_error: float
  median_object_error: float
  projection_error: float


def _read_pictures(paths, size):
  """Pictures of a size, `(S, height, width, 3)`, uint8."""
  try:
    return np.stack([pictures.decode(path, size) for path in paths])
  except ValueError as e:
    raise errors.UserError(str(e)) from e


def object_mask(real: np.ndarray, median: np.ndarray) -> np.ndarray:
  """Where pictures show objects and their marks, `(S, height, width)`, bool."""
  apart = np.abs(real.astype(np.float32) - median[None])
  return np.mean(apart, axis=-1) > OBJECT_THRESHOLD


def render_all(
  scenes: scenes_lib.Scenes, size: tuple[int, int], look: constants.Look
) -> np.ndarray:
  """Renders scenes `(S, ...)` as uint8 pictures `(S, height, width, 3)`."""
  count = scenes.presence.shape[0]
  chunk = min(_CHUNK, count)
  parts = []
  for start in range(0, count, chunk):
    rows = np.minimum(np.arange(start, start + chunk), count - 1)
    part = jax.tree.map(lambda a, rows=rows: np.asarray(a)[rows], scenes)
    parts.append(image.as_bytes(image.render(part, look, *size)))
  return np.concatenate(jax.device_get(parts))[:count]


def compare(
  root: str | os.PathLike[str],
  facts: str | os.PathLike[str],
  split: str,
  size: tuple[int, int] = (128, 128),
) -> Comparison:
  """Renders the scenes of real pictures and compares.

  Args:
    root: real pictures and scene files, see `clevr_tree.find_tree`.
    facts: where camera and lamps stood; see `scene_files.load`.
    split: `train` or `val`.
    size: width and height.

  Raises:
    UserError: if a file is missing or not as described.
  """
  root = clevr_tree.find_tree(root)
  path = root / 'scenes' / f'CLEVR_{split}_scenes.json'
  try:
    scenes, names = scene_files.load(path, facts)
  except ValueError as e:
    raise errors.UserError(str(e)) from e
  folder = root / 'images' / split
  real = _read_pictures([folder / name for name in names], size)
  train = sorted((root / 'images' / 'train').glob('*.png'))
  if not train:
    raise errors.UserError(
      f'{root}/images/train holds no PNG; its median picture is compared too.'
    )
  median = np.median(_read_pictures(train, size), axis=0)
  rendered = render_all(scenes, size, constants.Look())
  mask = object_mask(real, median)

  def mean(others):
    apart = np.abs(real.astype(np.float64) - others)
    return float(np.mean(apart)), float(np.mean(apart[mask]))

  return Comparison(
    names,
    real,
    rendered,
    *mean(rendered.astype(np.float64)),
    *mean(median[None]),
    projection_error=_projection_error(path, scenes),
  )


def _projection_error(path, scenes):
  worst = 0.0
  for entry, camera in zip(
    scene_files.entries(path), scenes.camera, strict=True
  ):
    for thing in entry['objects']:
      if 'pixel_coords' in thing:
        point = np.asarray(thing['3d_coords'], np.float64)
        found = camera_lib.pixel_coords(point, camera)
        apart = np.asarray(thing['pixel_coords'][:2]) - found[:2]
        worst = max(worst, float(np.max(np.abs(apart))))
  return worst


def report(comparison: Comparison) -> str:
  """The errors as text."""
  c = comparison
  height, width = c.real.shape[1:3]
  return '\n'.join(
    [
      f'{len(c.names)} pictures at {width}×{height}; mean absolute error in '
      'grey levels',
      f'{"":24}{"all pixels":>12}{"objects":>10}',
      f'{"rendered":24}{c.error:12.2f}{c.object_error:10.2f}',
      f'{"median picture of train":24}{c.median_error:12.2f}'
      f'{c.median_object_error:10.2f}',
      f'pixel_coords differ by at most {c.projection_error:g} pixels',
    ]
  )
