"""A run's directory: who writes to it, and what its files say."""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import os
import socket
from typing import Any

import ml_collections

from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import config as config_lib
from idspn_jax.runs import files
from idspn_jax.runs import provenance

_LOCK = 'lock'
_CONFIG = 'config.json'
_RECORD = 'data.json'
_RESULT = 'result.json'


def prepare(workdir: str) -> str:
  """Creates a run's directory unless it exists, and returns its path.

  Raises:
    UserError: if there is none given, it is remote, or cannot be written to.
  """
  if not workdir:
    raise errors.UserError('Give the run a directory: --workdir=DIR.')
  workdir = files.local_path(workdir, '--workdir')
  files.make_directory(workdir, '--workdir')
  return workdir


@contextlib.contextmanager
def locked(workdir: str) -> Iterator[None]:
  """Holds the run's lock: only one process writes to a directory.

  The operating system frees the lock when its process ends in any way.

  Raises:
    UserError: if another process holds it; names that process.
  """
  path = os.path.join(workdir, _LOCK)
  try:
    file = open(path, 'a+', encoding='utf-8')  # noqa: SIM115
  except OSError as e:
    raise errors.UserError(f'Cannot write {path}: {e.strerror}.') from e
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      holder = file.read().strip() or 'another process'
      raise errors.UserError(
        f'{workdir} is in use by {holder}; wait for it, stop it, or use '
        'another --workdir.'
      ) from None
    except OSError as e:
      # File systems without locks: better to train than to refuse.
      if e.errno not in (38, 95):  # ENOSYS, EOPNOTSUPP.
        raise
    with contextlib.suppress(OSError):
      file.truncate(0)
      file.write(f'process {os.getpid()} on {socket.gethostname()}')
      file.flush()
    yield
    with contextlib.suppress(OSError):
      file.truncate(0)


def read_config(workdir: str) -> ml_collections.ConfigDict:
  """Reads a run's configuration, completed by settings that came later.

  Raises:
    UserError: if there is no run, or its config cannot be read.
  """
  path = os.path.join(workdir, _CONFIG)
  if not os.path.exists(path):
    raise errors.UserError(
      f'{workdir} holds no run (there is no {path}); train one first.'
    )
  stored = files.read_json(path)
  if not isinstance(stored, dict) or 'task' not in stored:
    raise errors.UserError(f'{path} is not the config of a run.')
  return ml_collections.ConfigDict(config_lib.complete(stored))


def read_record(workdir: str) -> dict[str, Any] | None:
  """Reads what a run stored of its data files; None if nothing."""
  path = os.path.join(workdir, _RECORD)
  return files.read_json(path) if os.path.exists(path) else None


def read_result(workdir: str) -> dict[str, Any] | None:
  """Reads a run's `result.json`; None if it has not finished.

  Raises:
    UserError: if the file is broken.
  """
  path = os.path.join(workdir, _RESULT)
  return files.read_json(path) if os.path.exists(path) else None


def check_same(
  old: dict[str, Any], config: ml_collections.ConfigDict, workdir: str
) -> None:
  """Refuses to mix runs.

  Args:
    old: the configuration of what is in the directory.
    config: the present configuration.
    workdir: the directory.

  Raises:
    UserError: if they are of different runs.
  """
  changed = config_lib.differences(
    config_lib.complete(old), json.loads(config.to_json())
  )
  if changed:
    raise errors.UserError(
      f'{workdir} holds a run with another config ({"; ".join(changed)}); '
      'use another --workdir or the same settings.'
    )


def adopt(
  config: ml_collections.ConfigDict, workdir: str
) -> ml_collections.ConfigDict:
  """The configuration to continue the run in a directory with.

  A setting that came after the run was started, and that `config` leaves at
  today's default, keeps the value that the run was started with.

  Args:
    config: the present configuration.
    workdir: the directory; need not hold a run.

  Raises:
    UserError: if the directory holds a run with another config.
  """
  path = os.path.join(workdir, _CONFIG)
  if not os.path.exists(path):
    return config
  old = files.read_json(path)
  config = config_lib.inherit(config, old)
  check_same(old, config, workdir)
  return config


def check_steps(
  latest: int | None, config: ml_collections.ConfigDict, workdir: str
) -> None:
  """Refuses fewer steps than the newest checkpoint has.

  Raises:
    UserError: naming both.
  """
  if latest is not None and latest > config.steps:
    raise errors.UserError(
      f'{workdir} has a checkpoint of step {latest}, beyond '
      f'config.steps={config.steps}; use more steps or another --workdir.'
    )


def check(config: ml_collections.ConfigDict, workdir: str) -> None:
  """Refuses a directory that holds a run which cannot be continued.

  Args:
    config: the present configuration.
    workdir: the directory; need not exist.

  Raises:
    UserError: if the run there has another config or more steps.
  """
  adopt(config, workdir)
  steps = checkpoints.stored_steps(workdir)
  check_steps(steps[-1] if steps else None, config, workdir)


def write_setup(
  workdir: str,
  config: ml_collections.ConfigDict,
  record: dict[str, Any] | None,
) -> None:
  """Notes settings, versions, and what identifies the data files."""
  path = os.path.join(workdir, _CONFIG)
  files.write_json(path, json.loads(config.to_json()))
  files.write_json(
    os.path.join(workdir, 'environment.json'), provenance.provenance()
  )
  if record is not None:
    files.write_json(os.path.join(workdir, _RECORD), record)
