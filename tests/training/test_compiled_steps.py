"""Compiled steps: memory by mode, timing, compiling once, two devices."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

from idspn_jax.tasks import registry
from idspn_jax.training import benchmarks
from idspn_jax.training import evaluation
from idspn_jax.training import state as state_lib

ROOT = pathlib.Path(__file__).parents[2]

TWO_DEVICES = """
import sys
import chex
import jax
import numpy as np
from configs import random_multisets
from idspn_jax import errors
from idspn_jax.tasks import registry
from idspn_jax.training import state as state_lib

assert jax.device_count() == 2
config = random_multisets.get_config('n=2,d=2,T=3')
config.data.num_train, config.data.num_test = 16, 4
config.model.hidden_dim = config.model.latent_dim = 16
config.batch_size = 8
task = registry.build(config)
batch = next(task.train_batches(0))
step = state_lib.make_train_step(task, config)
state = state_lib.init_state(task, config)
alone, alone_scalars = jax.jit(step)(state, batch)

parallel = state_lib.DataParallel(config.batch_size)
shards = parallel.shard(batch)
assert len(shards['input'].addressable_shards) == 2
assert shards['input'].addressable_shards[0].data.shape == (4, 2, 2)
state = parallel.replicate(state)
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
try:
  state_lib.DataParallel(7)
except errors.UserError as e:
  assert '7' in str(e) and '2 devices' in str(e), e
else:
  sys.exit('A batch of 7 must not divide among 2 devices.')
"""


def test_two_devices_take_the_step_of_one():
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '--xla_force_host_platform_device_count=2',
  }
  done = subprocess.run(
    [sys.executable, '-c', TWO_DEVICES],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr


class TestMemory:
  def test_grows_with_the_steps_only_when_unrolled(self, small):
    config = small(batch_size=32)
    rows = benchmarks.memory_rows(
      config,
      [5, 40],
      ['jacobian_free', 'unrolled', 'unrolled_checkpointed'],
    )
    peak = {
      (row['gradient'], row['iterations']): row['peak_bytes'] for row in rows
    }
    growth = {
      mode: peak[mode, 40] - peak[mode, 5]
      for mode in ('jacobian_free', 'unrolled', 'unrolled_checkpointed')
    }
    assert growth['jacobian_free'] == 0
    # Thirty-five more steps keep at least the hidden activations.
    activations = 4 * 35 * 32 * 2 * 16
    assert growth['unrolled'] > activations
    assert 0 < growth['unrolled_checkpointed'] < 0.5 * growth['unrolled']
    # The config itself stays as it was.
    assert config.model.iterations == 3

  def test_leaves_out_what_does_not_apply(self, small):
    config = small(model__projection='simplex')
    rows = benchmarks.memory_rows(config, [2], ['cg', 'jacobian_free'])
    assert [row['gradient'] for row in rows] == ['jacobian_free']

  def test_reports_progress(self, small):
    seen = []
    rows = benchmarks.memory_rows(small(), [2], ['jacobian_free'], seen.append)
    assert seen == rows and len(rows) == 1


def test_time_side_by_side(small):
  steps = [benchmarks.CompiledStep(small(model__pool='sum'))] * 2
  seconds = benchmarks.time_side_by_side(steps, 3)
  assert [len(found) for found in seconds] == [3, 3]
  assert all(second > 0 for found in seconds for second in found)


class TestEvaluator:
  def test_compiles_once_per_number_of_steps(self, small):
    config = small(data__num_test=20, eval_batch_size=8)
    task = registry.build(config)
    traces = []
    metrics = task.metrics

    def counting(params, batch, key, iterations=None):
      traces.append(iterations)
      return metrics(params, batch, key, iterations)

    task.metrics = counting
    params = task.init(jax.random.key(0))
    evaluate = evaluation.Evaluator(task)
    results = [
      evaluate(params, iterations=count) for count in (2, 3, 2, None, None)
    ]
    assert traces == [2, 3, None]
    assert results[0] == results[2]
    assert results[1] == results[3] == results[4]  # Three are configured.

  @pytest.mark.parametrize('size', [1, 3, 10, 128])
  def test_averages_examples_whatever_the_batches(self, size, small):
    config = small(eval_batch_size=size)
    task = registry.build(config)

    def metrics(params, batch, key, iterations=None):
      return {'sum': batch['input'].sum((-2, -1))}

    task.metrics = metrics
    (found,) = evaluation.Evaluator(task)({})
    expected = task.test.sum((-2, -1), dtype=np.float64).mean()
    np.testing.assert_allclose(found['sum'], expected, rtol=1e-5)


def test_first_state_depends_on_the_seed_alone(small):
  def leaves(config):
    state = state_lib.init_state(registry.build(config), config)
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(state.params)])

  first = leaves(small())
  np.testing.assert_array_equal(first, leaves(small(batch_size=4, steps=3)))
  assert not np.array_equal(first, leaves(small(seed=1)))


def test_the_learning_rate_falls_at_the_end(small):
  """Adam's updates under a constant gradient have the size of the rate."""

  def sizes(**changes):
    config = small(steps=10, learning_rate=0.01, **changes)
    optimizer = state_lib.make_optimizer(config)
    params = gradient = {'a': np.ones(1, np.float32)}
    state, found = optimizer.init(params), []
    for _ in range(12):
      updates, state = optimizer.update(gradient, state, params)
      found.append(-100 * float(updates['a'][0]))
    return found

  np.testing.assert_allclose(sizes(), 1.0, rtol=1e-4)
  expected = [1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0, 0]
  np.testing.assert_allclose(sizes(cooldown=0.4), expected, rtol=1e-4)
