"""Fills the disk of a training at random moments, and frees it again.

python full_disk.py COUNT FOLDER DISK [SEED]

DISK is a small file system of its own. Every training either ends with one
line or does not notice; once there is room, it goes on, and leaves in the end
what an unbroken one leaves. Prints how each ended, as JSON.
"""

import collections
import contextlib
import json
import os
import pathlib
import random
import shutil
import sys
import time

from idspn_jax import errors
from idspn_jax.training import loop
from tests.training import kills
from tests.training import toy


def start(workdir):
  """Starts a training; what a user must mend ends it with status 2."""

  def train():
    kills.note_order(f'{workdir}.order')
    config = kills.config_of('averaged', '')
    try:
      loop.train_and_evaluate(config, workdir, toy.build)
    except errors.UserError as e:
      print(f'\nerror: {e}', flush=True)
      os._exit(2)

  return kills.fork(train, workdir)


def fill(path):
  """Takes all the room there is."""
  with contextlib.suppress(OSError), open(path, 'wb', buffering=0) as f:
    for size in (2**16, 2**12, 1):
      with contextlib.suppress(OSError):
        while f.write(b'x' * size):
          pass


def main(count, folder, disk, seed=0):
  """Fills it that often, and compares what was trained."""
  chance = random.Random(seed)
  whole = f'{folder}/whole'
  for workdir in (f'{folder}/first', whole):
    child = start(workdir)
    assert kills.wait_until_training(child, workdir, 0) is None
    since = time.monotonic()
    kills.finish(child, workdir)
    duration = time.monotonic() - since
  filler, steps = (
    pathlib.Path(disk, 'filler'),
    kills.config_of('averaged', '').steps,
  )
  ends, fills, runs = collections.Counter(), 0, 0
  while fills < count:
    place, runs, code = pathlib.Path(disk, f'run{runs}'), runs + 1, None
    # What notes the order, and the log, lie elsewhere.
    broken = f'{folder}/{place.name}'
    os.symlink(place, broken)
    place.mkdir()
    while code != 0:
      before = kills.drawn(broken)
      child = start(broken)
      code = None
      if fills < count:
        code = kills.wait_until_training(child, broken, before)
        if code is None:
          code = kills.wait(child, chance.uniform(0, duration), kill=False)
        if code is None:
          fill(filler)
          fills += 1
      full = code is None and filler.exists()
      code = kills.wait(child, 600) if code is None else code
      filler.unlink(missing_ok=True)
      log = pathlib.Path(f'{broken}.log').read_text()
      line = log.rstrip().splitlines()[-1] if log.strip() else ''
      assert code in (0, 2) and 'Traceback' not in log, log[-3000:]
      if code == 2:
        assert line.startswith('error: Cannot') and 'No space' in line, line
        ends[' '.join(line.split()[:5]).replace(broken, '')] += 1
      elif full:
        ends['went on'] += 1
    kills.compare(whole, broken, steps)
    shutil.rmtree(place)
  print(json.dumps({'fills': fills, 'runs': runs, 'ends': ends}), flush=True)


if __name__ == '__main__':
  main(int(sys.argv[1]), *sys.argv[2:])
