"""Paths of files on this machine."""

import os
import pathlib
import re


def local_path(path: str | os.PathLike[str]) -> pathlib.Path:
  """Expands `~` and refuses addresses of other machines.

  Args:
    path: as a user wrote it.

  Returns:
    The path, `~` and `~user` expanded.

  Raises:
    ValueError: if it is no text, an address such as `gs://bucket/file`, or of
      a user that does not exist.
  """
  if not isinstance(path, str | os.PathLike):
    raise ValueError(f'{path!r} is no path; give the path of a file as text.')
  text = os.fspath(path)
  if re.match(r'[A-Za-z][A-Za-z0-9+.-]*://', text):
    raise ValueError(
      f'{text}: remote paths are not supported; use a local copy of the file.'
    )
  try:
    return pathlib.Path(text).expanduser()
  except RuntimeError as error:
    raise ValueError(
      f'{text}: `~` cannot be expanded ({error}); write the whole path.'
    ) from error


def check_inside(
  folder: str | os.PathLike[str], path: str | os.PathLike[str]
) -> None:
  """Refuses a link that leads out of a cache.

  The folder itself may be a link.

  Args:
    folder: of the cache.
    path: of a file in it, which need not exist.

  Raises:
    ValueError: naming the link and where it leads.
  """
  root, place = os.path.realpath(folder), os.path.realpath(path)
  if os.path.commonpath([root, place]) != root:
    raise ValueError(
      f'{path}: a link out of the cache, to {place}; remove it, or copy the '
      'file there.'
    )
