"""The best parameters by validation are tested, and survive a restart."""

import json
import os
import shutil
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import class_numbering as config_file
from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import loading
from idspn_jax.tasks import class_numbering
from idspn_jax.tasks import task as task_lib
from idspn_jax.training import evaluation
from idspn_jax.training import group as group_lib
from idspn_jax.training import loop
from idspn_jax.training import state as state_lib
from tests.training import fakes


def numbering(**changes):
  """Two elements, two classes: learned in some dozen steps."""
  config = config_file.get_config('n=2,T=2,samples=16,classes=2')
  config.data.num_validation, config.data.num_test = 20, 30
  config.model.hidden_dim = config.model.latent_dim = 8
  config.batch_size = config.eval_batch_size = 10
  config.learning_rate = 0.02
  config.steps, config.log_every, config.checkpoint_every = 40, 4, 8
  config.eval_every = 4
  config.update_from_flattened_dict(changes)
  return config


def scalars(workdir, name):
  lines = (workdir / 'scalars.jsonl').read_text('utf-8').splitlines()
  rows = map(json.loads, lines)
  return {row['step']: row[name] for row in rows if name in row}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('finished')
  return workdir, loop.train_and_evaluate(numbering(), str(workdir))


def test_the_first_of_the_best_validations_is_selected(finished):
  workdir, result = finished
  validations = scalars(workdir, 'eval/set_accuracy')
  assert list(validations) == list(range(4, 41, 4))
  best = max(validations.values())
  assert len(set(validations.values())) > 1  # There was a choice.
  selected = result['selected']
  assert selected['by'] == 'set_accuracy'
  assert selected['validation'] == pytest.approx(best)
  assert selected['step'] == min(
    step for step, value in validations.items() if value == best
  )


def test_the_selected_parameters_are_tested(finished):
  workdir, result = finished
  run = loading.load_run(str(workdir))
  assert run.step == result['selected']['step']
  evaluate = evaluation.Evaluator(run.task, [run.data], [run.config.seed])
  (metrics,) = evaluate(run.variables, 'test')
  assert metrics == pytest.approx(result['metrics'])
  (again,) = evaluate(run.variables, 'validation')
  assert again['set_accuracy'] == pytest.approx(
    result['selected']['validation']
  )
  assert scalars(workdir, 'test/set_accuracy') == {
    40: pytest.approx(result['metrics']['set_accuracy'])
  }


def test_the_last_validation_is_in_the_last_checkpoint(tmp_path, monkeypatch):
  """Wherever the last step is evaluated and saved at once."""
  evaluate = class_numbering.ClassNumbering.evaluate
  calls = []

  def rising(self, variables, batch, key, **options):
    found = dict(evaluate(self, variables, batch, key, **options))
    # Compiled once: the value has to come from outside.
    value = jax.pure_callback(
      lambda: np.float32(len(calls)), jax.ShapeDtypeStruct((), np.float32)
    )
    found['set_accuracy'] = found['set_accuracy'] * 0 + value
    return found

  validate = group_lib.Group.validate

  def counted(self, step):
    calls.append(step)
    validate(self, step)

  monkeypatch.setattr(class_numbering.ClassNumbering, 'evaluate', rising)
  monkeypatch.setattr(group_lib.Group, 'validate', counted)
  config = numbering(steps=8, eval_every=4, checkpoint_every=8)
  result = loop.train_and_evaluate(config, str(tmp_path))
  assert calls == [4, 8]
  assert result['selected']['step'] == 8
  assert loading.load_run(str(tmp_path)).step == 8
  # Every validation is saved, for a crash after it must not lose the best.
  assert loading.load_run(str(tmp_path), 4).step == 4


def test_before_the_first_validation_the_last_parameters_count(
  tmp_path, monkeypatch
):
  workdir = str(tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(group_lib.Group, 'validate', lambda self, step: None)
    loop.train_and_evaluate(numbering(steps=2, log_every=1), workdir)
  run = loading.load_run(workdir)
  first = run.task.init(jax.random.fold_in(jax.random.key(0), 0))
  assert run.step == 2
  moved = jax.tree.map(lambda a, b: np.any(a != b), run.variables, first)
  assert all(jax.tree.leaves(moved))


def test_a_stopped_run_remembers_its_best(finished, tmp_path, monkeypatch):
  """Also when the best is older than every checkpoint that is left."""
  workdir, result = finished
  evaluate = class_numbering.ClassNumbering.evaluate

  def perfect(self, variables, batch, key, **options):
    found = dict(evaluate(self, variables, batch, key, **options))
    found['set_accuracy'] = found['set_accuracy'] * 0 + 1
    return found

  with monkeypatch.context() as patch:
    patch.setattr(class_numbering.ClassNumbering, 'evaluate', perfect)
    loop.train_and_evaluate(numbering(steps=4), str(tmp_path))
  first = loading.load_run(str(tmp_path))
  after = loop.train_and_evaluate(numbering(), str(tmp_path))
  assert after['selected']['step'] == 4
  assert after['selected']['validation'] == 1
  second = loading.load_run(str(tmp_path))
  chex.assert_trees_all_equal(second.variables, first.variables)
  # The training itself went on as if nothing had been.
  ours, theirs = (scalars(path, 'train/loss') for path in (tmp_path, workdir))
  assert ours == theirs


def test_a_run_stopped_at_its_last_step_is_validated_there(
  finished, tmp_path, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr(group_lib.Group, 'validate', lambda self, step: None)
    before = loop.train_and_evaluate(numbering(steps=6), str(tmp_path))
  assert before['selected']['step'] is None
  after = loop.train_and_evaluate(numbering(steps=6), str(tmp_path))
  assert after['selected']['step'] == 6
  assert 0 <= after['metrics']['set_accuracy'] <= 1
  # The checkpoint knows it, too.
  run = loading.load_run(str(tmp_path))
  assert run.step == 6
  with checkpoints.Checkpoints(str(tmp_path)) as saved:
    state = state_lib.init_state(run.task, run.config)
    step, restored = saved.restore_newest(state)
  best = restored.best
  assert step == 6
  assert float(best.value) == after['selected']['validation']


def test_a_finished_run_is_not_logged_twice(finished, tmp_path):
  workdir, result = finished
  copy = tmp_path / 'copy'
  shutil.copytree(workdir, copy)
  again = loop.train_and_evaluate(numbering(), str(copy))
  assert again['selected'] == result['selected']
  before, after = (
    (path / 'scalars.jsonl').read_text('utf-8') for path in (workdir, copy)
  )
  assert before == after


def test_is_resumed_bit_for_bit(finished, tmp_path):
  workdir, result = finished
  loop.train_and_evaluate(numbering(steps=20), str(tmp_path))
  second = loop.train_and_evaluate(numbering(), str(tmp_path))
  assert second['metrics'] == result['metrics']
  assert second['selected'] == result['selected']


def test_a_signal_does_not_skip_a_validation(finished, tmp_path, monkeypatch):
  """It arrives while the step is taken that is validated next.

  The validation comes when the run continues.
  """
  workdir, result = finished
  advance = group_lib.Group.advance

  def interrupting(self, step, batch):
    if step == 11:
      os.kill(os.getpid(), signal.SIGTERM)
    return advance(self, step, batch)

  with monkeypatch.context() as patch:
    patch.setattr(group_lib.Group, 'advance', interrupting)
    with pytest.raises(loop.Interrupted) as e:
      loop.train_and_evaluate(numbering(), str(tmp_path))
  assert e.value.step == 12
  assert list(scalars(tmp_path, 'eval/set_accuracy')) == [4, 8]
  second = loop.train_and_evaluate(numbering(), str(tmp_path))
  ours, whole = (
    scalars(path, 'eval/set_accuracy') for path in (tmp_path, workdir)
  )
  assert 12 in ours and list(ours.items()) == list(whole.items())
  assert second['selected'] == result['selected']
  assert second['metrics'] == result['metrics']


def test_two_seeds_select_for_themselves(finished, tmp_path):
  _, result = finished
  both = loop.train_seeds(
    [numbering(), numbering(seed=1)], [str(tmp_path / s) for s in 'ab']
  )
  assert both[0]['selected'] == result['selected']
  assert both[0]['metrics'] == pytest.approx(result['metrics'], rel=1e-3)
  assert both[1]['metrics'] != both[0]['metrics']


def test_other_classes_than_the_checkpoints(finished, tmp_path):
  workdir, _ = finished
  with pytest.raises(errors.UserError, match='data.num_classes: 2 -> 1'):
    loop.train_and_evaluate(
      numbering(**{'data.num_classes': 1, 'data.distinct_classes': 1}),
      str(workdir),
    )
  shutil.copytree(workdir, tmp_path / 'copy')
  path = tmp_path / 'copy' / 'config.json'
  config = json.loads(path.read_text('utf-8'))
  config['data'].update(num_classes=1, distinct_classes=1)
  path.write_text(json.dumps(config), 'utf-8')
  with pytest.raises(errors.UserError, match='of another model') as e:
    loading.load_run(str(tmp_path / 'copy'))
  assert 'float32 4 x 8' in str(e.value) and '3 x 8' in str(e.value)


class TestDivergence:
  def poison(self, monkeypatch, first_bad):
    loss = class_numbering.ClassNumbering.loss

    def marked(data, step, batch):
      rows = len(batch['classes'])
      bad = np.full(rows, float(step >= first_bad), np.float32)
      return {**batch, 'bad': bad}

    def poisoned(self, params, model_state, batch, key, *, iterations=None):
      value, output = loss(
        self, params, model_state, batch, key, iterations=iterations
      )
      return value / (1 - batch['bad'][0]), output

    fakes.change_batches(monkeypatch, marked, of=class_numbering.NumberingData)
    monkeypatch.setattr(class_numbering.ClassNumbering, 'loss', poisoned)

  def test_the_best_before_it_is_tested(self, tmp_path, monkeypatch):
    self.poison(monkeypatch, 10)
    result = loop.train_and_evaluate(numbering(), str(tmp_path))
    assert result['diverged'] and result['step'] == 11
    assert result['selected']['step'] in (4, 8)
    assert 0 <= result['metrics']['set_accuracy'] <= 1
    assert set(scalars(tmp_path, 'eval/set_accuracy')) == {4, 8}

  def test_is_seen_in_validation(self, tmp_path, monkeypatch):
    evaluate = class_numbering.ClassNumbering.evaluate

    def broken(self, variables, batch, key, **options):
      found = evaluate(self, variables, batch, key, **options)
      return {**found, 'loss': found['loss'] * jnp.nan}

    def simple(self, params, model_state, batch, key, *, iterations=None):
      value = sum(map(jnp.sum, jax.tree.leaves(params)))
      return value, task_lib.LossOutput(model_state, {})

    monkeypatch.setattr(class_numbering.ClassNumbering, 'evaluate', broken)
    monkeypatch.setattr(class_numbering.ClassNumbering, 'loss', simple)
    result = loop.train_and_evaluate(numbering(), str(tmp_path))
    assert result['diverged'] and result['step'] == 4
    assert result['metrics'] == {} and result['selected']['step'] is None

  def test_nothing_is_tested_if_nothing_was_validated(
    self, tmp_path, monkeypatch
  ):
    self.poison(monkeypatch, 1)
    result = loop.train_and_evaluate(numbering(log_every=10), str(tmp_path))
    assert result['diverged'] and result['step'] == 2
    assert result['metrics'] == {}
    assert result['selected'] == {
      'by': 'set_accuracy',
      'step': None,
      'validation': None,
    }
