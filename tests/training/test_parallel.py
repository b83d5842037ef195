"""Several devices: `jit` and `pmap` take the step that one device takes."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from idspn_jax.training import parallel

ROOT = pathlib.Path(__file__).parents[2]


def run_on_devices(code, count, *arguments):
  """Runs Python code in a process with that many devices."""
  done = subprocess.run(
    [sys.executable, '-W', 'error::UserWarning', '-c', code, *arguments],
    cwd=ROOT,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'--xla_force_host_platform_device_count={count}',
    },
    capture_output=True,
    text=True,
    timeout=500,
  )
  assert done.returncode == 0, done.stderr


TWO_DEVICES = """
import sys

import jax
import numpy as np

from configs import random_multisets
from idspn_jax import errors
from idspn_jax.tasks import registry
from idspn_jax.training import parallel as parallel_lib
from idspn_jax.training import state as state_lib
from idspn_jax.training import step as step_lib

assert jax.device_count() == 2
config = random_multisets.get_config('n=2,d=2,T=3')
config.data.num_train, config.data.num_test = 16, 4
config.model.hidden_dim = config.model.latent_dim = 16
config.batch_size = 8
experiment = registry.build(config)
task = experiment.task
with experiment.data(0).train(0) as batches:
  batch = next(batches)
step = step_lib.make_train_step(task, config)
state = state_lib.init_state(task, config)
alone, alone_scalars = jax.jit(step)(state, batch)

parallel = parallel_lib.make_parallel('jit', config.batch_size)
shards = parallel.place_batch(batch)
assert len(shards['input'].addressable_shards) == 2
assert shards['input'].addressable_shards[0].data.shape == (4, 2, 2)
state = parallel.place_state(state)
compiled = parallel.compile(step, state, shards)
both, both_scalars = compiled(state, shards)
for tree in (both, both_scalars):
  for leaf in jax.tree.leaves(tree):
    assert leaf.sharding.is_fully_replicated

compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
jax.tree.map(compare, alone.params, both.params)
jax.tree.map(compare, dict(alone_scalars), dict(both_scalars))
# The gradients themselves: the first moment is a tenth of them.
jax.tree.map(
  lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6),
  alone.opt_state[0].mu, both.opt_state[0].mu,
)

for kind in ('jit', 'pmap'):
  try:
    parallel_lib.make_parallel(kind, 7)
  except errors.UserError as e:
    assert '7' in str(e) and '2 devices' in str(e), e
  else:
    sys.exit('A batch of 7 must not divide among 2 devices.')
"""


def test_two_devices_take_the_step_of_one():
  run_on_devices(TWO_DEVICES, 2)


# Steps of both kinds, for one seed and for two; compared are losses, all
# scalars, and everything in the state.
FOUR_DEVICES = """
import sys

import jax
import numpy as np

from configs import class_numbering
from configs import random_multisets
from idspn_jax.tasks import registry
from idspn_jax.training import loop
from idspn_jax.training import parallel as parallel_lib
from idspn_jax.training import seeds as seeds_lib
from idspn_jax.training import state as state_lib
from idspn_jax.training import step as step_lib
from tests.training import toy

assert jax.device_count() == 4


def multisets(kind, gradient):
  config = random_multisets.get_config('n=2,d=2,T=3')
  config.data.num_train, config.data.num_test = 32, 4
  config.model.hidden_dim = config.model.latent_dim = 8
  config.model.gradient = gradient
  config.batch_size = 16
  config.optimizer.name, config.learning_rate = 'sgd', 0.1
  config.parallel = kind
  return config, registry.build(config)


def numbering(kind, model):
  # Each set starts from noise of its own.
  config = class_numbering.get_config(
    f'n=2,T=2,samples=32,classes=2,model={model}'
  )
  config.data.num_validation = config.data.num_test = 4
  config.model.hidden_dim = config.model.latent_dim = 8
  config.batch_size = 16
  config.optimizer.name, config.learning_rate = 'sgd', 0.1
  config.parallel = kind
  return config, registry.build(config)


def batch_norm(kind, on_device):
  config = toy.get_config(
    parallel=kind, toy__on_device=on_device, toy__counts_fallbacks=True,
    ema_decay=0.5,
  )
  return config, toy.build(config)


def train(config, experiment, seeds):
  vectorized = seeds_lib.VectorizedSeeds(len(seeds))
  parallel = parallel_lib.make_parallel(
    config.parallel, config.batch_size, len(seeds)
  )
  states = []
  for seed in seeds:
    config.seed = seed
    states.append(state_lib.init_state(experiment.task, config))
  state = parallel.place_state(vectorized.stack(states))
  step = vectorized.map(
    step_lib.make_train_step(
      experiment.task, config, axis_name=parallel.axis_name
    )
  )
  streams = [experiment.data(seed).train(0) for seed in seeds]
  opened = [stream.__enter__() for stream in streams]
  compiled, found = None, []
  for _ in range(4):
    batch = parallel.place_batch(vectorized.stack([next(s) for s in opened]))
    if compiled is None:
      compiled = parallel.compile(step, state, batch)
      assert parallel_lib.peak_bytes(compiled) > 0
    state, scalars = compiled(state, batch)
    found.append(parallel.take_scalars(scalars))
  return found, jax.device_get(parallel.take_state(state))


def compare(a, b):
  assert a.dtype == b.dtype and a.shape == b.shape
  np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


CASES = {
  'few': (
    (multisets, 'jacobian_free', (0,)),
    (numbering, 'idspn', (0,)),
    (batch_norm, True, (0, 5)),
  ),
  'others': (
    (multisets, 'unrolled', (0, 5)),
    (numbering, 'transformer_random_pe', (0, 5)),
    (batch_norm, False, (0,)),
  ),
}
for make, argument, seeds in CASES[sys.argv[2]]:
  jit, pmap = (train(*make(kind, argument), seeds) for kind in ('jit', 'pmap'))
  jax.tree.map(compare, jit, pmap)
  first, last = jit[0][0]['loss'], jit[0][-1]['loss']
  assert np.all(first != last), 'It must have moved.'

if sys.argv[2] == 'others':
  sys.exit()
# The loop with both, to the end: evaluation, selection, checkpoints.
results = []
for kind in ('jit', 'pmap'):
  config = toy.get_config(parallel=kind, toy__selection='score', steps=4)
  if kind == 'pmap':
    # Stopped and continued, by jit until then: what is stored is the same.
    config.parallel, config.steps = 'jit', 2
    loop.train_and_evaluate(config, sys.argv[1] + kind, task=toy.build)
    config.parallel, config.steps = 'pmap', 4
  results.append(
    loop.train_and_evaluate(config, sys.argv[1] + kind, task=toy.build)
  )
jit, pmap = results
assert jit['selected']['step'] == pmap['selected']['step']
for name, value in jit['metrics'].items():
  assert abs(value - pmap['metrics'][name]) < 1e-4 * abs(value), results
assert pmap['config']['parallel'] == 'pmap' and pmap['peak_bytes'] > 0
"""


@pytest.mark.parametrize(
  'cases', ['few', pytest.param('others', marks=pytest.mark.deep)]
)
def test_pmap_computes_what_jit_computes(tmp_path, cases):
  run_on_devices(FOUR_DEVICES, 4, str(tmp_path / 'run'), cases)


@pytest.mark.parametrize('seeds', [1, 2])
def test_pmap_gives_every_device_its_rows(seeds):
  """The rows of a device follow each other, as they do under `jit`."""
  one = parallel.make_parallel('pmap', 4, seeds)
  assert one.axis_name == parallel.BATCH_AXIS
  rows = np.arange(4 * seeds * 3, dtype=np.float32)
  batch = {'a': rows.reshape((4, 3) if seeds == 1 else (seeds, 4, 3))}
  placed = one.place_batch(batch)
  devices = jax.device_count()
  shape = (devices, 4 // devices, 3)
  assert placed['a'].shape == (shape if seeds == 1 else (devices, 2, 4, 3))
  np.testing.assert_array_equal(
    np.asarray(placed['a'])[0], batch['a'][..., : 4 // devices, :]
  )
  state = {'w': np.ones((2, 3), np.float32), 'n': np.int32(3)}
  placed = one.place_state(state)
  assert placed['w'].shape == (devices, 2, 3)
  jax.tree.map(
    np.testing.assert_array_equal, dict(one.take_state(placed)), state
  )


# Rows made on the devices: each makes its own, whatever their number.
FILLED = """
import jax
import numpy as np

from idspn_jax.training import parallel as parallel_lib
from idspn_jax.training import state as state_lib
from idspn_jax.training import step as step_lib
from tests.training import toy

made = []


class Filling(toy.Toy):
  def fill(self, batch, key):
    made.append(batch['row'].shape)
    draw = lambda row: jax.random.normal(jax.random.fold_in(key, row), (3,))
    x = jax.vmap(draw)(batch['row'])
    return {'x': x, 'y': toy.target(x)}


found = []
for kind in ('alone', 'jit', 'pmap'):
  config = toy.get_config(parallel='pmap' if kind == 'pmap' else 'jit')
  task = Filling(config)
  state = state_lib.init_state(task, config)
  batch = {'row': np.arange(8)}
  made.clear()
  if kind == 'alone':
    step = step_lib.make_train_step(task, config)
    state, scalars = jax.jit(step)(state, batch)
    assert made == [(8,)], made
  else:
    parallel = parallel_lib.make_parallel(kind, 8)
    step = step_lib.make_train_step(
      task, config, axis_name=parallel.axis_name, mesh=parallel.mesh
    )
    placed = parallel.place_batch(batch)
    state = parallel.place_state(state)
    compiled = parallel.compile(step, state, placed)
    state, scalars = compiled(state, placed)
    scalars = parallel.take_scalars(scalars)
    state = parallel.take_state(state)
    assert made == [(2,)], made
  found.append(jax.device_get((state.params, scalars['loss'])))
for other in found[1:]:
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found[0], other
  )
"""


def test_every_device_makes_its_own_rows():
  run_on_devices(FILLED, 4)
