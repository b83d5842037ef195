"""Reading and writing a run's small files, whole or not at all."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import json
import math
import os
from typing import IO, Any

from absl import logging
import numpy as np

from idspn_jax import errors
from idspn_jax.data import local_paths


class Damaged(errors.UserError):
  """A file that can be read, but whose content is not what it must be."""


def local_path(path: str, what: str) -> str:
  """Expands `~`; refuses addresses of remote storage.

  Args:
    path: as the user gave it.
    what: how an error calls it, like `--workdir`.

  Raises:
    UserError: if the path is an address like `gs://bucket/run`.
  """
  try:
    return str(local_paths.local_path(path))
  except ValueError as e:
    raise errors.UserError(f'{what}: {e}') from e


@contextlib.contextmanager
def replacing(path: str, mode: str = 'w') -> Iterator[IO[Any]]:
  """Opens a file that takes its place only when it has been written whole.

  Until then it has another name beside its place; if anything interrupts the
  writing, it is removed, and what was there before is unchanged.

  Args:
    path: the file.
    mode: 'w' for text or 'wb' for bytes.

  Yields:
    The open file.

  Raises:
    UserError: if it cannot be written.
  """
  temporary = f'{path}.{os.getpid()}.tmp'
  encoding = None if 'b' in mode else 'utf-8'
  try:
    with open(temporary, mode, encoding=encoding) as f:
      yield f
      f.flush()
      # A full disk may be told only here.
      os.fsync(f.fileno())
    os.replace(temporary, path)
  except OSError as e:
    raise cannot_write(path, e) from e
  finally:
    with contextlib.suppress(OSError):
      os.unlink(temporary)


def cannot_write(path: str, e: OSError) -> errors.UserError:
  """The error of a file that cannot be written, with the system's reason."""
  return errors.UserError(
    f'Cannot write {path}: {e.strerror or e}. Make room or choose another '
    'place.'
  )


def cannot_read(path: str, e: OSError) -> errors.UserError:
  """The error of a file that the system does not read, with its reason."""
  return errors.UserError(
    f'Cannot read {path}: {e.strerror or e}. Check the path, its permissions '
    'and the disk; nothing was changed.'
  )


def check_readable(folder: str) -> None:
  """Reads all files of a folder.

  Args:
    folder: the folder; need not exist.

  Raises:
    UserError: if the system refuses to read one.
  """

  def refuse(e):
    raise e

  try:
    for place, _, names in os.walk(folder, onerror=refuse):
      for name in names:
        with open(os.path.join(place, name), 'rb') as f:
          while f.read(2**20):
            pass
  except (FileNotFoundError, NotADirectoryError):
    return
  except OSError as e:
    raise cannot_read(folder, e) from e


def write_atomically(path: str, text: str) -> None:
  """Writes a text file so that a reader sees the old or the new one, whole.

  Raises:
    UserError: if it cannot be written; what was there before is unchanged.
  """
  with replacing(path) as f:
    f.write(text)


def write_json(path: str, content: Any) -> None:
  """Writes JSON atomically, indented; non-finite numbers become null."""
  text = json.dumps(plain(content), indent=2, allow_nan=False)
  write_atomically(path, text + '\n')


def read_json(path: str) -> Any:
  """Reads a JSON file.

  Raises:
    UserError: if it cannot be read or is not JSON.
  """
  try:
    with open(path, encoding='utf-8') as f:
      return json.load(f)
  except OSError as e:
    raise cannot_read(path, e) from e
  except (ValueError, RecursionError) as e:
    raise Damaged(f'Cannot read {path}: {e}. Repair or remove it.') from e


def read_mapping(
  path: str, keys: Sequence[str], remedy: str
) -> dict[str, Any] | None:
  """Reads a JSON file that holds a mapping; None if there is no such file.

  Args:
    path: the file.
    keys: what the mapping must have.
    remedy: what to do about a damaged file, a sentence without its full stop.

  Raises:
    Damaged: if it is no JSON, no mapping, or lacks a key.
    UserError: if it cannot be read.
  """
  if not os.path.lexists(path):
    return None
  try:
    found = read_json(path)
  except Damaged as e:
    raise Damaged(f'{path} is damaged ({e.__cause__}); {remedy}.') from e
  if not isinstance(found, dict):
    reason = f'it holds {type(found).__name__} instead of a mapping'
  elif missing := [key for key in keys if key not in found]:
    reason = f'it lacks {missing[0]!r}'
  else:
    return found
  raise Damaged(f'{path} is damaged ({reason}); {remedy}.')


def set_aside(path: str, why: Exception) -> None:
  """Renames a damaged file, so that it can be written anew, and warns.

  Args:
    path: the file; it becomes `path.damaged`.
    why: what is wrong with it.

  Raises:
    UserError: if it cannot be renamed.
  """
  try:
    os.replace(path, f'{path}.damaged')
  except OSError as e:
    raise cannot_write(f'{path}.damaged', e) from e
  logging.warning('%s Moved to %s.damaged.', why, path)


def make_directory(path: str, what: str) -> None:
  """Creates a directory to write to, unless it exists.

  Args:
    path: the directory.
    what: how an error calls it, like `--output`.

  Raises:
    UserError: if it cannot be created or written to.
  """
  try:
    os.makedirs(path, exist_ok=True)
  except FileExistsError as e:
    raise errors.UserError(
      f'Cannot create {what}={path}: it is a file; choose another place.'
    ) from e
  except OSError as e:
    raise errors.UserError(
      f'Cannot create {what}={path}: {e.strerror}; choose another place.'
    ) from e
  if not os.access(path, os.W_OK | os.X_OK):
    raise errors.UserError(
      f'Cannot write to {what}={path}; check its permissions, or choose '
      'another place.'
    )


def plain(value: Any) -> Any:
  """Turns mappings, sequences and array scalars into what JSON can hold."""
  if isinstance(value, Mapping):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v) for v in value]
  if isinstance(value, str | int | bool) or value is None:
    return value
  if isinstance(value, np.ndarray) and value.ndim:
    return [plain(v) for v in value]
  number = float(value)
  return number if math.isfinite(number) else None
