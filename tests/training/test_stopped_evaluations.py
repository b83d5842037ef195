"""A stop within an evaluation: it is left at once, and repeated later."""

import json
import os
import signal

import chex
import pytest

from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.training import loop
from idspn_jax.training import run as run_lib
from tests.training import toy


class Evaluations:
  """Counts evaluations, and the batches that each draws.

  Attributes:
    drawn: batches of every evaluation so far.
    stops: numbers of evaluations before whose second batch a signal comes.
  """

  def __init__(self, monkeypatch, stops=()):
    """Counts those of the toy from here on."""
    self.drawn = []
    self.stops = stops
    evaluate = toy.ToyData.evaluate

    def counted(data, split):
      number = len(self.drawn)
      self.drawn.append(0)
      for i, batch in enumerate(evaluate(data, split)):
        if i == 1 and number in self.stops:
          os.kill(os.getpid(), signal.SIGTERM)
        self.drawn[number] += 1
        yield batch

    monkeypatch.setattr(toy.ToyData, 'evaluate', counted)


def rows(workdir):
  found = []
  for line in (workdir / 'scalars.jsonl').read_text('utf-8').splitlines():
    row = json.loads(line)
    row.pop('train/steps_per_second', None)
    found.append(row)
  return found


def config_of(selection, **changes):
  return toy.get_config(toy__selection=selection, steps=9, **changes)


@pytest.fixture(scope='module', params=['', 'score'], ids=['last', 'best'])
def unbroken(request, tmp_path_factory):
  """An unbroken run: what it selects by, its directory and result."""
  workdir = tmp_path_factory.mktemp('unbroken')
  config = config_of(request.param)
  result = loop.train_and_evaluate(config, str(workdir), toy.build)
  return request.param, workdir, result


def assert_same(workdir, result, unbroken):
  _, whole, expected = unbroken
  for name in ('metrics', 'step', 'diverged', 'selected'):
    assert result.get(name) == expected.get(name), name
  assert rows(workdir) == rows(whole)
  chex.assert_trees_all_equal(
    *(checkpoints.read(str(w), 9) for w in (workdir, whole))
  )


# Evaluations of steps 3, 6 and 9, and the test of what selects; those that are
# stopped are repeated, and count again.
@pytest.mark.parametrize(
  'stops, steps',
  [
    ([0], [3]),
    ([0, 1], [3, 3]),
    ([1], [6]),
    ([0, 2], [3, 6]),
    ([2], [9]),
    ([2, 3], [9, 9]),
  ],
)
def test_ends_as_if_unbroken(stops, steps, unbroken, tmp_path, monkeypatch):
  counted = Evaluations(monkeypatch, stops)
  config = config_of(unbroken[0])
  for step in steps:
    with pytest.raises(loop.Interrupted) as e:
      loop.train_and_evaluate(config, str(tmp_path), toy.build)
    assert e.value.step == step
    assert checkpoints.stored_steps(str(tmp_path))[-1] == step
    # Not one more batch than the one that was drawn when the signal came.
    assert counted.drawn[-1] == 2
    assert len(counted.drawn) - 1 in stops
  result = loop.train_and_evaluate(config, str(tmp_path), toy.build)
  assert_same(tmp_path, result, unbroken)
  assert sum(n == 2 for n in counted.drawn) == len(stops)


def test_a_test_is_repeated_too(tmp_path, monkeypatch):
  counted = Evaluations(monkeypatch, [3])
  config = config_of('score')
  with pytest.raises(loop.Interrupted) as e:
    loop.train_and_evaluate(config, str(tmp_path), toy.build)
  assert e.value.step == 9 and counted.drawn == [3, 3, 3, 2]
  assert not (tmp_path / 'result.json').exists()
  result = loop.train_and_evaluate(config, str(tmp_path), toy.build)
  assert [row['step'] for row in rows(tmp_path) if 'test/loss' in row] == [9]
  assert result['metrics']


def test_a_signal_before_it_leaves_it_out(unbroken, tmp_path, monkeypatch):
  """However long it would take."""
  counted = Evaluations(monkeypatch)
  advance = loop.group_lib.Group.advance

  def interrupting(self, step, batch):
    if step == 5:
      os.kill(os.getpid(), signal.SIGINT)
    return advance(self, step, batch)

  config = config_of(unbroken[0])
  with monkeypatch.context() as patch:
    patch.setattr(loop.group_lib.Group, 'advance', interrupting)
    with pytest.raises(loop.Interrupted) as e:
      loop.train_and_evaluate(config, str(tmp_path), toy.build)
  assert e.value.step == 6 and counted.drawn[1:] == [1]
  result = loop.train_and_evaluate(config, str(tmp_path), toy.build)
  assert_same(tmp_path, result, unbroken)


def train_killed(monkeypatch, kind, method, failing, workdir, config):
  """Trains until a method, replaced by one that fails, is called."""
  with monkeypatch.context() as patch:
    patch.setattr(kind, method, failing)
    with pytest.raises(errors.UserError, match='killed'):
      loop.train_and_evaluate(config, str(workdir), toy.build)


def test_killed_before_the_repeated_one_is_logged(
  unbroken, tmp_path, monkeypatch
):
  """What is selected is not lost then, nor a row of the log."""
  Evaluations(monkeypatch, [1])
  config = config_of(unbroken[0])
  with pytest.raises(loop.Interrupted):
    loop.train_and_evaluate(config, str(tmp_path), toy.build)
  write = run_lib.TrainingRun.write

  def failing(self, step, prefix, scalars):
    if prefix == 'eval':
      raise errors.UserError('killed')
    write(self, step, prefix, scalars)

  owner = run_lib.TrainingRun
  train_killed(monkeypatch, owner, 'write', failing, tmp_path, config)
  result = loop.train_and_evaluate(config, str(tmp_path), toy.build)
  assert_same(tmp_path, result, unbroken)


def test_killed_after_the_repeated_one_is_logged(
  unbroken, tmp_path, monkeypatch
):
  Evaluations(monkeypatch, [1])
  config = config_of(unbroken[0])
  with pytest.raises(loop.Interrupted):
    loop.train_and_evaluate(config, str(tmp_path), toy.build)

  def failing(self, step, batch):
    raise errors.UserError('killed')

  owner = loop.group_lib.Group
  train_killed(monkeypatch, owner, 'advance', failing, tmp_path, config)
  counted = Evaluations(monkeypatch)
  result = loop.train_and_evaluate(config, str(tmp_path), toy.build)
  assert_same(tmp_path, result, unbroken)
  # Of step 9 alone, for that of step 6 is known.
  assert len(counted.drawn) == (1 if unbroken[0] == '' else 2)


def test_several_seeds(tmp_path, monkeypatch):
  configs = [config_of('score', seed=seed) for seed in (0, 1)]

  def train(name):
    workdirs = [tmp_path / name / str(seed) for seed in (0, 1)]
    return workdirs, lambda: loop.train_seeds(
      configs, list(map(str, workdirs)), toy.build
    )

  whole, run = train('whole')
  expected = run()
  broken, run = train('broken')
  with monkeypatch.context() as patch:
    Evaluations(patch, [2])  # Of the first seed in step 6.
    with pytest.raises(loop.Interrupted) as e:
      run()
  assert e.value.step == 6
  found = run()
  for own, other in zip(expected, found, strict=True):
    assert own['metrics'] == other['metrics']
    assert own['selected'] == other['selected']
  assert [rows(w) for w in broken] == [rows(w) for w in whole]
