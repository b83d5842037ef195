"""Inner steps and starts by training step, one compiled program for each."""

import collections

import jax
import pytest

from configs import random_multisets
from idspn_jax import errors
from idspn_jax.tasks import registry
from idspn_jax.training import iterations
from idspn_jax.training import loop
from idspn_jax.training import parallel
from idspn_jax.training import state as state_lib
from idspn_jax.training import step as step_lib
from tests.training import toy


def schedule(value, steps=10, iterates=True):
  config = toy.get_config(iterations_schedule=value, steps=steps)
  return iterations.Schedule(config, iterates)


def all_of(found, steps=10):
  return [found(step).iterations for step in range(steps)]


class TestSchedule:
  def test_none(self):
    found = schedule('')
    assert found.counts == (None,) and all_of(found) == [None] * 10
    assert schedule('', iterates=False).counts == (None,)

  @pytest.mark.parametrize(
    'value, expected',
    [
      ('20,40@0.5', [20] * 5 + [40] * 5),
      (' 20, 40@.5 ', [20] * 5 + [40] * 5),
      ('7', [7] * 10),
      ('5@0,3@0.1,9@0.75', [5] + [3] * 7 + [9] * 2),
      ('linear:2-6', [2, 2, 3, 3, 4, 4, 5, 5, 6, 6]),
      ('linear:2-4', [2, 2, 2, 2, 3, 3, 3, 4, 4, 4]),
      ('linear:3-3', [3] * 10),
    ],
  )
  def test_by_hand(self, value, expected):
    found = schedule(value)
    assert all_of(found) == expected
    assert found.counts == tuple(sorted(set(expected)))

  def test_more_counts_than_steps(self):
    found = schedule('linear:1-100', steps=4)
    assert all_of(found, 4) == [1, 26, 51, 76]
    assert found.counts == tuple(range(1, 101))

  def test_random(self):
    found = schedule('random:2-5')
    drawn = all_of(found, 400)
    counts = collections.Counter(drawn)
    assert set(counts) == {2, 3, 4, 5} == set(found.counts)
    assert min(counts.values()) > 60
    # A function of the step alone, so that a resumed run draws the same.
    assert all_of(schedule('random:2-5', steps=7), 400) == drawn

  @pytest.mark.parametrize(
    'value',
    [
      '0',
      'many',
      '20,40',
      '20@0.5',
      '20,40@0.5,30@0.4',
      '20,40@1',
      '20,40@50%',
      '20,,40@0.5',
      '2.5',
      '-3',
      'linear:4',
      'linear:4-2',
      'linear:0-2',
      'random:',
      'random:1-x',
      'cosine:1-2',
    ],
  )
  def test_other_forms_are_refused(self, value):
    with pytest.raises(errors.UserError, match='20,40@0.5') as e:
      schedule(value)
    assert repr(value) in str(e.value)

  def test_a_model_without_inner_steps(self):
    with pytest.raises(errors.UserError, match='no inner steps'):
      schedule('20', iterates=False)


class TestRestarts:
  """`config.restarts_schedule`, in the same words."""

  def schedule(self, value, steps=10, **changes):
    config = random_multisets.get_config('n=2,d=2')
    with config.unlocked():
      config.update({'restarts_schedule': value, 'steps': steps, **changes})
    return iterations.Schedule(config)

  def test_by_hand(self):
    found = self.schedule('1,4@0.5')
    assert [found(step) for step in (0, 4, 5, 9)] == [
      (None, 1),
      (None, 1),
      (None, 4),
      (None, 4),
    ]
    assert found.largest == (None, 4) and found.restart_counts == (1, 4)
    found = self.schedule('linear:1-2', iterations_schedule='5,3@0.7')
    assert [found(step) for step in (0, 5, 7)] == [(5, 1), (5, 2), (3, 2)]
    assert found.largest == (5, 2)

  def test_are_drawn_apart_from_the_inner_steps(self):
    found = self.schedule('random:1-4', iterations_schedule='random:1-4')
    drawn = {tuple(found(step)) for step in range(400)}
    assert len(drawn) == 16

  def test_what_is_wrong_is_named(self):
    with pytest.raises(errors.UserError, match="restarts.*'two'.*'1,4@0.5'"):
      self.schedule('two')
    config = toy.get_config(restarts_schedule='2')
    with pytest.raises(errors.UserError, match='no restart_scale'):
      iterations.Schedule(config)

  def test_training_step_takes_them(self):
    """Four starts of scale 0 are one start; others have another gradient."""
    config = random_multisets.get_config('n=4,d=2,T=3')
    with config.unlocked():
      config.update({'batch_size': 8, 'eval_batch_size': 8})
      config.data.update({'num_train': 8, 'num_test': 8})
      config.model.update({'hidden_dim': 8, 'latent_dim': 8})

    def stepped(scale, restarts):
      config.model.restart_scale = scale
      experiment = registry.build(config)
      state = state_lib.init_state(experiment.task, config)
      with experiment.data(0).train(0) as batches:
        batch = next(batches)
      train_step = step_lib.make_train_step(
        experiment.task, config, restarts=restarts
      )
      return jax.jit(train_step)(state, batch)[1]

    one = stepped(0.0, None)
    same, other = stepped(0.0, 4), stepped(0.1, 4)
    assert float(same['loss']) == pytest.approx(float(one['loss']), rel=1e-5)
    assert other['inner_energy'] < one['inner_energy']


def test_each_number_is_compiled_once(tmp_path, monkeypatch):
  """The largest first: it decides whether the memory suffices."""
  compile_step = parallel.JitParallel.compile
  compiled = []

  def counting(self, *args):
    compiled.append(1)
    return compile_step(self, *args)

  monkeypatch.setattr(parallel.JitParallel, 'compile', counting)
  recorder = toy.Recorder()
  config = toy.get_config(iterations_schedule='2,4@0.3,3@0.6', steps=10)
  loop.train_and_evaluate(config, str(tmp_path), task=recorder)
  assert recorder.built[0].task.traces == [4, 2, 3]
  assert len(compiled) == 3


def test_is_checked_before_anything_is_written(tmp_path):
  config = toy.get_config(iterations_schedule='20,40', steps=10)
  with pytest.raises(errors.UserError, match='20,40@0.5'):
    loop.train_and_evaluate(config, str(tmp_path), task=toy.build)
  assert not (tmp_path / 'config.json').exists()
