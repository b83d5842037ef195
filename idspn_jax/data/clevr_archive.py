"""The CLEVR archive, zipped or not, checked as TFDS's builder needs it.

That builder gives the n-th image, by name, the n-th scene of the file, whatever
their names are. So names are compared before.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import reprlib
import shutil
import tempfile
import zipfile

import tqdm

from idspn_jax import errors
from idspn_jax.data import clevr_tree

_ADDRESS = 'https://dl.fbaipublicfiles.com/clevr/CLEVR_v1.0.zip'
# Any number of objects may be prepared; readers check against their slots.
_MANY = 100


@contextlib.contextmanager
def opened(
  source: pathlib.Path, scratch: pathlib.Path
) -> Iterator[pathlib.Path]:
  """Gives a checked folder with `CLEVR_v1.0` in it.

  Args:
    source: `CLEVR_v1.0.zip`, or its unpacked folder under any name.
    scratch: where to unpack; the files are removed at the end.

  Yields:
    The folder.

  Raises:
    UserError: if the source is damaged or not complete, or there is no room.
  """
  with tempfile.TemporaryDirectory(prefix='clevr_source_', dir=scratch) as name:
    folder = pathlib.Path(name)
    if os.path.isdir(source):
      tree = clevr_tree.find_tree(source)
      check(tree)
      (folder / clevr_tree.TOP).symlink_to(tree.absolute())
    else:
      _unpack(source, folder)
      check(folder / clevr_tree.TOP)
    yield folder


def check(tree: pathlib.Path) -> None:
  """Refuses an archive from which TFDS would make a wrong data set.

  Args:
    tree: the folder that holds `images`, `scenes` and `questions`.

  Raises:
    UserError: if a file is missing, or images and scenes do not correspond.
  """
  for split in clevr_tree.SPLITS:
    images = clevr_tree.image_names(tree, split)
    folder = tree / 'images' / split
    if others := sorted(set(os.listdir(folder)) - set(images)):
      raise errors.UserError(
        f'{folder}: {others[0]} is not a .png file; remove it, or TFDS takes '
        'it for an image.'
      )
    questions = clevr_tree.questions_path(tree, split)
    if not os.path.exists(questions):
      raise errors.UserError(
        f'{questions}: missing, and TFDS insists on it; without questions, '
        'write {"questions": []} to it.'
      )
    path = clevr_tree.scenes_path(tree, split)
    if split not in clevr_tree.WITH_SCENES and not os.path.exists(path):
      continue
    names, _ = clevr_tree.read_scenes(path, _MANY)
    clevr_tree.check_scenes(images, names, str(path))
    if names != images:
      extra = sorted(set(names) - set(images))
      what = (
        f'there is no image {extra[0]} ({len(extra)} scenes have none)'
        if extra
        else "its scenes are not in the order of their images' names"
      )
      raise errors.UserError(
        f'{path}: {what}, and TFDS goes by the order alone; restore the file '
        'or the images.'
      )


def _damaged(source, reason):
  return errors.UserError(
    f'{source}: not a complete zip archive ({reason}); it has '
    f'{source.stat().st_size:,} bytes, the official one 19,021,600,724. Fetch '
    f'it again from {_ADDRESS}.'
  )


def _unpack(source, folder):
  """Extracts what the builder reads."""
  parts = tuple(
    f'{clevr_tree.TOP}/{part}/' for part in ('images', 'questions', 'scenes')
  )
  try:
    with zipfile.ZipFile(source) as archive:
      members = [
        member
        for member in archive.infolist()
        if member.filename.startswith(parts) and not member.is_dir()
      ]
      if not members:
        raise errors.UserError(
          f'{source}: no {parts[0]} in it; give {clevr_tree.TOP}.zip.'
        )
      size = sum(member.file_size for member in members)
      _check_room(folder, size)
      with tqdm.tqdm(
        total=size, unit='B', unit_scale=True, desc=f'Unpacking {source.name}'
      ) as bar:
        for member in members:
          archive.extract(member, folder)
          bar.update(member.file_size)
  except errors.UserError:
    raise
  except OSError as e:
    raise errors.UserError(
      f'{source} cannot be unpacked to {folder}: {e.strerror or e}.'
    ) from e
  # The decompressors have errors of their own, and passwords are another.
  except Exception as e:
    raise _damaged(source, reprlib.repr(str(e) or type(e).__name__)) from e


def _check_room(folder, size):
  free = shutil.disk_usage(folder).free
  # The prepared data set is about as large again.
  if free < 2 * size:
    raise errors.UserError(
      f'Unpacking and preparing needs {2 * size / 1e9:.1f} GB in '
      f'{folder.parent}, where {free / 1e9:.1f} GB are free; choose another '
      '--data_dir, or unpack the archive yourself and give the folder.'
    )
