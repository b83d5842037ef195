"""Whole runs: what they leave behind, resuming, stopping, refusing."""

import json
import os
import shutil
import signal

import chex
import jax
import numpy as np
import pytest

import idspn_jax
from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import loading
from idspn_jax.runs import scalars
from idspn_jax.studies import evaluations
from idspn_jax.tasks import registry
from idspn_jax.training import loop
from idspn_jax.training import state as state_lib
from tests.training import fakes


def run(config, workdir):
  return loop.train_and_evaluate(config, str(workdir))


def stored_steps(workdir):
  path = os.path.join(workdir, 'checkpoints')
  return sorted(int(name) for name in os.listdir(path) if name.isdigit())


def logged(workdir):
  text = (workdir / 'scalars.jsonl').read_text('utf-8')
  return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope='module')
def finished(small, tmp_path_factory):
  """A run of 20 steps and what it returned."""
  workdir = tmp_path_factory.mktemp('finished')
  return workdir, run(small(steps=20), workdir)


class TestFinishedRun:
  def test_result(self, finished, small, read_json):
    workdir, result = finished
    stored = read_json(workdir / 'result.json')
    assert stored == json.loads(json.dumps(result))
    assert stored['task'] == 'random_multisets'
    assert stored['step'] == 20 and stored['diverged'] is False
    assert set(stored['metrics']) == {'loss'}
    assert stored['metrics']['loss'] > 0
    assert stored['seconds_per_step'] > 0 and stored['peak_bytes'] > 0
    assert stored['config'] == json.loads(small(steps=20).to_json())
    assert stored['versions']['jax'] == jax.__version__
    assert stored['device']['platform'] == jax.devices()[0].platform
    assert len(stored['date']) == len('2022-04-25')

  def test_parameters_are_counted(self, finished):
    _, result = finished
    encoder = (2 * 16 + 16) + (16 * 16 + 16) + 2 * 16
    assert result['parameters'] == 2 * encoder + 2 * 2

  def test_files(self, finished, small, read_json):
    workdir, _ = finished
    assert {path.name for path in workdir.iterdir()} == {
      'checkpoints',
      'config.json',
      'environment.json',
      'lock',
      'result.json',
      'scalars.jsonl',
      'tensorboard',
    }
    config = read_json(workdir / 'config.json')
    assert config == json.loads(small(steps=20).to_json())
    environment = read_json(workdir / 'environment.json')
    assert set(environment) == {'device', 'versions', 'date'}
    if 'idspn-jax' in environment['versions']:
      installed = environment['versions']['idspn-jax']
      assert installed == idspn_jax.__version__
    assert any((workdir / 'tensorboard').iterdir())

  def test_scalars(self, finished):
    workdir, result = finished
    rows = logged(workdir)
    train = [row['step'] for row in rows if 'train/loss' in row]
    held_out = [row for row in rows if 'eval/loss' in row]
    assert train == list(range(2, 21, 2))
    assert [row['step'] for row in held_out] == [4, 8, 12, 16, 20]
    assert held_out[-1]['eval/loss'] == result['metrics']['loss']
    for row in rows:
      if 'train/loss' in row:
        assert row['train/gradient_norm'] > 0
        assert row['train/steps_per_second'] > 0

  def test_only_the_latest_checkpoints_are_kept(self, finished):
    assert stored_steps(finished[0]) == [16, 20]

  def test_running_it_again_takes_no_step(self, finished, small):
    workdir, result = finished
    before = logged(workdir)
    again = run(small(steps=20), workdir)
    assert again['metrics'] == result['metrics'] and again['step'] == 20
    steps = [row['step'] for row in logged(workdir) if 'train/loss' in row]
    assert steps == [row['step'] for row in before if 'train/loss' in row]

  def test_is_resumed_bit_for_bit(self, finished, small, tmp_path):
    workdir, result = finished
    run(small(steps=10), tmp_path)
    with open(tmp_path / 'scalars.jsonl', 'a', encoding='utf-8') as f:
      f.write('{"step": 12, "train/loss": 0.0}\n')  # From beyond: dropped.
      f.write('{"step": 14, "train/lo')  # Half a line: dropped.
    second = run(small(steps=20), tmp_path)
    assert second['metrics'] == result['metrics']
    chex.assert_trees_all_equal(
      loading.load_run(str(workdir)).variables,
      loading.load_run(str(tmp_path)).variables,
    )

    def trained(path):
      return [
        (row['step'], row['train/loss'], row['train/gradient_norm'])
        for row in logged(path)
        if 'train/loss' in row
      ]

    assert trained(tmp_path) == trained(workdir)

  def test_scalars_are_read_by_name(self, finished):
    steps, values = scalars.read_scalars(str(finished[0]), 'train/loss')
    assert steps == list(range(2, 21, 2)) and np.isfinite(values).all()
    assert scalars.read_scalars(str(finished[0]), 'absent') == ([], [])

  def test_an_older_checkpoint_can_be_evaluated(self, finished):
    run = loading.load_run(str(finished[0]), 16)
    table = evaluations.evaluate_at(run, [1, 3])
    assert table['step'] == 16 and table['trained_with_iterations'] == 3
    rows = [row for row in logged(finished[0]) if row['step'] == 16]
    (expected,) = (row['eval/loss'] for row in rows if 'eval/loss' in row)
    assert [row['iterations'] for row in table['rows']] == [1, 3]
    assert table['rows'][1]['loss'] == expected
    assert '3*' in evaluations.format_table(table).splitlines()[2]

  def test_a_run_from_before_a_setting_existed(self, finished, small, tmp_path):
    workdir, result = finished
    copy = tmp_path / 'copy'
    shutil.copytree(workdir, copy)
    config = json.loads((copy / 'config.json').read_text('utf-8'))
    del config['cooldown']
    (copy / 'config.json').write_text(json.dumps(config), 'utf-8')
    assert loading.load_run(str(copy)).config.cooldown == 0.0
    assert run(small(steps=20), copy)['metrics'] == result['metrics']


class TestRefusals:
  def refused(self, config, workdir):
    with pytest.raises(errors.UserError) as e:
      run(config, workdir)
    assert '\n' not in str(e.value)
    return str(e.value)

  def test_other_settings_in_the_same_directory(self, finished, small):
    message = self.refused(
      small(steps=20, model__iterations=4, seed=1), finished[0]
    )
    assert 'model.iterations: 3 -> 4' in message
    assert 'seed: 0 -> 1' in message

  def test_some_settings_may_change(self, finished, small):
    run(
      small(steps=20, log_every=5, eval_every=3, keep_checkpoints=3),
      finished[0],
    )

  def test_fewer_steps_than_the_checkpoint(self, finished, small):
    message = self.refused(small(steps=12), finished[0])
    assert 'step 20' in message and 'config.steps=12' in message

  def test_a_checkpoint_of_other_shapes(self, finished, small):
    config = small(model__hidden_dim=8)
    like = state_lib.init_state(registry.build(config).task, config)
    with checkpoints.Checkpoints(str(finished[0])) as saved:
      with pytest.raises(errors.UserError) as e:
        saved.restore_newest(like)
    message = str(e.value)
    assert 'another model' in message and 'hidden/bias' in message
    assert '16' in message and '8' in message and '\n' not in message

  def test_a_checkpoint_of_another_structure(self, finished, small):
    config = small(model__pool='sum')
    like = state_lib.init_state(registry.build(config).task, config)
    with checkpoints.Checkpoints(str(finished[0])) as saved:
      with pytest.raises(errors.UserError, match='missing in this model'):
        saved.restore_newest(like)

  def test_no_directory(self, small):
    assert '--workdir' in self.refused(small(), '')

  def test_the_directory_is_a_file(self, small, tmp_path):
    (tmp_path / 'file').write_text('')
    assert 'file' in self.refused(small(), tmp_path / 'file')

  def test_impossible_settings(self, small, tmp_path):
    assert 'config.steps' in self.refused(small(steps=0), tmp_path)

  def test_loading_what_is_not_there(self, finished, tmp_path):
    with pytest.raises(errors.UserError, match='holds no run'):
      loading.load_run(str(tmp_path))
    with pytest.raises(errors.UserError, match='step 7; it has 16, 20'):
      loading.load_run(str(finished[0]), 7)
    with pytest.raises(errors.UserError, match='reads no data file'):
      loading.load_run(str(finished[0]), None, 'sets.npz')


class TestDivergence:
  def test_is_reported(self, small, tmp_path, monkeypatch, read_json):
    streams = fakes.poison(monkeypatch, first_bad=5)
    result = run(small(steps=50), tmp_path)
    assert result['diverged'] is True and result['step'] == 6
    assert result['metrics'] == {}
    assert read_json(tmp_path / 'result.json')['diverged'] is True
    last = logged(tmp_path)[-1]
    assert last['step'] == 6 and last['train/loss'] is None
    assert max(stored_steps(tmp_path)) == 4  # The last good one.
    assert streams.opened == streams.closed == 2  # Again for the reproduction.

  def test_a_huge_learning_rate_does_not_crash(self, small, tmp_path):
    result = run(
      small('idspn', learning_rate=1e18, steps=30, log_every=1), tmp_path
    )
    assert result['diverged'] is True and result['step'] < 30


class TestStopping:
  @pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
  def test_a_signal_saves_and_stops(self, number, small, tmp_path, monkeypatch):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
      # Drawn while the step before it is taken.
      streams = fakes.interrupt(patch, number, at=4)
      with pytest.raises(loop.Interrupted) as e:
        run(small(), tmp_path)
    assert streams.opened == streams.closed == 1
    assert e.value.exit_code == 128 + number and e.value.step == 3
    assert signal.getsignal(number) is before
    assert stored_steps(tmp_path) == [3]
    assert not (tmp_path / 'result.json').exists()
    assert run(small(), tmp_path)['step'] == 6
