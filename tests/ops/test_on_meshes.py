"""Operations and losses on four devices, against one device."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).with_name('on_meshes.py')


@pytest.fixture(scope='module')
def errors():
  """`{mesh: {operation: largest error of results and gradients}}`."""
  optional = ['lapx'] if importlib.util.find_spec('lap') else []
  done = subprocess.run(
    [sys.executable, str(SCRIPT), *optional],
    env={
      'PATH': '',
      'PYTHONPATH': str(SCRIPT.parents[2]),
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
    },
    capture_output=True,
    text=True,
    timeout=500,
  )
  assert done.returncode == 0, done.stderr[-5000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize('mesh', ('auto axes', 'explicit axes', 'shard_map'))
def test_results_and_gradients_are_those_of_one_device(errors, mesh):
  assert len(errors[mesh]) >= 23
  # Sinkhorn iterations amplify rounding.
  bounds = {name: 5e-6 if 'sinkhorn' in name else 2e-6 for name in errors[mesh]}
  assert {k: v for k, v in errors[mesh].items() if not v < bounds[k]} == {}


def test_sharded_costs_are_matched_without_compiling_the_caller(errors):
  assert errors['eager'] == {'match': 0.0}
