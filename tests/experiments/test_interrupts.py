"""Ctrl-C where Python drops its exception, or JAX wraps it."""

import gc
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from experiments import command_line
from idspn_jax import errors
from idspn_jax.training import stopping

ROOT = pathlib.Path(__file__).parents[2]
DROPPED = """
import gc, os, signal, sys, time
from experiments import command_line

def on_collection(phase, info):
  if phase == 'stop':
    gc.callbacks.remove(on_collection)
    os.kill(os.getpid(), signal.SIGINT)
    [None for _ in range(1000)]  # Here Python handles it.

def main(argv):
  gc.callbacks.append(on_collection)
  gc.collect()
  time.sleep(60)
  print('not interrupted')

command_line.run(main)
"""
# As in matching on the host.
WRAPPED = """
import os, signal, sys
import jax, numpy as np
from experiments import command_line

def on_host(x):
  os.kill(os.getpid(), signal.SIGINT)
  for _ in range(1000):
    pass
  return x

def main(argv):
  shape = jax.ShapeDtypeStruct((3,), np.float32)
  f = jax.jit(lambda x: jax.pure_callback(on_host, shape, x) + 1)
  jax.block_until_ready(f(np.ones(3, np.float32)))
  print('not interrupted')

command_line.run(main)
"""


# While Python ends.
LATE = """
import atexit, os, signal, time
from experiments import command_line

@atexit.register
def late():
  os.kill(os.getpid(), signal.SIGINT)
  time.sleep(60)

command_line.run(lambda argv: print('done'))
"""


def call(program):
  return subprocess.run(
    [sys.executable, '-c', program],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=240,
  )


@pytest.mark.parametrize('program', [DROPPED, WRAPPED], ids=['gc', 'callback'])
def test_ends_a_binary_with_one_line(program):
  done = call(program)
  assert done.returncode == 130, done.stderr
  assert done.stdout == ''
  assert done.stderr == '-c: interrupted\n'


def test_while_python_ends_leaves_no_traceback():
  done = call(LATE)
  assert done.returncode == -signal.SIGINT
  assert done.stdout == 'done\n' and done.stderr == ''


def test_dropped_before_training_it_stops_it():
  def on_collection(phase, info):
    if phase == 'stop':
      gc.callbacks.remove(on_collection)
      os.kill(os.getpid(), signal.SIGINT)
      [None for _ in range(1000)]

  hook = sys.unraisablehook
  with command_line.keeping_interrupts():
    stop = stopping.StopRequest()
    gc.callbacks.append(on_collection)
    gc.collect()
    with stop:
      end = time.monotonic() + 60
      while stop.received is None and time.monotonic() < end:
        time.sleep(0.01)
  assert stop.received == signal.SIGINT
  assert sys.unraisablehook is hook


def test_other_dropped_exceptions_are_reported(monkeypatch):
  class Broken:
    def __del__(self):
      raise ValueError('dropped')

  told = []
  monkeypatch.setattr(sys, 'unraisablehook', told.append)
  with command_line.keeping_interrupts():
    Broken()
    gc.collect()
  assert [one.exc_type for one in told] == [ValueError]


@pytest.mark.parametrize(
  'e, expected',
  [
    (KeyboardInterrupt(), True),
    (
      RuntimeError('INTERNAL: error:\n  File "a", line 1\nKeyboardInterrupt: '),
      True,
    ),
    (RuntimeError('RESOURCE_EXHAUSTED: no KeyboardInterrupt'), False),
    (ValueError('KeyboardInterrupt'), False),
  ],
)
def test_what_counts_as_one(e, expected):
  assert errors.interrupted(e) is expected
