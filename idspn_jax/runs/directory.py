"""A run's directory: who writes to it, and what its files say."""

from collections.abc import Iterator, Sequence
import contextlib
import errno
import fcntl
import json
import os
import socket
import time
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
# `check_free` holds a lock for an instant.
_LOCK_ATTEMPTS = 3


class InUse(errors.UserError):
  """Another process writes to a directory."""


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
    InUse: if another process holds it; names that process.
    UserError: if the directory cannot be written to.
  """
  path = os.path.join(workdir, _LOCK)
  try:
    file = open(path, 'a+', encoding='utf-8', errors='replace')  # noqa: SIM115
  except OSError as e:
    raise files.cannot_write(path, e) from e
  with file:
    _acquire(file, workdir, _LOCK_ATTEMPTS)
    with contextlib.suppress(OSError):
      file.truncate(0)
      file.write(f'process {os.getpid()} on {socket.gethostname()}')
      file.flush()
    yield
    with contextlib.suppress(OSError):
      file.truncate(0)


def _acquire(file, workdir, attempts=1):
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    if attempts > 1:
      time.sleep(0.1)
      _acquire(file, workdir, attempts - 1)
      return
    file.seek(0)
    holder = file.read().strip() or 'another process'
    raise InUse(
      f'{workdir} is in use by {holder}; wait for it, stop it, or use another '
      '--workdir.'
    ) from None
  except OSError as e:
    # File systems without locks: better to train than to refuse.
    if e.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
      raise files.cannot_write(file.name, e) from e


def check_free(workdir: str) -> None:
  """Refuses a directory that another process writes to; holds no lock.

  Args:
    workdir: the directory; need not exist.

  Raises:
    InUse: naming the process.
  """
  path = os.path.join(workdir, _LOCK)
  try:
    file = open(path, encoding='utf-8', errors='replace')  # noqa: SIM115
  except OSError:  # No lock yet, or none that can be read.
    return
  with file:
    _acquire(file, workdir)


def _stored_config(workdir):
  """The content of `config.json`, or None if there is none."""
  path = os.path.join(workdir, _CONFIG)
  stored = files.read_mapping(
    path,
    ('task', 'seed'),
    "restore it (result.json holds a copy of a finished run's), or use another "
    '--workdir',
  )
  if stored is not None:
    try:
      config_lib.check_stored(stored)
    except errors.UserError as e:
      raise errors.UserError(f'{path} is damaged: {e}') from e
  return stored


def read_config(workdir: str) -> ml_collections.ConfigDict:
  """Reads a run's configuration, completed by settings that came later.

  Raises:
    UserError: if there is no run, or its config cannot be read.
  """
  stored = _stored_config(workdir)
  if stored is None:
    raise errors.UserError(
      f'{workdir} holds no run (there is no '
      f'{os.path.join(workdir, _CONFIG)}); train one first.'
    )
  return ml_collections.ConfigDict(config_lib.complete(stored))


def read_record(workdir: str) -> dict[str, Any] | None:
  """Reads what a run stored of its data files; None if nothing.

  Raises:
    UserError: if the file is damaged.
  """
  return files.read_mapping(
    os.path.join(workdir, _RECORD),
    (),
    'restore it, or remove it: the run then takes the present data file for '
    'its own',
  )


def read_result(workdir: str) -> dict[str, Any] | None:
  """Reads a run's `result.json`; None if it has not finished.

  Raises:
    UserError: if the file is damaged.
  """
  path = os.path.join(workdir, _RESULT)
  result = files.read_mapping(
    path,
    ('step', 'diverged', 'metrics', 'config'),
    'remove it; training the run again writes it anew',
  )
  if result is not None and not isinstance(result['config'], dict):
    raise errors.UserError(f'{path} is damaged (config); remove it.')
  return result


def check_same(
  old: dict[str, Any],
  config: ml_collections.ConfigDict,
  workdir: str,
  free: Sequence[str] = (),
) -> None:
  """Refuses to mix runs.

  Args:
    old: the configuration of what is in the directory.
    config: the present configuration.
    workdir: the directory.
    free: further keys that may differ.

  Raises:
    UserError: if they are of different runs.
  """
  changed = config_lib.differences(
    config_lib.complete(old), json.loads(config.to_json()), more_free=free
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
  old = _stored_config(workdir)
  if old is None:
    if checkpoints.stored_steps(workdir):
      raise errors.UserError(
        f'{workdir} holds checkpoints but no {_CONFIG}; restore it, or use '
        'another --workdir.'
      )
    return config
  config = config_lib.inherit(config, old)
  # The content of a recorded data file is checked where it is read.
  moved = os.path.exists(os.path.join(workdir, _RECORD))
  check_same(old, config, workdir, ('data.path',) if moved else ())
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
    UserError: if the run there has another config or more steps, or another
      process writes to it.
  """
  check_free(workdir)
  adopt(config, workdir)
  steps = checkpoints.stored_steps(workdir)
  check_steps(steps[-1] if steps else None, config, workdir)


def write_setup(
  workdir: str,
  config: ml_collections.ConfigDict,
  record: dict[str, Any] | None,
) -> None:
  """Notes settings, versions, and what identifies the data files."""
  # A config without the record of its data would pass for an older run's.
  if record is not None:
    files.write_json(os.path.join(workdir, _RECORD), record)
  files.write_json(
    os.path.join(workdir, 'environment.json'), provenance.provenance()
  )
  files.write_json(os.path.join(workdir, _CONFIG), json.loads(config.to_json()))
