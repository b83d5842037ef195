"""Reading and writing a run's small files, whole or not at all."""

from collections.abc import Mapping
import json
import math
import os
from typing import Any

import numpy as np

from idspn_jax import errors
from idspn_jax.data import local_paths


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


def write_atomically(path: str, text: str) -> None:
  """Writes a text file so that a reader sees the old or the new one, whole.

  Raises:
    UserError: if it cannot be written; what was there before is unchanged.
  """
  temporary = f'{path}.{os.getpid()}.tmp'
  try:
    with open(temporary, 'w', encoding='utf-8') as f:
      f.write(text)
    os.replace(temporary, path)
  except OSError as e:
    if os.path.exists(temporary):
      os.unlink(temporary)
    raise errors.UserError(f'Cannot write {path}: {e.strerror}.') from e


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
  except (OSError, ValueError) as e:
    raise errors.UserError(
      f'Cannot read {path}: {e}. Repair or remove it.'
    ) from e


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
  except OSError as e:
    raise errors.UserError(f'Cannot create {what}={path}: {e}.') from e
  if not os.access(path, os.W_OK):
    raise errors.UserError(
      f'Cannot write to {what}={path}; check its permissions.'
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
