"""Processes that wait for others which do not come."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import pytest

from idspn_jax.training import meeting

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import sys
from idspn_jax.training import hosts, meeting
seconds, address, process = sys.argv[1:]
meeting._MEET_WITHIN = int(seconds)
with hosts.session(address, 2, int(process)):
  print('met')
"""


@contextlib.contextmanager
def started(seconds, port, process):
  """A waiting process, which is killed if the test fails."""
  with subprocess.Popen(
    [
      *(sys.executable, '-c', PROGRAM),
      *(str(seconds), f'127.0.0.1:{port}', str(process)),
    ],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  ) as process:
    try:
      yield process
    finally:
      process.kill()


@pytest.fixture
def listener():
  """A socket in the place of a process 0 that never answers."""
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    s.listen()
    yield s


def port_of(listener):
  return listener.getsockname()[1]


@pytest.mark.parametrize('process', [0, 1])
def test_the_only_one_ends_with_one_line(process, listener):
  if process == 0:
    port = port_of(listener)
    listener.close()
  else:
    port = port_of(listener)
  with started(2, port, process) as waiting:
    out, told = waiting.communicate(timeout=100)
  assert waiting.returncode == 2, told
  assert out == ''
  (line,) = told.splitlines()
  assert 'did not meet: the others have not come within 2 seconds' in line
  assert '--num_processes' in line and '--process_id' in line


def test_ctrl_c_ends_the_wait(listener):
  listener.settimeout(100)
  with started(1000, port_of(listener), 1) as waiting:
    connection, _ = listener.accept()
    with connection:
      waiting.send_signal(signal.SIGINT)
      _, told = waiting.communicate(timeout=100)
  assert waiting.returncode == -signal.SIGINT
  assert 'Traceback' not in told


def test_jax_waits_longer():
  """It would abort, with a stack trace."""
  assert meeting._JAX_WAITS > meeting._MEET_WITHIN


def test_a_wait_that_ends_in_time_leaves_nothing(monkeypatch):
  def end(status):
    raise AssertionError(status)

  monkeypatch.setattr(meeting.os, '_exit', end)
  before, threads = signal.getsignal(signal.SIGINT), threading.active_count()
  with meeting._ending(1000):
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
  assert signal.getsignal(signal.SIGINT) is before
  for thread in threading.enumerate():
    if isinstance(thread, threading.Timer):
      thread.join(10)
  assert threading.active_count() == threads
