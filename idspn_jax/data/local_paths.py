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
    ValueError: if it is an address such as `gs://bucket/file`, or of a user
      that does not exist.
  """
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
