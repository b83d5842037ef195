"""Scalars of a run: one JSON line per logged step, and TensorBoard events."""

from collections.abc import Mapping
import contextlib
import json
import math
import os
import shutil
import socket
import time
from typing import Any

from absl import logging

from idspn_jax import errors
from idspn_jax.runs import files

_FILE = 'scalars.jsonl'


class _Events:
  """TensorBoard's event file, written at once and by the calling thread.

  The usual writer hands events to a thread through a bounded queue; when that
  thread fails to write, the queue fills up and training waits without end.
  """

  def __init__(self, directory: str, purge_step: int):
    # Here: it takes a while, and importing the package must not.
    from tensorboardX import record_writer
    from tensorboardX import summary
    from tensorboardX.proto import event_pb2

    os.makedirs(directory, exist_ok=True)
    name = f'events.out.tfevents.{time.time_ns()}.{socket.gethostname()}'
    self._summary = summary
    self._event = event_pb2.Event
    self._writer = record_writer.RecordWriter(os.path.join(directory, name))
    self._write(file_version='brain.Event:2')
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    # Tells readers to drop what an interrupted run logged beyond this step.
    self._write(step=purge_step, session_log=start)

  def _write(self, **fields):
    event = self._event(wall_time=time.time(), **fields)
    self._writer.write(event.SerializeToString())

  def add(self, step, scalars):
    for name, value in scalars.items():
      self._write(step=step, summary=self._summary.scalar(name, float(value)))
    self._writer.flush()

  def close(self):
    self._writer.close()


class ScalarLog:
  """Writes a run's scalars.

  A resumed run drops lines from beyond its checkpoint and does not repeat those
  of its step, so that everything appears once. TensorBoard's events are
  optional: if they cannot be written, training goes on without them.

  A log with damaged lines that the checkpoint covers is kept as
  `scalars.jsonl.damaged`.
  """

  def __init__(self, workdir: str, first_step: int):
    """Opens the log for appending after `first_step`.

    Raises:
      UserError: if the log cannot be written.
    """
    self._path = os.path.join(workdir, _FILE)
    rows = _read_lines(self._path)
    last = max(
      (i for i, row in enumerate(rows) if row and row['step'] <= first_step),
      default=0,
    )
    if damaged := rows[:last].count(None):
      self._keep_damaged(damaged)
    kept = [row for row in rows if row and row['step'] <= first_step]
    lines = [json.dumps(files.plain(row)) + '\n' for row in kept]
    files.write_atomically(self._path, ''.join(lines))
    self._known = [{*row} for row in kept if row['step'] == first_step]
    self._first_step = first_step
    try:
      # Unbuffered: what cannot be written is told at once.
      self._file = open(self._path, 'ab', buffering=0)  # noqa: SIM115
    except OSError as e:
      raise self._cannot_write(e) from e
    self._events = None
    with self._optional_events():
      directory = os.path.join(workdir, 'tensorboard')
      self._events = _Events(directory, first_step + 1)

  def _keep_damaged(self, count):
    place = f'{self._path}.damaged'
    with (
      open(self._path, 'rb') as source,
      files.replacing(place, 'wb') as target,
    ):
      shutil.copyfileobj(source, target)
    logging.warning(
      '%s: lines that cannot be read and are left out: %d; %s keeps them.',
      self._path,
      count,
      place,
    )

  def _cannot_write(self, e):
    return errors.UserError(
      f'Cannot write {self._path}: {e.strerror}. The run continues from its '
      'last checkpoint once it can be written.'
    )

  @contextlib.contextmanager
  def _optional_events(self):
    try:
      yield
    except OSError as e:
      self._events = None
      logging.warning(
        'No TensorBoard events from here on (%s); %s goes on.',
        e.strerror,
        self._path,
      )

  def knows(self, prefix: str) -> bool:
    """Whether scalars of a prefix were there of the step it continues from."""
    return any(name.startswith(prefix) for row in self._known for name in row)

  def write(self, step: int, scalars: Mapping[str, Any]) -> None:
    """Logs scalars of a step.

    Raises:
      UserError: if the JSON lines cannot be written.
    """
    if step == self._first_step and {'step', *scalars} in self._known:
      return
    self._append(json.dumps(files.plain({'step': step, **scalars})) + '\n')
    if self._events is not None:
      with self._optional_events():
        self._events.add(step, scalars)

  def _append(self, line):
    size = self._file.seek(0, os.SEEK_END)
    left = line.encode()
    try:
      while left:
        left = left[self._file.write(left) :]
    except OSError as e:
      with contextlib.suppress(OSError):
        self._file.truncate(size)
      raise self._cannot_write(e) from e

  def flush(self) -> None:
    """Waits until the JSON lines are on the disk, whatever happens to it.

    Raises:
      UserError: if they cannot be written.
    """
    try:
      os.fsync(self._file.fileno())
    except OSError as e:
      raise self._cannot_write(e) from e

  def close(self) -> None:
    """Closes both files."""
    with contextlib.suppress(OSError):
      self._file.close()  # What could not be written was reported before.
    if self._events is not None:
      with self._optional_events():
        self._events.close()


def read_rows(workdir: str) -> list[dict[str, Any]]:
  """Reads a run's logged lines; none if there is no log.

  A line that an interrupted run wrote in part is left out.

  Raises:
    UserError: if the log cannot be read.
  """
  return [row for row in _read_lines(os.path.join(workdir, _FILE)) if row]


def _read_lines(path):
  """Every line's row; None for a line that cannot be read."""
  rows = []
  try:
    with open(path, encoding='utf-8', errors='replace') as f:
      for line in f:
        row = None
        with contextlib.suppress(ValueError, RecursionError):
          row = json.loads(line)
        known = isinstance(row, dict) and isinstance(row.get('step'), int)
        rows.append(row if known else None)
  except FileNotFoundError:
    return []
  except OSError as e:
    raise errors.UserError(f'Cannot read {path}: {e.strerror}.') from e
  return rows


def read_scalars(workdir: str, name: str) -> tuple[list[int], list[float]]:
  """Reads one scalar's steps and finite values from a run's log."""
  steps, values = [], []
  for row in read_rows(workdir):
    value = row.get(name)
    if isinstance(value, int | float) and math.isfinite(value):
      steps.append(row['step'])
      values.append(float(value))
  return steps, values
