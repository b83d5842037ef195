"""Cells: several seeds of one experiment, summaries and checks."""

import pytest

from configs import class_numbering as config_file
from idspn_jax import errors
from idspn_jax.studies import cells as cells_lib


class TestSummary:
  RESULTS = (
    {'diverged': False, 'metrics': {'a': 0.5}},
    {'diverged': True, 'metrics': {}},
    {'diverged': True, 'metrics': {'a': 1.0}},
  )

  def test_diverged_seeds_count(self):
    found = cells_lib.summarize(self.RESULTS, 'a', lost=0.0)
    assert found['mean'] == 0.5 and found['std'] == 0.5
    assert found['seeds'] == 3 and found['diverged'] == 2
    assert found['values'] == [0.5, 0.0, 1.0]

  def test_or_are_shown_as_missing(self):
    found = cells_lib.summarize(self.RESULTS, 'a')
    assert found['mean'] == 0.75 and found['values'] == [0.5, None, 1.0]
    assert found['seeds'] == 3 and found['diverged'] == 2

  def test_nan_is_lost_too(self):
    results = [
      {'diverged': True, 'metrics': {'a': value}}
      for value in (float('nan'), None)
    ]
    assert cells_lib.summarize(results, 'a', 0.0)['values'] == [0.0, 0.0]
    assert cells_lib.summarize(results, 'a')['values'] == [None, None]

  def test_one_seed_has_no_standard_deviation(self):
    found = cells_lib.summarize(self.RESULTS[:1], 'a')
    assert found['mean'] == 0.5 and found['std'] is None
    assert cells_lib.summarize(self.RESULTS[1:2], 'a')['mean'] is None


class TestRunsThatAreThere:
  """What cannot be continued is told of before anything is trained."""

  def config_of(self, seed, **changes):
    config = config_file.get_config(
      f'setting=reduced,model=deep_sets,seed={seed}'
    )
    config.update(changes)
    return config

  def check(self, directory, **changes):
    cells_lib.check(
      lambda seed: self.config_of(seed, **changes), (0, 1), str(directory)
    )

  def started(self, directory, seed):
    """An interrupted run: a config, a checkpoint, no result."""
    workdir = directory / f'seed{seed}'
    (workdir / 'checkpoints' / '7').mkdir(parents=True)
    (workdir / 'checkpoints' / '7' / '_CHECKPOINT_METADATA').write_text('{}')
    config = self.config_of(seed).to_json()
    (workdir / 'config.json').write_text(config)

  def test_nothing(self, tmp_path):
    self.check(tmp_path)
    assert not list(tmp_path.iterdir())

  @pytest.mark.parametrize(
    'changes, message',
    [
      ({'learning_rate': 0.5}, 'seed1 .*learning_rate: 0.003 -> 0.5'),
      ({'steps': 6}, 'seed1 has a checkpoint of step 7, beyond .*steps=6'),
    ],
  )
  def test_of_any_seed(self, changes, message, tmp_path):
    self.started(tmp_path, 1)
    self.check(tmp_path)
    with pytest.raises(errors.UserError, match=message):
      self.check(tmp_path, **changes)

  def test_broken_files(self, tmp_path):
    self.started(tmp_path, 1)
    (tmp_path / 'seed1' / 'result.json').write_text('{"step": ')
    with pytest.raises(
      errors.UserError, match='result.json is damaged.*remove it'
    ):
      self.check(tmp_path)
