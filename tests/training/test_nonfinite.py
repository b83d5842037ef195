"""Losses that are not finite: where it stops, what is kept, what is skipped."""

import json

import chex
import numpy as np
import pytest

from experiments import replay
from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.training import loop
from idspn_jax.training import reproduction
from tests.training import fakes
from tests.training import toy


def train(config, workdir, task=toy.build):
  return loop.train_and_evaluate(config, str(workdir), task=task)


def change(monkeypatch, at, rows, seeds=(0,)):
  """Makes some rows of one step's batch NaN."""

  def changed(data, step, batch):
    if step != at or data.seed not in seeds:
      return batch
    x = np.array(batch['x'])
    x[rows, 1] = np.nan
    return {**batch, 'x': x}

  fakes.change_batches(monkeypatch, changed)


def rows(workdir, name):
  lines = (workdir / 'scalars.jsonl').read_text('utf-8').splitlines()
  found = map(json.loads, lines)
  return {row['step']: row[name] for row in found if name in row}


class TestStopping:
  def test_at_the_step_though_found_later(self, tmp_path, monkeypatch):
    """Found at step 8; the batches after the bad one are good again."""
    change(monkeypatch, 4, [2, 5])
    config = toy.get_config(
      steps=16, log_every=8, eval_every=16, checkpoint_every=3
    )
    config.checkpoint_every = 16
    result = train(config, tmp_path)
    assert result['diverged'] and result['step'] == 5 and result['batch'] == 4
    assert rows(tmp_path, 'train/loss') == {5: None}
    found = reproduction.replay(f'{tmp_path}/reproduction', toy.build)
    assert found.batch == 4 and not found.finite
    assert found.parameters == []
    (inputs,) = found.inputs
    assert (inputs.name, inputs.count, inputs.rows) == ('x', 2, [2, 5])
    assert found.rows == [2, 5]
    assert {c.name for c in found.gradients} >= {'Dense_0/kernel'}

  def test_keeps_the_state_before_the_step(self, tmp_path, monkeypatch):
    whole = toy.get_config(steps=4)
    train(whole, tmp_path / 'whole')
    change(monkeypatch, 4, [0])
    config = toy.get_config(steps=12, log_every=6)
    config.checkpoint_every = config.eval_every = 12
    result = train(config, tmp_path / 'bad')
    assert result['reproduction'] == 'reproduction'
    stored = np.load(
      tmp_path / 'bad' / 'reproduction' / 'state.npz', allow_pickle=False
    )
    before = checkpoints.read(str(tmp_path / 'whole'), 4)
    kernel = before['params']['Dense_0']['kernel']
    np.testing.assert_array_equal(stored['params/Dense_0/kernel'], kernel)
    assert stored['step'] == 4 and stored['skipped_at'] == 4

  def test_of_one_seed_leaves_the_other_alone(self, tmp_path, monkeypatch):
    one = toy.get_config(seed=1)
    train(one, tmp_path / 'alone')
    change(monkeypatch, 2, [0], seeds=(0,))
    configs = [toy.get_config(seed=seed) for seed in (0, 1)]
    places = [str(tmp_path / str(seed)) for seed in (0, 1)]
    bad, good = loop.train_seeds(configs, places, task=toy.build)
    assert bad['diverged'] and bad['batch'] == 2
    assert not good['diverged'] and 'batch' not in good
    found = reproduction.replay(f'{places[0]}/reproduction', toy.build)
    assert found.rows == [0]
    chex.assert_trees_all_close(
      checkpoints.read(places[1], 6)['params'],
      checkpoints.read(str(tmp_path / 'alone'), 6)['params'],
      rtol=1e-4,
    )

  def test_in_an_evaluation_names_its_batch(
    self, tmp_path, monkeypatch, caplog
  ):
    evaluate = toy.ToyData.evaluate

    def changed(data, split):
      for i, batch in enumerate(evaluate(data, split)):
        bad = data.seed == 1 and split == 'test' and i == 1
        yield {**batch, 'y': batch['y'] * float('nan')} if bad else batch

    monkeypatch.setattr(toy.ToyData, 'evaluate', changed)
    configs = [toy.get_config(seed=seed) for seed in (0, 1)]
    places = [str(tmp_path / str(seed)) for seed in (0, 1)]
    good, bad = loop.train_seeds(configs, places, task=toy.build)
    assert not good['diverged'] and 'evaluation_batch' not in good
    assert bad['diverged'] and bad['step'] == 3
    assert bad['evaluation_batch'] == 1 and 'batch' not in bad
    assert 'step 3 in batch 1 of the evaluation' in caplog.text

  def test_parameters_are_named(self, tmp_path):
    config = toy.get_config(
      learning_rate=1e30, log_every=6, optimizer__name='sgd'
    )
    result = train(config, tmp_path)
    found = reproduction.replay(f'{tmp_path}/reproduction', toy.build)
    assert result['diverged'] and not found.finite
    assert found.rows == list(range(8))
    assert found.inputs == []


class TestSkipping:
  def test_goes_on_and_counts(self, tmp_path, monkeypatch):
    config = toy.get_config(on_nonfinite='skip', log_every=1, steps=9)
    change(monkeypatch, 4, [2])
    result = train(config, tmp_path)
    assert not result['diverged'] and result['skipped_steps'] == 1
    assert np.isfinite(result['metrics']['loss'])
    losses = rows(tmp_path, 'train/loss')
    assert [step for step, loss in losses.items() if loss is None] == [5]
    counts = rows(tmp_path, 'train/skipped_steps')
    assert [counts[step] for step in (4, 5, 9)] == [0, 1, 1]
    assert not (tmp_path / 'reproduction').exists()

  def test_leaves_the_update_out(self, tmp_path, monkeypatch):
    """The optimiser does not see the step, the data and the step do."""
    config = toy.get_config(on_nonfinite='skip', steps=3)
    change(monkeypatch, 2, [0])
    train(config, tmp_path / 'skipped')
    train(toy.get_config(steps=2), tmp_path / 'before')
    skipped = checkpoints.read(str(tmp_path / 'skipped'), 3)
    before = checkpoints.read(str(tmp_path / 'before'), 2)
    assert skipped['step'] == 3 and before['step'] == 2
    for part in ('params', 'opt_state', 'model_state'):
      chex.assert_trees_all_equal(skipped[part], before[part])

  def test_a_stopped_run_may_go_on_skipping(self, tmp_path, monkeypatch):
    change(monkeypatch, 4, [2])
    assert train(toy.get_config(), tmp_path)['diverged']
    assert (tmp_path / 'reproduction').is_dir()
    result = train(toy.get_config(on_nonfinite='skip'), tmp_path)
    assert not (tmp_path / 'reproduction').exists()
    assert not result['diverged'] and result['skipped_steps'] == 1
    # And back: what was skipped is no reason to stop.
    result = train(toy.get_config(steps=8), tmp_path)
    assert not result['diverged'] and result['step'] == 8


class TestReplaying:
  @pytest.fixture
  def folder(self, tmp_path, monkeypatch):
    change(monkeypatch, 1, [3])
    return tmp_path / 'run' / 'reproduction', train(
      toy.get_config(), tmp_path / 'run'
    )

  @pytest.mark.parametrize('name', ['state.npz', 'batch.npz', 'about.json'])
  def test_of_a_damaged_folder(self, name, folder):
    path = folder[0] / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(errors.UserError, match=name):
      reproduction.replay(str(folder[0]), toy.build)

  def test_of_another_folder(self, tmp_path):
    with pytest.raises(errors.UserError, match='holds no reproduction'):
      reproduction.replay(str(tmp_path))

  def test_loads_no_pickle(self, folder):
    class Planted:
      def __reduce__(self):
        return pytest.fail, ('A pickle was loaded.',)

    arrays = {'x': np.array([Planted()], object)}
    np.savez(folder[0] / 'batch.npz', **arrays)
    with pytest.raises(errors.UserError, match='batch.npz'):
      reproduction.replay(str(folder[0]), toy.build)

  def test_in_other_precision(self, folder, x64):
    with pytest.raises(errors.UserError, match='JAX_ENABLE_X64=0'):
      reproduction.replay(str(folder[0]), toy.build)

  def test_by_the_command(self, small, tmp_path, capsys):
    config = small('idspn', learning_rate=1e18, steps=30, log_every=10)
    result = loop.train_and_evaluate(config, str(tmp_path))
    assert result['diverged'] and result['batch'] == result['step'] - 1
    assert replay.main(['replay', str(tmp_path / 'reproduction')]) == 0
    told = capsys.readouterr().out
    assert replay.main(['replay', str(tmp_path)]) == 0
    assert capsys.readouterr().out == told
    assert f'Batch {result["batch"]}, counted from 0' in told
    assert 'Gradients that are not finite:\n  ' in told
    assert 'Rows whose loss alone is not finite: 0, 1, 2' in told
    with pytest.raises(errors.UserError, match='Give one folder'):
      replay.main(['replay'])
    with pytest.raises(errors.UserError, match='holds no reproduction'):
      replay.main(['replay', str(tmp_path / 'checkpoints')])
