"""Kills trainings at random moments and compares them with unbroken ones.

python kills.py TASK COUNT FOLDER [SEED]

Every training is a forked process that ends by SIGKILL, most of them; resumed
until it is through, it must leave what the unbroken one left. Prints how many
were killed, and where, as JSON: the newest checkpoint, and the last batch that
the killed process drew. The process that forks never computes.
"""

import contextlib
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time
import warnings
import zlib

import numpy as np

from configs import class_numbering
from configs import clevr
from configs import random_multisets
from idspn_jax.runs import checkpoints
from idspn_jax.tasks import clevr_pictures
from idspn_jax.tasks import data as data_lib
from idspn_jax.training import loop
from tests.training import toy


def multisets(folder):
  """Random multisets; every step is logged, every second one saved."""
  del folder
  config = random_multisets.get_config('n=2,d=2,T=3')
  config.data.num_train, config.data.num_test = 24, 11
  config.steps, config.eval_every, config.checkpoint_every = 40, 7, 2
  return config


def numbering(folder):
  """Selects by a validation, so that checkpoints are replaced."""
  del folder
  config = class_numbering.get_config('n=3,T=2,samples=24,classes=2')
  config.data.num_validation, config.data.num_test = 8, 11
  config.steps, config.eval_every, config.checkpoint_every = 40, 4, 3
  return config


def _pictures(folder):
  config = clevr.get_config('setting=reduced').copy_and_resolve_references()
  config.unlock()
  config.data.min_objects, config.data.max_objects = 1, 4
  config.model.image_encoder.width = 4
  config.model.iterations = 2
  config.data.cache_dir = os.path.join(folder, 'cache')
  config.data.workers = 0
  config.steps, config.eval_every, config.checkpoint_every = 16, 5, 2
  return config


def cached(folder):
  """Pictures of an archive through the cache, which is made on the way."""
  config = _pictures(folder)
  config.data.source = 'tree'
  config.data.data_dir = os.path.realpath(os.path.join(folder, 'in'))
  return config


def rendered(folder):
  """Pictures that are rendered in every step, and test pictures before it."""
  config = _pictures(folder)
  config.data.source, config.data.num_train = 'rendered', 0
  config.data.num_test = 4
  return config


def averaged(folder):
  """BatchNorm, a moving average and selection."""
  del folder
  config = toy.get_config(ema_decay=0.9, toy__selection='score', steps=60)
  config.eval_every, config.checkpoint_every = 10, 3
  return config


TASKS = {
  one.__name__: one
  for one in (multisets, numbering, cached, rendered, averaged)
}


def config_of(name, folder):
  """The tiny configuration of a task."""
  config = TASKS[name](folder)
  with config.unlocked():
    config.batch_size = config.eval_batch_size = 4
    config.log_every = 1
    if name != 'averaged':
      config.model.hidden_dim = config.model.latent_dim = 8
  return config


def note_order(path):
  """Writes a checksum of every training batch that is drawn."""
  for kind in (data_lib.ArrayData, clevr_pictures.ClevrPictures):

    @contextlib.contextmanager
    def train(self, first_step, original=kind.train):
      with original(self, first_step) as batches, open(path, 'a') as f:

        def noted():
          for step, batch in enumerate(batches, first_step):
            parts = [np.asarray(batch[k]).tobytes() for k in sorted(batch)]
            f.write(f'{step} {zlib.crc32(b"".join(parts))}\n')
            f.flush()
            yield batch

        yield noted()

    kind.train = train


def fork(function, workdir):
  """Calls a function in a forked process; returns the process."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # Of forking; nothing has computed yet.
    child = os.fork()
  if child:
    return child
  code = 1
  try:
    log = os.open(
      f'{workdir}.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    function()
    code = 0
  except BaseException:
    import traceback

    traceback.print_exc()
  finally:
    os._exit(code)


def start(name, folder, workdir):
  """Starts a training."""

  def train():
    note_order(f'{workdir}.order')
    task = toy.build if name == 'averaged' else None
    loop.train_and_evaluate(config_of(name, folder), workdir, task)

  return fork(train, workdir)


def finish(child, workdir):
  """Waits for a process that must succeed."""
  code = wait(child, 1800)
  assert code == 0, pathlib.Path(f'{workdir}.log').read_text()[-3000:]


def wait(child, seconds, kill=True):
  """The exit status of a process that ends in time; else None."""
  end = time.monotonic() + seconds
  while time.monotonic() < end:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
      return os.waitstatus_to_exitcode(status)
    time.sleep(0.002)
  if not kill:
    return None
  os.kill(child, signal.SIGKILL)
  _, status = os.waitpid(child, 0)
  return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)


def rows(workdir):
  """The metrics file but for timings; every line of it is whole."""
  lines = pathlib.Path(workdir, 'scalars.jsonl').read_text('utf-8').splitlines()
  found = []
  for line in lines:
    row = json.loads(line)
    row.pop('train/steps_per_second', None)
    found.append(row)
  return found


def order(workdir):
  """Batch of every step, and how often each was drawn."""
  found = {}
  for line in pathlib.Path(f'{workdir}.order').read_text().split('\n'):
    if len(parts := line.split()) == 2:
      found.setdefault(int(parts[0]), set()).add(parts[1])
  return found


def compare(whole, broken, steps):
  """Asserts that two runs left the same; in a process of its own."""
  finish(fork(lambda: compare_here(whole, broken, steps), broken), broken)


def compare_here(whole, broken, steps):
  """See `compare`."""
  one, other = (
    checkpoints.by_name(checkpoints.read(w, steps)) for w in (whole, broken)
  )
  assert one.keys() == other.keys()
  for key, value in one.items():
    np.testing.assert_array_equal(value, other[key], err_msg=key)
  assert rows(whole) == rows(broken), 'The metrics differ.'
  before, after = order(whole), order(broken)
  assert all(before[step] == after[step] for step in range(steps)), 'Order.'
  results = [
    json.loads(pathlib.Path(w, 'result.json').read_text('utf-8'))
    for w in (whole, broken)
  ]
  assert results[0]['metrics'] == results[1]['metrics']


def newest(workdir):
  """The newest checkpoint's step, 0 if there is none."""
  steps = checkpoints.stored_steps(workdir)
  return steps[-1] if steps else 0


def drawn(workdir):
  """How many batches were drawn, by all its processes."""
  path = pathlib.Path(f'{workdir}.order')
  return path.read_bytes().count(b'\n') if path.exists() else 0


def last_drawn(workdir, before):
  """The step of the last batch that was drawn after `before`; -1 if none."""
  if drawn(workdir) == before:
    return -1
  lines = pathlib.Path(f'{workdir}.order').read_text().splitlines()
  return int(lines[-1].split()[0])


def wait_until_training(child, workdir, before, steps=1):
  """Waits for that many steps; the exit status if there are fewer."""
  # Three batches are drawn ahead.
  while drawn(workdir) < before + steps + 3:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
      return os.waitstatus_to_exitcode(status)
    time.sleep(0.002)
  return None


def kill_one(chance, name, folder, workdir, seconds, steps):
  """Starts a training and kills it, unless it ends first; its status."""
  before = drawn(workdir)
  child = start(name, folder, workdir)
  if chance.random() < 0.25:  # Anywhere, starting included.
    return wait(child, chance.uniform(0, seconds['in all']))
  # In any step, for most of the time goes into starting.
  steps_left = steps - newest(workdir) - 3
  moment = chance.uniform(0, max(steps_left, 1))
  code = wait_until_training(child, workdir, before, 1 + int(moment))
  if code is not None:
    return code
  return wait(child, moment % 1 * seconds['a step'])


def main(name, count, folder, seed=0):
  """Kills until the count is reached, and the last run is through."""
  chance = random.Random(f'{name} {seed}')
  whole, steps = f'{folder}/whole', config_of(name, folder).steps
  # The second time, all is compiled.
  for workdir in (f'{folder}/first', whole):
    since = time.monotonic()
    child = start(name, folder, workdir)
    assert wait_until_training(child, workdir, 0, 2) is None
    began = time.monotonic()
    finish(child, workdir)
    end = time.monotonic()
    seconds = {'in all': end - since, 'a step': (end - began) / (steps - 2)}
  compare(f'{folder}/first', whole, steps)
  killed, runs = [], 0
  while len(killed) < count:
    broken = f'{folder}/broken{runs}'
    runs, code = runs + 1, None
    while code is None:
      if name == 'cached' and chance.random() < 0.3:
        # Made anew, and interrupted.
        shutil.rmtree(pathlib.Path(folder, 'cache'))
      before = drawn(broken)
      # Not many times near the end of the same run, where few places are left.
      if len(killed) < count and newest(broken) <= steps / 2:
        code = kill_one(chance, name, folder, broken, seconds, steps)
      else:
        code = wait(start(name, folder, broken), 1800)
      if code is None:
        killed.append((newest(broken), last_drawn(broken, before)))
    assert code == 0, pathlib.Path(f'{broken}.log').read_text()[-3000:]
    compare(whole, broken, steps)
  found = {'task': name, 'killed': len(killed), 'runs': runs, 'steps': steps}
  found['newest_checkpoints'] = [checkpoint for checkpoint, _ in killed]
  found['last_batches'] = [batch for _, batch in killed]
  print(json.dumps(found), flush=True)


if __name__ == '__main__':
  main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
