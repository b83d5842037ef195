"""Files that a run leaves behind: configuration, versions, scalars, results."""

from collections.abc import Mapping
import datetime
import importlib.metadata
import json
import math
import os
import platform
from typing import Any

import jax

from idspn_jax import errors

_PACKAGES = (
  'idspn-jax',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'jaxopt',
  'numpy',
  'scipy',
  'orbax-checkpoint',
)


def write_atomically(path: str, text: str) -> None:
  """Writes a text file so that a reader sees the old or the new one, whole."""
  temporary = f'{path}.{os.getpid()}.tmp'
  with open(temporary, 'w', encoding='utf-8') as f:
    f.write(text)
  os.replace(temporary, path)


def write_json(path: str, content: Any) -> None:
  """Writes JSON atomically, indented, numbers as they are (NaN as null)."""
  text = json.dumps(_plain(content), indent=2, allow_nan=False)
  write_atomically(path, text + '\n')


def read_json(path: str) -> Any:
  """Reads a JSON file.

  Raises:
    UserError: if it cannot be read or is no JSON.
  """
  try:
    with open(path, encoding='utf-8') as f:
      return json.load(f)
  except (OSError, ValueError) as e:
    raise errors.UserError(
      f'Cannot read {path}: {e}. Mend or remove it.'
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
    raise errors.UserError(f'Cannot write to {what}={path}.')


def _plain(value):
  if isinstance(value, Mapping):
    return {str(k): _plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(v) for v in value]
  if isinstance(value, str | int | bool) or value is None:
    return value
  number = float(value)
  return number if math.isfinite(number) else None


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that numbers depend on."""
  found = {'python': platform.python_version()}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def device() -> dict[str, Any]:
  """What the numbers were computed on."""
  first = jax.devices()[0]
  return {
    'platform': first.platform,
    'kind': first.device_kind,
    'count': jax.device_count(),
    'cpu_count': os.cpu_count(),
    'machine': platform.machine(),
  }


def provenance() -> dict[str, Any]:
  """Device, versions and date, to stand beside every number."""
  return {
    'device': device(),
    'versions': versions(),
    'date': datetime.datetime.now(datetime.UTC).date().isoformat(),
  }


class ScalarLog:
  """Scalars of a run: one JSON line per logged step, and TensorBoard.

  A resumed run drops lines from beyond its checkpoint and does not repeat those
  of its step, so that everything appears once.
  """

  def __init__(self, workdir: str, first_step: int):
    """Opens the log for appending after `first_step`."""
    # Here: it takes a while, and importing the package must not.
    import tensorboardX

    self._path = os.path.join(workdir, 'scalars.jsonl')
    kept = []
    if os.path.exists(self._path):
      with open(self._path, encoding='utf-8') as f:
        kept = [line for line in f if _step_of(line) <= first_step]
    write_atomically(self._path, ''.join(kept))
    rows = map(json.loads, kept)
    self._known = [{*row} for row in rows if row['step'] == first_step]
    self._first_step = first_step
    self._file = open(self._path, 'a', encoding='utf-8')  # noqa: SIM115
    self._board = tensorboardX.SummaryWriter(
      os.path.join(workdir, 'tensorboard'), purge_step=first_step + 1
    )

  def write(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Logs scalars of a step."""
    if step == self._first_step and {'step', *scalars} in self._known:
      return
    self._file.write(json.dumps(_plain({'step': step, **scalars})) + '\n')
    self._file.flush()
    for name, value in scalars.items():
      self._board.add_scalar(name, float(value), step)

  def close(self) -> None:
    """Closes both files."""
    self._file.close()
    self._board.close()


def _step_of(line):
  try:
    return json.loads(line)['step']
  except (ValueError, KeyError):
    return math.inf  # A half-written last line of an interrupted run.
