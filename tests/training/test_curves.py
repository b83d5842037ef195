"""1, 2 and 4 devices, 2 processes, `jit` and `pmap` train alike."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from tests import on_devices

PROGRAM = pathlib.Path(__file__).with_name('curves.py')
CASES = 'multisets,numbering,rendered,kept'
TOLERANCE = {'float32': 1e-4, 'float64': 1e-9}


def start(kinds, folder, devices, *process):
  places = [str(folder), *map(str, process)]
  return subprocess.Popen(
    [sys.executable, str(PROGRAM), kinds, CASES, *places],
    cwd=on_devices.ROOT,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
      'PYTHONPATH': str(on_devices.ROOT),
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def read(process):
  out, told = process.communicate(timeout=3000)
  assert process.returncode == 0, told[-3000:]
  return json.loads(out.splitlines()[-1])


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_curves_are_the_same(tmp_path, record_property):
  found = {
    f'{devices} devices': read(start(kinds, tmp_path, devices))
    for devices, kinds in ((1, 'jit,pmap'), (2, 'jit'), (4, 'jit,pmap'))
  }
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    port = s.getsockname()[1]
  pair = [start('jit,pmap', tmp_path, 1, index, port) for index in range(2)]
  for index, process in enumerate(pair):
    found[f'process {index}'] = read(process)
  worst = compare(found)
  print(json.dumps(worst, indent=2))
  record_property('largest relative differences', worst)


def compare(found):
  """Asserts that all are alike; returns the largest relative differences."""
  worst = {}
  for place, curves in found.items():
    for name, curve in curves.items():
      case, kind, dtype = name.split()
      first = found['1 devices'][f'{case} jit {dtype}']
      numbers, expected = (
        np.array([*c['losses'], *c['metrics'].values()]) for c in (curve, first)
      )
      assert len(curve['losses']) == 50
      assert curve['losses'][0] != curve['losses'][-1]
      apart = np.abs(numbers - expected) / np.maximum(np.abs(expected), 1e-300)
      apart = np.where(numbers == expected, 0, apart)
      worst[f'{place}, {name}'] = float(apart.max())
      assert apart.max() <= TOLERANCE[dtype], (place, name, worst)
  return worst
