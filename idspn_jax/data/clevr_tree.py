"""CLEVR as a folder of files: `images/SPLIT/*.png` and `scenes/*.json`.

The layout is that of the official archive, whose top folder is `CLEVR_v1.0`.
Reading it needs neither TensorFlow Datasets nor grain.
"""

from collections.abc import Sequence
import hashlib
import os
import pathlib

import numpy as np

from idspn_jax import errors
from idspn_jax.data import clevr_scenes
from idspn_jax.data import local_paths
from idspn_jax.data import pictures

TOP = 'CLEVR_v1.0'
SPLITS = ('train', 'val', 'test')
# The official archive has no scenes for `test`.
WITH_SCENES = ('train', 'val')


def find_tree(path: str | os.PathLike[str]) -> pathlib.Path:
  """The folder that holds `images` and `scenes`.

  Args:
    path: that folder, or the one that holds `CLEVR_v1.0`.

  Raises:
    UserError: if there is no such folder.
  """
  try:
    given = local_paths.local_path(path)
  except ValueError as e:
    raise errors.UserError(str(e)) from e
  for folder in (given, given / TOP):
    if os.path.isdir(folder / 'images'):
      return folder
  if not os.path.exists(given):
    raise errors.UserError(f'{given}: no such file or folder; check the path.')
  raise errors.UserError(
    f'{given}: no folder `images` in it or in {TOP}; give the unpacked folder '
    f'of {TOP}.zip.'
  )


def scenes_path(tree: pathlib.Path, split: str) -> pathlib.Path:
  """The scene file of a split of 'train', 'val' or 'test'."""
  return tree / 'scenes' / f'CLEVR_{split}_scenes.json'


def questions_path(tree: pathlib.Path, split: str) -> pathlib.Path:
  """The question file of a split."""
  return tree / 'questions' / f'CLEVR_{split}_questions.json'


def image_names(tree: pathlib.Path, split: str) -> list[str]:
  """Names of a split's pictures, sorted.

  Raises:
    UserError: if there is none.
  """
  folder = tree / 'images' / split
  try:
    names = sorted(
      name for name in os.listdir(folder) if name.lower().endswith('.png')
    )
  except OSError as e:
    raise errors.UserError(
      f'{folder}: {e.strerror}; it must hold the pictures of the split {split}.'
    ) from e
  if not names:
    raise errors.UserError(
      f'{folder}: no .png files; it must hold the pictures of the split '
      f'{split}.'
    )
  return names


def read_scenes(
  path: pathlib.Path, max_objects: int
) -> tuple[list[str], np.ndarray]:
  """Reads a scene file that has to be there.

  Args:
    path: the file.
    max_objects: rows N per scene.

  Returns:
    Names of images and features `(S, N, 19)`; see `clevr_scenes`.

  Raises:
    UserError: if it is missing or wrong.
  """
  if not os.path.exists(path):
    raise _no_scenes(path)
  try:
    return clevr_scenes.load_named_scenes(path, max_objects)
  except ValueError as e:
    raise errors.UserError(str(e)) from e


def check_scenes(
  images: Sequence[str], scenes: Sequence[str], where: str
) -> None:
  """Refuses images without a scene.

  Args:
    images: names of the images.
    scenes: names of the images of the scenes.
    where: the scene file, for the error.

  Raises:
    UserError: naming the first one, and how many there are.
  """
  missing = sorted(set(images) - set(scenes))
  if missing:
    raise errors.UserError(
      f'{where}: no scene for image {missing[0]} ({len(missing)} of '
      f'{len(images)} images have none); restore the scene file, or remove '
      'the images.'
    )


class TreePictures:
  """Pictures of one split of a folder, in the order of their names.

  Attributes:
    names: of the pictures, S of them.
    targets: features of their objects, `(S, N, 19)`, float32; see
      `clevr_features`.
  """

  def __init__(
    self,
    path: str | os.PathLike[str],
    split: str,
    max_objects: int = 10,
  ):
    """Lists the pictures and reads their scenes.

    Scenes without a picture are left out, so that a part of the archive can be
    read.

    Args:
      path: see `find_tree`.
      split: 'train' or 'val'.
      max_objects: rows N per scene.

    Raises:
      UserError: if a file is missing or wrong, an image has no scene, or a
        scene has too many objects.
    """
    if split not in WITH_SCENES:
      raise errors.UserError(
        f'The split {split!r} has no scenes; choose one of '
        f'{", ".join(WITH_SCENES)}.'
      )
    tree = find_tree(path)
    scene_file = scenes_path(tree, split)
    names, features = read_scenes(scene_file, max_objects)
    self.names = image_names(tree, split)
    check_scenes(self.names, names, str(scene_file))
    place = {name: i for i, name in enumerate(names)}
    self.targets = features[[place[name] for name in self.names]]
    self._folder = tree / 'images' / split

  def __len__(self) -> int:
    """Number of pictures."""
    return len(self.names)

  def picture(self, index: int, image_size: int) -> np.ndarray:
    """One picture, resized.

    Args:
      index: which one.
      image_size: edge length.

    Returns:
      `(image_size, image_size, 3)`, uint8.

    Raises:
      UserError: if the file is damaged.
    """
    try:
      return pictures.decode(self._folder / self.names[index], image_size)
    except ValueError as e:
      raise errors.UserError(str(e)) from e


def identity(path: str | os.PathLike[str], split: str) -> str:
  """A digest that changes with the scene file and the pictures of a split.

  Pictures go by name and size.

  Args:
    path: see `find_tree`.
    split: 'train' or 'val'.

  Raises:
    UserError: if a file is missing.
  """
  tree = find_tree(path)
  names = image_names(tree, split)
  folder = tree / 'images' / split
  facts = [(name, os.stat(folder / name).st_size) for name in names]
  found = hashlib.sha256(repr(facts).encode())
  try:
    found.update(scenes_path(tree, split).read_bytes())
  except OSError as e:
    raise _no_scenes(scenes_path(tree, split)) from e
  return found.hexdigest()


def _no_scenes(path):
  return errors.UserError(
    f'{path}: the scene file is missing; unpack the whole {TOP}.zip.'
  )
