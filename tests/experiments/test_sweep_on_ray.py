"""A sweep on Ray whose trials crash, and whose driver is killed."""

import collections
import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec('ray') is None, reason='Ray is not installed'
)

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = '''"""Small cells; one has more parameters than any memory holds."""
from configs import random_multisets

def get_config(arguments):
  cell = int(arguments.removeprefix('cell='))
  config = random_multisets.get_config('n=2,d=2,T=2')
  with config.unlocked():
    config.data.num_train, config.data.num_test = 64, 16
    config.model.hidden_dim = config.model.latent_dim = 8
    config.batch_size = config.eval_batch_size = 8
    config.steps, config.log_every = 60, 1
    config.eval_every = config.checkpoint_every = 20
    config.learning_rate = 1e-3 * (1 + cell)
    if cell == {memory}:
      config.model.hidden_dim = config.model.latent_dim = 400_000
  return config
'''
CRASHING = (3, 7)
MEMORY = 9
COUNT = 15


class Killer(threading.Thread):
  """Kills whatever process trains in some directories, again and again."""

  def __init__(self, directories):
    super().__init__(daemon=True)
    self._directories = directories
    self._done = threading.Event()
    self.killed = collections.Counter()

  def run(self):
    while not self._done.wait(0.02):
      for directory in self._directories:
        for lock in directory.glob('seed*/lock'):
          if found := re.match(r'process (\d+) on', lock.read_text()):
            try:
              os.kill(int(found[1]), signal.SIGKILL)
            except ProcessLookupError:
              continue
            lock.write_text('')
            self.killed[directory.name] += 1

  def stop(self):
    self._done.set()
    self.join()


def _start(workdir, config, log, *more):
  with open(log, 'a') as f:
    return subprocess.Popen(
      [
        *(sys.executable, '-m', 'experiments.sweep', f'--config={config}'),
        *(f'--grid=:cell=0..{COUNT - 1};seed=0,1', f'--workdir={workdir}'),
        *('--engine=ray', '--retries=1', *more),
      ],
      cwd=ROOT,
      stdout=f,
      stderr=subprocess.STDOUT,
      start_new_session=True,
    )


def _read(workdir):
  try:
    return json.loads((workdir / 'sweep.json').read_text())
  except FileNotFoundError:
    return {'trials': []}


def _done(workdir):
  return {
    trial['cell']
    for trial in _read(workdir)['trials']
    if trial['state'] == 'done'
  }


def _alive(pattern):
  """Processes whose command line names the sweep's directory or its Ray."""
  found = []
  for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
    try:
      if pattern in path.read_bytes().decode(errors='replace'):
        found.append(path.parent.name)
    except OSError:
      continue
  return found


def _written(workdir, cells):
  """When the results of cells were written."""
  paths = [p for cell in cells for p in (workdir / cell).glob('*/result.json')]
  return {path: path.stat().st_mtime_ns for path in paths}


@pytest.mark.deep
@pytest.mark.timeout(900)
def test_crashes_a_full_memory_and_a_killed_driver(tmp_path):
  """Every good cell is done once, and what became of the others is told."""
  workdir, log = tmp_path / 'sweep', tmp_path / 'log'
  config = tmp_path / 'cells.py'
  config.write_text(CONFIG.replace('{memory}', str(MEMORY)))
  killer = Killer([workdir / f'cell={cell}' for cell in CRASHING])
  killer.start()
  process = _start(workdir, config, log)
  try:
    deadline = time.monotonic() + 400
    while len(_done(workdir)) < 4:
      assert process.poll() is None, log.read_text()
      assert time.monotonic() < deadline, log.read_text()
      time.sleep(0.2)
    process.kill()
    process.wait()
    before = _written(workdir, _done(workdir))
    assert 8 <= len(before) < 2 * COUNT - 6
    process = _start(workdir, config, log)
    status = process.wait(timeout=600)
  finally:
    process.kill()
    killer.stop()
  assert status == 1, log.read_text()
  good = {f'cell={i}' for i in range(COUNT)} - {
    f'cell={i}' for i in (*CRASHING, MEMORY)
  }
  assert _done(workdir) == good
  # What had finished was not touched again.
  written = _written(workdir, good)
  assert len(written) == 2 * len(good)
  assert {path: written[path] for path in before} == before
  for path in written:
    lines = (path.parent / 'scalars.jsonl').read_text().splitlines()
    steps = [
      row['step'] for row in map(json.loads, lines) if 'train/loss' in row
    ]
    assert steps == [*range(1, 61)]
  for trial in _read(workdir)['trials']:
    kinds = collections.Counter(one['kind'] for one in trial['attempts'])
    if trial['cell'] in good:
      # A result may have been written just before the driver was killed.
      assert kinds['done'] <= 1 and not set(kinds) - {'done'}
    elif trial['cell'] == f'cell={MEMORY}':
      assert trial['state'] == 'out of memory' and kinds['out of memory'] >= 2
    else:
      assert trial['state'] == 'crashed' and kinds['crashed'] >= 2
      assert 'died' in trial['attempts'][-1]['text']
      assert killer.killed[trial['cell']] >= 2
  text = log.read_text()
  assert 'out of memory (attempt' in text and 'crashed (attempt' in text
  for name in good:
    assert f'| {name} ' in (workdir / 'sweep.md').read_text()
