"""Tasks of one's own: model state, averages, metrics of data sets, streams."""

import json
import os
import signal

import chex
import jax
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import loading
from idspn_jax.tasks import registry
from idspn_jax.training import evaluation
from idspn_jax.training import group as group_lib
from idspn_jax.training import loop
from idspn_jax.training import parallel
from idspn_jax.training import state as state_lib
from idspn_jax.training import step as step_lib
from tests.training import toy


def train(config, workdir, task=toy.build):
  return loop.train_and_evaluate(config, str(workdir), task=task)


def load(workdir, step=None):
  return loading.load_run(str(workdir), step, task=toy.build)


def rows(workdir, name):
  lines = (workdir / 'scalars.jsonl').read_text('utf-8').splitlines()
  found = map(json.loads, lines)
  return {row['step']: row[name] for row in found if name in row}


def by_hand(config, count):
  """States after every step, without the loop."""
  experiment = toy.build(config)
  state = state_lib.init_state(experiment.task, config)
  step = jax.jit(step_lib.make_train_step(experiment.task, config))
  states = [state]
  with experiment.data(config.seed).train(0) as batches:
    for _ in range(count):
      state, _ = step(state, next(batches))
      states.append(state)
  return states


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A run with a moving average that selects, and its builder."""
  workdir = tmp_path_factory.mktemp('finished')
  recorder = toy.Recorder()
  config = toy.get_config(ema_decay=0.7, toy__selection='score')
  return workdir, train(config, workdir, recorder), recorder, config


class TestModelState:
  def test_advances_in_training(self, finished):
    workdir, _, _, config = finished
    expected = by_hand(config, 6)
    stored = checkpoints.read(str(workdir), 6)
    assert stored['model_state']['counters']['steps'] == 6
    chex.assert_trees_all_close(
      stored['model_state'], expected[-1].model_state, rtol=1e-5
    )
    first, last = (
      expected[i].model_state['batch_stats']['BatchNorm_0'] for i in (0, -1)
    )
    assert np.all(first['mean'] == 0) and np.all(last['mean'] != 0)

  def test_is_the_average_over_batches(self, finished):
    """One step by hand: 0.8 · 0 + 0.2 · mean of the first batch."""
    config = finished[3]
    before, after = by_hand(config, 1)
    with toy.build(config).data(0).train(0) as batches:
      x = next(batches)['x']
    hidden = x @ np.asarray(before.params['Dense_0']['kernel'])
    stats = after.model_state['batch_stats']['BatchNorm_0']
    np.testing.assert_allclose(stats['mean'], 0.2 * hidden.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
      stats['var'], 0.8 + 0.2 * hidden.var(0), rtol=1e-4
    )

  def test_is_used_in_evaluation(self, finished):
    workdir, result, _, _ = finished
    run = load(workdir)
    test = run.data.splits['test']
    own = {name: run.variables[name] for name in ('params', 'batch_stats')}
    output = run.task.net.apply(own, test['x'], train=False)
    error = (np.asarray(output) - test['y']) ** 2
    assert result['metrics']['loss'] == pytest.approx(error.mean(), rel=1e-5)

  def test_is_resumed_bit_for_bit(self, finished, tmp_path):
    workdir, result, _, config = finished
    half = config.copy_and_resolve_references()
    half.steps = 4
    train(half, tmp_path)
    assert train(config, tmp_path)['metrics'] == result['metrics']
    chex.assert_trees_all_equal(
      checkpoints.read(str(tmp_path), 6), checkpoints.read(str(workdir), 6)
    )

  def test_must_come_back_whole(self, tmp_path):
    class Forgetful(toy.Toy):
      def loss(self, *args, **kwargs):
        loss, output = super().loss(*args, **kwargs)
        return loss, output._replace(model_state={})

    def builder(config):
      return toy.build(config)._replace(task=Forgetful(config))

    with pytest.raises(errors.UserError, match='Forgetful.loss.*batch_stats'):
      train(toy.get_config(), tmp_path, builder)


class TestMovingAverage:
  def test_is_that_of_the_parameters(self, finished):
    workdir, _, _, config = finished
    states = by_hand(config, 6)
    average = states[0].params
    for step, state in enumerate(states[1:], start=1):
      decay = min(0.7, step / (step + 9))
      average = jax.tree.map(
        lambda a, b, d=decay: d * a + (1 - d) * b, average, state.params
      )
    chex.assert_trees_all_close(states[-1].ema_params, average, rtol=1e-5)
    stored = checkpoints.read(str(workdir), 6)
    chex.assert_trees_all_close(stored['ema_params'], average, rtol=1e-5)
    moved = jax.tree.map(
      lambda a, b: np.any(a != b), stored['ema_params'], stored['params']
    )
    assert all(jax.tree.leaves(moved))

  def test_is_evaluated_and_in_the_best_snapshot(self, finished):
    workdir, result, _, config = finished
    states = by_hand(config, 6)
    best = result['selected']['step']
    assert best in (3, 6)
    stored = checkpoints.read(str(workdir), 6)['best']
    for found in (stored['params'], load(workdir).variables['params']):
      chex.assert_trees_all_close(found, states[best].ema_params, rtol=1e-5)
    chex.assert_trees_all_close(
      stored['model_state'], states[best].ema_model_state, rtol=1e-5
    )
    experiment = toy.build(config)
    evaluate = evaluation.Evaluator(experiment.task, [experiment.data(0)], [0])
    (expected,) = evaluate(states[best].variables, 'validation')
    assert expected['score'] == pytest.approx(
      result['selected']['validation'], rel=1e-4
    )

  def test_is_that_of_the_statistics_too(self, finished):
    states = by_hand(finished[3], 6)
    average = states[0].model_state
    for step, state in enumerate(states[1:], start=1):
      decay = min(0.7, step / (step + 9))
      average = jax.tree.map(
        lambda a, b, d=decay: (
          d * a + (1 - d) * b if np.issubdtype(b.dtype, np.floating) else b
        ),
        average,
        state.model_state,
      )
    chex.assert_trees_all_close(states[-1].ema_model_state, average, rtol=1e-5)

  def test_of_older_runs(self):
    """A constant decay, of the parameters alone."""
    states = by_hand(toy.get_config(ema_decay=0.7, ema_warmup=False), 2)
    average = states[0].params
    for state in states[1:]:
      average = jax.tree.map(
        lambda a, b: 0.7 * a + 0.3 * b, average, state.params
      )
    chex.assert_trees_all_close(states[-1].ema_params, average, rtol=1e-5)
    assert states[-1].ema_model_state is None

  def test_is_loaded_where_nothing_selects(self, tmp_path):
    train(toy.get_config(ema_decay=0.5, steps=3), tmp_path)
    stored = checkpoints.read(str(tmp_path), 3)
    assert 'best' not in stored or stored['best'] is None
    chex.assert_trees_all_equal(
      load(tmp_path).variables['params'], stored['ema_params']
    )


class TestMetricsOfADataSet:
  def test_see_every_example_once(self, finished):
    task = finished[2].built[0].task
    validation, test = (
      list(range(toy.SIZES[s])) for s in ('validation', 'test')
    )
    assert task.seen == [validation, validation, test]

  @pytest.mark.parametrize('size', [1, 4, 11, 100])
  def test_do_not_depend_on_the_batches(self, size):
    config = toy.get_config(eval_batch_size=size)
    experiment = toy.build(config)
    variables = experiment.task.init(jax.random.key(0))
    evaluate = evaluation.Evaluator(experiment.task, [experiment.data(0)], [0])
    (found,) = evaluate(variables)
    test = experiment.data(0).splits['test']
    rows = experiment.task.evaluate(variables, test, jax.random.key(0))
    assert found['median'] == pytest.approx(
      float(np.median(rows['error'])), rel=1e-5
    )
    assert experiment.task.seen == [list(range(11))]

  def test_a_metric_to_select_by_must_exist(self, tmp_path):
    with pytest.raises(errors.UserError, match="'ap', but .* loss, median"):
      train(toy.get_config(toy__selection='ap'), tmp_path)

  def test_no_loss_is_needed(self, tmp_path):
    class Lossless(toy.Toy):
      def summarize(self, metrics):
        return {'median': super().summarize(metrics)['median']}

    def builder(config):
      return toy.build(config)._replace(task=Lossless(config))

    result = train(toy.get_config(steps=4), tmp_path, builder)
    assert set(result['metrics']) == {'median'} and not result['diverged']


class TestPrepare:
  def test_makes_data_on_the_device(self, tmp_path):
    """Other data in every step, the same after a restart."""
    config = toy.get_config(toy__on_device=True)
    result = train(config, tmp_path / 'whole')
    train(toy.get_config(toy__on_device=True, steps=3), tmp_path / 'parts')
    again = train(config, tmp_path / 'parts')
    assert again['metrics'] == result['metrics']
    losses = rows(tmp_path / 'whole', 'train/loss')
    assert losses == rows(tmp_path / 'parts', 'train/loss')

  def test_gets_another_key_in_every_step(self):
    config = toy.get_config(toy__on_device=True)
    experiment = toy.build(config)
    step = jax.jit(step_lib.make_train_step(experiment.task, config))
    state = state_lib.init_state(experiment.task, config)
    with experiment.data(0).train(0) as batches:
      batch = next(batches)

    def loss(number):
      return float(step(state.replace(step=number), batch)[1]['loss'])

    first, second = (np.int32(number) for number in (0, 1))
    assert loss(first) == loss(first) != loss(second)


class TestStreams:
  def events(self, recorder):
    return recorder.built[0].data(0).events

  def test_are_opened_once_and_closed(self, finished):
    assert self.events(finished[2]) == ['open', 'close']

  def test_on_divergence(self, tmp_path):
    recorder = toy.Recorder()
    config = toy.get_config(optimizer__name='sgd', learning_rate=1e30, steps=50)
    assert train(config, tmp_path, recorder)['diverged']
    # Once more for the batch of the bad step.
    assert self.events(recorder) == ['open', 'open', 'close', 'close']

  def test_on_an_interrupt(self, tmp_path, monkeypatch):
    recorder = toy.Recorder()
    advance = group_lib.Group.advance

    def interrupting(self, step, batch):
      os.kill(os.getpid(), signal.SIGTERM)
      return advance(self, step, batch)

    monkeypatch.setattr(group_lib.Group, 'advance', interrupting)
    with pytest.raises(loop.Interrupted):
      train(toy.get_config(), tmp_path, recorder)
    assert self.events(recorder) == ['open', 'close']

  def test_on_an_error(self, tmp_path, monkeypatch):
    recorder = toy.Recorder()

    def broken(self, step, batch):
      raise RuntimeError('broken')

    monkeypatch.setattr(group_lib.Group, 'advance', broken)
    with pytest.raises(RuntimeError, match='broken'):
      train(toy.get_config(), tmp_path, recorder)
    assert self.events(recorder) == ['open', 'close']

  def test_a_finished_run_opens_none(self, finished):
    workdir, result, _, config = finished
    recorder = toy.Recorder()
    assert train(config, workdir, recorder)['metrics'] == result['metrics']
    assert self.events(recorder) == []

  @pytest.mark.parametrize('count', [0, 2])
  def test_that_end_are_refused(self, count, tmp_path, monkeypatch):
    train_batches = toy.data_lib.shuffled_batches

    def finite(*args, **kwargs):
      for i, batch in enumerate(train_batches(*args, **kwargs)):
        if i == count:
          return
        yield batch

    monkeypatch.setattr(toy.data_lib, 'shuffled_batches', finite)
    with pytest.raises(errors.UserError, match=r'without end|no batch'):
      train(toy.get_config(), tmp_path)


def test_fallbacks_are_counted():
  config = toy.get_config(toy__counts_fallbacks=True)
  experiment = toy.build(config)
  state = state_lib.init_state(experiment.task, config)
  step = jax.jit(step_lib.make_train_step(experiment.task, config))
  plain = toy.get_config()
  plain_step = jax.jit(step_lib.make_train_step(toy.build(plain).task, plain))
  with experiment.data(0).train(0) as batches:
    batch = next(batches)
  new, scalars = step(state, batch)
  expected, without = plain_step(state, batch)
  assert scalars['fallbacks'] == np.sum(batch['x'][:, 0] > 0)
  assert 'fallbacks' not in without
  chex.assert_trees_all_close(new.params, expected.params, rtol=1e-6)


class TestOwnTasks:
  def test_are_found_by_the_name_they_are_registered_under(
    self, tmp_path, monkeypatch
  ):
    monkeypatch.setattr(registry, '_REGISTERED', {})
    config = toy.get_config(steps=2)
    with pytest.raises(errors.UserError, match="config.task is 'toy'; .*own"):
      loop.train_and_evaluate(config, str(tmp_path))
    registry.register_task('toy', toy.build)
    assert 'toy' in registry.names()
    result = loop.train_and_evaluate(config, str(tmp_path))
    assert result['task'] == 'toy' and result['step'] == 2
    assert loading.load_run(str(tmp_path)).step == 2

  def test_names_of_the_library_are_taken(self):
    with pytest.raises(errors.UserError, match='own_sets.*another name'):
      registry.register_task('own_sets', toy.build)
    with pytest.raises(errors.UserError, match="'toy' must be a function"):
      registry.register_task('toy', 'tests.toy')

  def test_the_builder_must_return_an_experiment(self, tmp_path):
    with pytest.raises(errors.UserError, match='returned Toy; .* Experiment'):
      train(toy.get_config(), tmp_path, toy.Toy)

  def test_are_loaded_by_their_builder(self, finished):
    workdir, result, _, config = finished
    run = load(workdir)
    assert isinstance(run.task, toy.Toy) and isinstance(run.data, toy.ToyData)
    assert json.loads(run.config.to_json()) == json.loads(config.to_json())
    evaluate = evaluation.Evaluator(run.task, [run.data], [0])
    assert evaluate(run.variables) == [pytest.approx(result['metrics'])]
    with pytest.raises(errors.UserError, match="config.task is 'toy'"):
      loading.load_run(str(workdir))

  def test_several_seeds(self, finished, tmp_path):
    _, result, _, config = finished
    configs = []
    for seed in (0, 1):
      configs.append(config.copy_and_resolve_references())
      configs[-1].seed = seed
    recorder = toy.Recorder()
    both = loop.train_seeds(
      configs, [str(tmp_path / s) for s in 'ab'], task=recorder
    )
    assert len(recorder.built) == 1
    assert both[0]['metrics'] == pytest.approx(result['metrics'], rel=1e-4)
    assert both[1]['metrics'] != both[0]['metrics']
    stored = [checkpoints.read(str(tmp_path / s), 6) for s in 'ab']
    assert [s['model_state']['counters']['steps'] for s in stored] == [6, 6]


def test_a_batch_that_does_not_divide_leaves_no_config(tmp_path, monkeypatch):
  """The same directory serves once the batch size is right."""
  monkeypatch.setattr(parallel.jax, 'device_count', lambda: 3)
  with pytest.raises(errors.UserError, match='batch_size 8 .* 3 devices'):
    train(toy.get_config(), tmp_path)
  assert not (tmp_path / 'config.json').exists()
