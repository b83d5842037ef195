"""Runs on shared storage: `gs://`, `s3://` and whatever else `epath` opens.

A run is trained in a local folder, its mirror. What the run's place holds is
fetched first; after every checkpoint what has changed is sent. Storage of this
kind has no atomic renaming: a checkpoint counts once its marker, written last,
is there, and a checkpoint that is saved again goes beside the one it replaces.
"""

from collections.abc import Iterator
import contextlib
import json
import os
import re
import socket
import tempfile
import threading
from typing import Any
import uuid

from etils import epath

from idspn_jax import errors

# What etils.epath needs besides itself, by the address's scheme.
_PACKAGES = {
  'gs': 'gcsfs',
  's3': 's3fs',
  'az': 'adlfs',
  'hf': 'huggingface_hub',
}
_MARKER = 'UPLOADED'
_OWNER = 'owner.json'
_CHECKPOINTS = 'checkpoints'
_RESULT = 'result.json'
# In a run's directory, but of no use elsewhere.
_LOCAL = ('lock', 'checkpoints.replaced')
_UNFINISHED = ('.tmp', '.orbax-checkpoint-tmp')


def is_remote(path: str) -> bool:
  """Whether a path is an address like `gs://bucket/run`."""
  return bool(re.match(r'[A-Za-z][A-Za-z0-9+.-]*://', path))


def _open(address):
  """The place of an address.

  Raises:
    UserError: if `epath` knows no such addresses, or lacks a package.
  """
  scheme = address.partition('://')[0]
  if scheme not in _PACKAGES:
    known = ', '.join(f'{name}://' for name in _PACKAGES)
    raise errors.UserError(
      f'--workdir={address}: {scheme}:// is no shared storage for runs; use '
      f'{known} or a local path.'
    )
  place = epath.Path(address)
  with _reported(address, 'read'):
    place.exists()
  return place


@contextlib.contextmanager
def _reported(address, verb):
  """Turns what storage raises into one line.

  Raises:
    UserError: naming the address, and the package that is missing if it is one.
  """
  try:
    yield
  except errors.UserError:
    raise
  except ImportError as e:
    package = _PACKAGES[address.partition('://')[0]]
    raise errors.UserError(
      f'{address} needs the package {package}: pip install {package} ({e})'
    ) from e
  except Exception as e:  # Every storage has errors of its own.
    reason = ' '.join(f'{type(e).__name__}: {e}'.split())[:300]
    raise errors.UserError(
      f'Cannot {verb} {address}: {reason} Check the address and the '
      'permissions; the same command continues the run.'
    ) from e


def _copy_in(place, local):
  """Copies a remote file or folder here."""
  if place.is_dir():
    os.makedirs(local, exist_ok=True)
    for child in place.iterdir():
      _copy_in(child, os.path.join(local, child.name))
  else:
    with open(local, 'wb') as f:
      f.write(place.read_bytes())


def _copy_out(local, place):
  """Copies a local file or folder there."""
  if os.path.isdir(local):
    place.mkdir(parents=True, exist_ok=True)
    for name in sorted(os.listdir(local)):
      _copy_out(os.path.join(local, name), place / name)
  else:
    with open(local, 'rb') as f:
      place.write_bytes(f.read())


def _stored(place):
  """Complete checkpoints: pairs (step, version) and their folders."""
  folder = place / _CHECKPOINTS
  found = {}
  for child in folder.iterdir() if folder.exists() else ():
    name = re.fullmatch(r'(0|[1-9]\d*)(?:\.(\d+))?', child.name)
    if name and (child / _MARKER).exists():
      found[int(name[1]), int(name[2] or 0)] = child
  return found


def _newest(place):
  """The folder of every step's newest complete checkpoint."""
  return {step: folder for (step, _), folder in sorted(_stored(place).items())}


def _fetch(place, local):
  """Copies a run here, but for TensorBoard's events."""
  if not place.exists():
    return
  for child in place.iterdir():
    if child.name not in (*_LOCAL, _OWNER) and not child.is_dir():
      _copy_in(child, os.path.join(local, child.name))
  for step, folder in _newest(place).items():
    target = os.path.join(local, _CHECKPOINTS, str(step))
    _copy_in(folder, target)
    os.unlink(os.path.join(target, _MARKER))


@contextlib.contextmanager
def fetched(address: str) -> Iterator[str]:
  """A local copy of a run, for reading; removed afterwards.

  Args:
    address: like `gs://bucket/run`.

  Raises:
    UserError: if it cannot be read.
  """
  place = _open(address)
  with tempfile.TemporaryDirectory(prefix='idspn_run_') as local:
    with _reported(address, 'read'):
      _fetch(place, local)
    yield local


@contextlib.contextmanager
def fetched_folder(address: str) -> Iterator[str]:
  """A local copy of a folder, for reading; removed afterwards.

  Args:
    address: like `gs://bucket/run/folder`; the copy is empty if there is none.

  Raises:
    UserError: if it cannot be read.
  """
  place = _open(address)
  with tempfile.TemporaryDirectory(prefix='idspn_run_') as local:
    with _reported(address, 'read'):
      if place.is_dir():
        _copy_in(place, local)
    yield local


def _version(path):
  """Changes when a file, or a checkpoint's folder, is written anew."""
  stat = os.stat(path)
  return stat.st_ino, stat.st_mtime_ns, stat.st_size


class Mirror:
  """A run on shared storage and the local folder in which it is trained.

  Usable as a context manager, which sends what is left and removes the folder.
  Of two processes that train the same run the one that came first ends with an
  error when it next saves: storage has no locks that a killed process leaves.

  Attributes:
    address: of the run.
    local: the folder.
  """

  def __init__(self, address: str):
    """Fetches the run, if there is one, and takes it over.

    Raises:
      UserError: if it cannot be read or written.
    """
    self.address = address
    self._place = _open(address)
    self._folder = tempfile.TemporaryDirectory(prefix='idspn_run_')
    self.local = self._folder.name
    self._token = uuid.uuid4().hex
    self._sent: dict[str, Any] = {}
    self._removed: set[str] = set()
    self._thread: threading.Thread | None = None
    self._error: errors.UserError | None = None
    try:
      with _reported(address, 'write'):
        self._take_over()
    except errors.UserError:
      self._folder.cleanup()
      raise

  def _take_over(self):
    self._place.mkdir(parents=True, exist_ok=True)
    owner = {
      'token': self._token,
      'process': f'{os.getpid()} on {socket.gethostname()}',
    }
    (self._place / _OWNER).write_text(json.dumps(owner))
    _fetch(self._place, self.local)
    folder = os.path.join(self.local, _CHECKPOINTS)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
      self._sent[name] = _version(os.path.join(folder, name))

  def __enter__(self):
    return self

  def __exit__(self, kind, *_):
    with self._folder:
      try:
        self.send_later()
        self.wait()
        with _reported(self.address, 'write'):
          (self._place / _OWNER).unlink(missing_ok=True)
      except errors.UserError:
        # What stopped the training comes first.
        if kind is None or kind.__name__ == 'Interrupted':
          raise

  def send_later(self) -> None:
    """Sends what has changed, in the background; not during `save`.

    Raises:
      UserError: if what was to be sent before could not be.
    """
    self.wait()
    self._thread = threading.Thread(target=self._send_reported)
    self._thread.start()

  def remove_later(self, name: str) -> None:
    """Removes a folder there after the next sending, if there is one.

    Args:
      name: of a folder in the run's directory that is no longer here.
    """
    self._removed.add(name)

  def wait(self) -> None:
    """Waits until all is sent.

    Raises:
      UserError: if it could not be, or another process trains the run now.
    """
    if self._thread is not None:
      self._thread.join()
      self._thread = None
    if self._error is not None:
      error, self._error = self._error, None
      raise error

  def _send_reported(self):
    try:
      with _reported(self.address, 'write'):
        self._send()
    except errors.UserError as e:
      self._error = e

  def _check_owner(self):
    owner = json.loads((self._place / _OWNER).read_text())
    if owner['token'] != self._token:
      raise errors.UserError(
        f'{self.address} is now trained by process {owner["process"]}; this '
        'one stops. Start one at a time.'
      )

  def _send(self):
    self._check_owner()
    names = [
      name
      for name in sorted(os.listdir(self.local))
      if name not in (*_LOCAL, _CHECKPOINTS, _RESULT)
      and not name.endswith(_UNFINISHED)
    ]
    for name in names:
      self._send_files(name)
    # A log ahead of its checkpoint is cut when the run continues; the other way
    # round, lines would be missing.
    self._send_checkpoints()
    self._send_files(_RESULT)
    for name in self._removed:
      if (self._place / name).exists():
        (self._place / name).rmtree()
    self._removed.clear()

  def _send_files(self, name):
    """Sends a file, or the files of a folder, that have changed."""
    path = os.path.join(self.local, name)
    if os.path.isdir(path):
      for child in sorted(os.listdir(path)):
        self._send_files(os.path.join(name, child))
    elif os.path.exists(path) and self._sent.get(name) != _version(path):
      version = _version(path)
      target = self._place / name
      target.parent.mkdir(parents=True, exist_ok=True)
      _copy_out(path, target)
      self._sent[name] = version

  def _send_checkpoints(self):
    folder = os.path.join(self.local, _CHECKPOINTS)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    steps = sorted(int(name) for name in names if name.isdecimal())
    for step in steps:
      path = os.path.join(folder, str(step))
      if self._sent.get(str(step)) != _version(path):
        self._send_checkpoint(path, step)
        self._sent[str(step)] = _version(path)
    newest = _newest(self._place)
    for (step, _), place in _stored(self._place).items():
      if step not in steps or place.name != newest[step].name:
        (place / _MARKER).unlink()
        place.rmtree()

  def _send_checkpoint(self, path, step):
    versions = [n for s, n in _stored(self._place) if s == step]
    version = max(versions) + 1 if versions else 0
    name = f'{step}.{version}' if version else str(step)
    place = self._place / _CHECKPOINTS / name
    if place.exists():  # Of a process that was killed here.
      place.rmtree()
    _copy_out(path, place)
    (place / _MARKER).write_text('')
