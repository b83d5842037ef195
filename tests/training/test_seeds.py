"""Vectorised seeds: each run is what it would have been alone."""

import json
import os
import pathlib
import subprocess
import sys

import chex
import jax
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.runs import loading
from idspn_jax.training import loop
from idspn_jax.training import seeds as seeds_lib
from tests.training import fakes

ROOT = pathlib.Path(__file__).parents[2]
SEEDS = (3, 0, 7)


def logged(workdir, name):
  lines = (workdir / 'scalars.jsonl').read_text('utf-8').splitlines()
  rows = map(json.loads, lines)
  return [(row['step'], row[name]) for row in rows if name in row]


def train(configs, directory):
  """Trains in one program, a directory per seed."""
  workdirs = [str(directory / f'seed{config.seed}') for config in configs]
  return loop.train_seeds(configs, workdirs)


@pytest.fixture(scope='module')
def alone(small, tmp_path_factory):
  """Every seed trained on its own: results and directory."""
  directory = tmp_path_factory.mktemp('alone')
  return {
    seed: loop.train_and_evaluate(
      small(seed=seed), str(directory / f'seed{seed}')
    )
    for seed in SEEDS
  }, directory


def assert_same_runs(results, directory, alone):
  """The runs in a directory are those trained alone, up to rounding."""
  for result in results:
    seed = result['config']['seed']
    expected = alone[0][seed]
    assert result['step'] == expected['step'] == 6
    assert result['config'] == expected['config']
    assert result['parameters'] == expected['parameters']
    assert result['metrics'] == pytest.approx(expected['metrics'], rel=1e-4)
    own, other = directory / f'seed{seed}', alone[1] / f'seed{seed}'
    for name in ('train/loss', 'train/gradient_norm', 'eval/loss'):
      rows = dict(logged(own, name))
      # A run that paused was evaluated there too.
      assert {step: rows.get(step) for step, _ in logged(other, name)} == {
        step: pytest.approx(value, rel=1e-4)
        for step, value in logged(other, name)
      }
    chex.assert_trees_all_close(
      loading.load_run(str(own)).variables,
      loading.load_run(str(other)).variables,
      atol=1e-4,
    )
    assert {p.name for p in own.iterdir()} == {p.name for p in other.iterdir()}


def test_every_seed_is_as_if_alone(small, tmp_path, alone):
  results = train([small(seed=seed) for seed in SEEDS], tmp_path)
  assert [result['config']['seed'] for result in results] == list(SEEDS)
  assert [result['vectorized_seeds'] for result in results] == [3, 3, 3]
  assert_same_runs(results, tmp_path, alone)
  losses = {result['metrics']['loss'] for result in results}
  assert len(losses) == 3


def test_runs_part_and_meet(small, tmp_path, alone):
  """One seed is ahead, continues alone, and the others follow together."""
  train([small(seed=0, steps=4)], tmp_path)
  train([small(seed=seed, steps=2) for seed in (3, 7)], tmp_path)
  results = train([small(seed=seed) for seed in SEEDS], tmp_path)
  assert [result['vectorized_seeds'] for result in results] == [2, 1, 2]
  assert_same_runs(results, tmp_path, alone)


def test_what_does_not_fit_is_halved(small, tmp_path, alone, monkeypatch):
  monkeypatch.setattr(seeds_lib, 'memory_limit', lambda: 1)
  results = train([small(seed=seed) for seed in SEEDS], tmp_path)
  assert [result['vectorized_seeds'] for result in results] == [1, 1, 1]
  assert_same_runs(results, tmp_path, alone)


def test_a_diverged_seed_does_not_disturb_the_others(
  small, tmp_path, alone, monkeypatch
):
  fakes.poison(monkeypatch, first_bad=3)
  first, lost, last = train([small(seed=seed) for seed in SEEDS], tmp_path)
  assert_same_runs([first, last], tmp_path, alone)
  assert not first['diverged'] and not last['diverged']
  assert lost['diverged'] and lost['step'] == 4 and lost['metrics'] == {}
  rows = logged(tmp_path / 'seed0', 'train/loss')
  assert [step for step, _ in rows] == [2, 4] and rows[-1][1] is None
  with pytest.raises(errors.UserError, match='no checkpoint yet'):
    loading.load_run(str(tmp_path / 'seed0'))


def test_only_seeds_may_differ(small, tmp_path):
  with pytest.raises(errors.UserError, match='learning_rate: 0.001 -> 0.1'):
    train([small(), small(seed=1, learning_rate=0.1)], tmp_path)
  with pytest.raises(errors.UserError, match='steps: 6 -> 7'):
    train([small(), small(seed=1, steps=7)], tmp_path)
  with pytest.raises(errors.UserError, match='a directory each'):
    loop.train_seeds([small(), small(seed=1)], [str(tmp_path)] * 2)


class TestVectorizedSeeds:
  def test_several(self):
    three = seeds_lib.VectorizedSeeds(3)
    trees = [{'a': np.full(2, i), 'k': jax.random.key(i)} for i in range(3)]
    joined = three.stack(trees)
    assert isinstance(joined['a'], np.ndarray) and joined['a'].shape == (3, 2)
    for i, tree in enumerate(three.unstack(joined)):
      np.testing.assert_array_equal(tree['a'], [i, i])
      assert tree['k'] == trees[i]['k']
    sums = three.map(lambda tree: tree['a'].sum())(joined)
    np.testing.assert_array_equal(sums, [0, 2, 4])

  def test_one_is_left_alone(self):
    one = seeds_lib.VectorizedSeeds(1)
    tree, function = {'a': 1}, abs
    assert one.stack([tree]) is tree and one.unstack(tree) == [tree]
    assert one.map(function) is function

  def test_there_is_memory(self):
    assert seeds_lib.memory_limit() > 2**28


TWO_DEVICES = """
import sys
import jax
from configs import class_numbering
from idspn_jax.training import loop

assert jax.device_count() == 2
configs = []
for seed in (0, 1):
  config = class_numbering.get_config(
    f'n=2,T=2,samples=8,classes=2,seed={seed}'
  )
  config.data.num_validation = config.data.num_test = 8
  config.model.hidden_dim = config.model.latent_dim = 8
  config.batch_size = config.eval_batch_size = 8
  config.steps, config.log_every = 6, 2
  config.checkpoint_every = config.eval_every = 2
  configs.append(config)
workdirs = [f'{sys.argv[1]}/together{i}' for i in range(2)]
together = loop.train_seeds(configs, workdirs)
alone = [
  loop.train_and_evaluate(config, f'{sys.argv[1]}/alone{i}')
  for i, config in enumerate(configs)
]
for a, b in zip(together, alone):
  assert (a['vectorized_seeds'], b['vectorized_seeds']) == (2, 1)
  assert a['selected'] == b['selected'], (a, b)
  for name, value in a['metrics'].items():
    assert abs(value - b['metrics'][name]) < 1e-3, (name, a, b)
"""


@pytest.mark.deep
def test_two_seeds_on_two_devices(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', TWO_DEVICES, str(tmp_path)],
    cwd=ROOT,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': '--xla_force_host_platform_device_count=2',
    },
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
