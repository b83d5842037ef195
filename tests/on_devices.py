"""Runs a test file as a script in a process with several CPU devices."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


def run(file: str, *arguments: str, flags: str = '', devices: int = 4) -> str:
  """Runs a file with warnings as errors; returns what it printed.

  Args:
    file: the script.
    *arguments: of the script.
    flags: further flags of XLA.
    devices: number of CPU devices.
  """
  devices_flag = f'--xla_force_host_platform_device_count={devices}'
  done = subprocess.run(
    [sys.executable, '-W', 'error', file, *arguments],
    cwd=ROOT,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'{devices_flag} {flags}',
      'PYTHONPATH': str(ROOT),
    },
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


# For scripts that take longer to compile than to run.
UNOPTIMIZED = (
  '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
)
