"""Runs of earlier versions, in `old/`: they evaluate and continue as before.

Each holds `evaluated.json`, the table that the code of its time made of it.
All were trained on sets of at most 4 elements, with networks of width 8.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest

from configs import class_numbering
from configs import own_sets
from configs import random_multisets
from idspn_jax.data import set_files
from idspn_jax.runs import loading
from idspn_jax.studies import evaluations
from idspn_jax.training import loop

OLD = pathlib.Path(__file__).parent / 'old'
TINY = {
  'model.hidden_dim': 8,
  'model.latent_dim': 8,
  'batch_size': 8,
  'eval_batch_size': 8,
  'log_every': 2,
  'eval_every': 4,
  'checkpoint_every': 4,
}
# Two of the eight test sets of each own-sets run are empty. They counted in
# the mean distance, as 0.
NOT_EMPTY = 6 / 8


def read(name):
  return json.loads((OLD / name).read_text('utf-8'))


def config_of(config, **values):
  """Today's config for the run that an old command line made."""
  config.unlock()
  config.update_from_flattened_dict({**TINY, **values})
  return config.lock()


@pytest.fixture
def copied(tmp_path, monkeypatch):
  """Copies a run to where the tests may write; goes there."""
  monkeypatch.chdir(tmp_path)
  shutil.copy(OLD / 'sets.npz', tmp_path)

  def copy(name):
    return pathlib.Path(shutil.copytree(OLD / name, tmp_path / 'run'))

  return copy


class TestEvaluation:
  @pytest.mark.parametrize('name', ['multisets', 'numbering'])
  def test_gives_the_same_numbers(self, name):
    before = read(f'{name}/evaluated.json')
    run = loading.load_run(str(OLD / name))
    table = evaluations.evaluate_at(run, (3, 6))
    assert table['step'] == before['step']
    for now, then in zip(table['rows'], before['rows'], strict=True):
      assert now == pytest.approx({**then, 'restarts': 1}, rel=2e-6)

  @pytest.mark.parametrize('name', ['own_seed3', 'own_seed4'])
  def test_of_own_sets_leaves_out_empty_sets_now(self, name):
    before = read(f'{name}/evaluated.json')
    run = loading.load_run(str(OLD / name), data_path=str(OLD / 'sets.npz'))
    assert run.other_file is None
    (row,) = evaluations.evaluate_at(run, (3,))['rows']
    then = {**before['rows'][0], 'restarts': 1}
    then['distance'] /= NOT_EMPTY
    assert row == pytest.approx(then, rel=2e-6)


class TestContinuing:
  def test_multisets(self, copied):
    config = config_of(
      random_multisets.get_config('n=2,d=2,T=3,seed=3'),
      **{'data.num_train': 16, 'data.num_test': 8, 'steps': 12},
    )
    result = loop.train_and_evaluate(config, str(copied('multisets')))
    then = read('multisets/continued.json')
    assert result['step'] == 12
    assert result['metrics'] == pytest.approx(then['metrics'], rel=1e-5)

  def test_numbering_within_its_cooldown(self, copied, caplog):
    config = config_of(
      class_numbering.get_config(
        'setting=reduced,model=idspn,n=4,T=3,samples=16,classes=2,seed=3'
      ),
      **{'data.num_validation': 8, 'data.num_test': 16, 'steps': 8},
    )
    workdir = copied('numbering')
    shutil.rmtree(workdir / 'checkpoints' / '8')
    with caplog.at_level('INFO'):
      result = loop.train_and_evaluate(config, str(workdir))
    # Settings that differ from today's are told.
    assert '--config.random_streams=1' in caplog.text
    assert '--config.optimizer.warmup_steps=0' in caplog.text
    assert '--config.model.projection=simplex' in caplog.text
    then = read('numbering/result.json')
    assert result['selected'] == pytest.approx(then['selected'])
    assert result['metrics'] == pytest.approx(then['metrics'], rel=1e-5)
    # Which streams were drawn from is kept with the run.
    assert result['config']['random_streams'] == 1

  def test_own_sets_keep_the_split_of_their_seed(self, copied):
    workdir = copied('own_seed3')
    for steps in (12, 16):  # Twice, for then the run has a record.
      config = config_of(
        own_sets.get_config('T=3,seed=3'),
        **{'data.path': 'sets.npz', 'steps': steps},
      )
      assert config.data.split_seed == 0
      result = loop.train_and_evaluate(config, str(workdir))
      assert result['step'] == steps
      assert result['config']['data']['split_seed'] == 3
    record = json.loads((workdir / 'data.json').read_text('utf-8'))
    _, test = set_files.split(40, 0.2, 3)
    np.testing.assert_array_equal(record['test_sets'], test)
