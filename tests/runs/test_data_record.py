"""What a run stores of its data file, and what follows when that changes."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest

from configs import own_sets
from idspn_jax import errors
from idspn_jax.data import set_files
from idspn_jax.runs import directory
from idspn_jax.runs import loading
from idspn_jax.studies import evaluations
from idspn_jax.tasks import registry
from idspn_jax.training import loop

OLD = pathlib.Path(__file__).parent / 'old'
SCENES = pathlib.Path(__file__).parents[1] / 'data/clevr_scenes_small.json'
COUNT = 40


def write(path, seed=0, rows=5, count=COUNT, features=2, largest=5, scale=10.0):
  rng = np.random.default_rng(seed)
  sizes = rng.integers(1, largest + 1, count)
  sets = 100 + scale * rng.normal(size=(count, rows, features))
  np.savez(path, sets=sets, sizes=sizes)
  return str(path)


def config_of(path, **values):
  config = own_sets.get_config('T=2')
  config.update_from_flattened_dict(
    {
      'data.path': path,
      'model.hidden_dim': 4,
      'model.latent_dim': 4,
      'batch_size': 8,
      'steps': 4,
      'log_every': 2,
      **values,
    }
  )
  return config


def indices(experiment, seed, split):
  """Which sets of the file a split holds, by the value of an element."""
  return experiment.data(seed).splits[split]['input'][:, 0, 0].tolist()


@pytest.fixture
def path(tmp_path):
  """A file of 40 sets."""
  return write(tmp_path / 'sets.npz')


class TestRecord:
  def test_identifies_file_split_and_statistics(self, path):
    record = registry.build(config_of(path)).record
    assert json.loads(json.dumps(record)) == record
    stored = set_files.load_set_file(path)
    train, test = set_files.split(COUNT, 0.2, 0)
    assert record['digest'] == set_files.digest(stored.sets, stored.sizes)
    assert record['test_sets'] == test.tolist()
    elements = np.concatenate(
      [stored.sets[i, : stored.sizes[i]] for i in train]
    )
    np.testing.assert_allclose(record['mean'], elements.mean(0), rtol=1e-12)
    np.testing.assert_allclose(record['std'], elements.std(0), rtol=1e-12)

  def test_a_changed_file_is_refused(self, path):
    config = config_of(path)
    record = registry.build(config).record
    write(path, count=COUNT + 2)
    with pytest.raises(errors.UserError) as e:
      registry.build(config, record)
    for part in (path, 'changed', '42 sets, of 40', '--data=', '--workdir'):
      assert part in str(e.value)
    # Sets of the same number and sizes, with one other value.
    stored = dict(np.load(write(path)))
    stored['sets'][3, 0, 0] += 1e-9
    np.savez(path, **stored)
    with pytest.raises(errors.UserError, match='changed'):
      registry.build(config, record)

  def test_the_same_sets_in_another_form_are_the_run_s(self, path, tmp_path):
    config = config_of(path)
    before = registry.build(config)
    stored = dict(np.load(path))
    # Padding may hold anything.
    stored['sets'][np.arange(5) >= stored['sizes'][:, None]] = np.nan
    np.savez_compressed(tmp_path / 'moved.npz', **stored)
    moved = registry.build(config, before.record, str(tmp_path / 'moved.npz'))
    assert moved.other_file is None
    assert indices(moved, 0, 'test') == indices(before, 0, 'test')
    assert indices(moved, 0, 'train') == indices(before, 0, 'train')

  def test_split_and_statistics_are_the_stored_ones(self, path):
    config = config_of(path)
    record = registry.build(config).record
    # As another version of NumPy might have drawn them.
    record['test_sets'] = [1, 2, 3]
    record['mean'], record['std'] = [0.0, 0.0], [1.0, 2.0]
    built = registry.build(config, record)
    test = built.data(0).splits['test']['input']
    stored = set_files.load_set_file(path).sets
    np.testing.assert_allclose(test[:, 0, 0], stored[1:4, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(test[:, 0, 1], stored[1:4, 0, 1] / 2, rtol=1e-6)
    assert len(built.data(0).splits['train']['input']) == COUNT - 3

  @pytest.mark.parametrize(
    'change',
    [
      {'digest': None},
      {'shape': [1]},
      {'mean': 'x'},
      {'std': [0.0, 1.0]},
      {'test_sets': [99]},
      {'kind': 'csv'},
      {'test_sets': [[1]]},
    ],
  )
  def test_a_damaged_record(self, change, path):
    config = config_of(path)
    record = {**registry.build(config).record, **change}
    with pytest.raises(errors.UserError, match='data.json is damaged; restore'):
      registry.build(config, record)
    with pytest.raises(errors.UserError, match='data.json is damaged; restore'):
      registry.build(config, {'digest': 'abc'})


class TestSeeds:
  def test_share_split_and_statistics(self, path):
    built = registry.build(config_of(path))
    a, b = built.data(0), built.data(1)
    for split in ('train', 'test'):
      assert indices(built, 0, split) == indices(built, 1, split)
      np.testing.assert_array_equal(
        a.splits[split]['scale'], b.splits[split]['scale']
      )
    with a.train(0) as first, b.train(0) as second:
      assert np.any(next(first)['input'] != next(second)['input'])

  def test_another_split_seed_divides_otherwise(self, path):
    first, second = (
      registry.build(config_of(path, **{'data.split_seed': seed})).record
      for seed in (0, 1)
    )
    assert sorted(first['test_sets']) != sorted(second['test_sets'])
    assert first['mean'] != second['mean']
    assert first['digest'] == second['digest']


class TestOtherFiles:
  @pytest.mark.parametrize('rows', [3, 5, 9])
  def test_are_taken_whole_with_the_run_s_statistics(
    self, rows, path, tmp_path
  ):
    config = config_of(path)
    record = registry.build(config).record
    other = write(
      tmp_path / 'o.npz', 1, rows=rows, count=7, largest=3, scale=99.0
    )
    built = registry.build(config, record, other)
    assert built.other_file == other and built.record is None
    test = built.data(0).splits['test']
    assert test['input'].shape == (7, 5, 3)
    stored = set_files.load_set_file(other)
    mean, std = np.asarray(record['mean']), np.asarray(record['std'])
    np.testing.assert_allclose(
      test['input'][:, 0, :2], (stored.sets[:, 0] - mean) / std, rtol=1e-5
    )
    np.testing.assert_allclose(test['scale'][0], std, rtol=1e-6)

  @pytest.mark.parametrize(
    'values, culprit',
    [
      ({'features': 3}, 'npz with 3 features.* npz with 2'),
      ({'rows': 9, 'largest': 9}, 'a set of 9 elements.* at most 5'),
    ],
  )
  def test_that_do_not_fit(self, values, culprit, path, tmp_path):
    config = config_of(path)
    record = registry.build(config).record
    other = write(tmp_path / 'o.npz', **values)
    with pytest.raises(errors.UserError, match=culprit):
      registry.build(config, record, other)

  def test_of_another_kind(self, path):
    config = config_of(path)
    record = registry.build(config).record
    with pytest.raises(errors.UserError, match='kind clevr with 19 features'):
      registry.build(config, record, str(SCENES))


class TestMissingFile:
  def test_is_found_where_it_was(self, path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = config_of('sets.npz')
    record = registry.build(config).record
    monkeypatch.chdir('/')
    assert registry.build(config, record).record == record

  def test_predictions_need_none(self, path, tmp_path):
    config = config_of(path)
    record = registry.build(config).record
    inputs = write(tmp_path / 'inputs.npz', 3, rows=4, largest=4)
    os.remove(path)
    data = registry.build(config, record).data(0)
    assert data.read_inputs(inputs)['input'].shape == (COUNT, 5, 3)
    for refused in (
      lambda: data.train(0),
      lambda: data.evaluate(),
      lambda: data.examples(3),
    ):
      with pytest.raises(errors.UserError, match='no such file.*--data=FILE'):
        refused()

  def test_of_a_new_run(self):
    with pytest.raises(errors.UserError, match='no such file; check --config'):
      registry.build(config_of('/nonexistent/sets.npz'))


class TestOldRuns:
  """Runs from before records were stored."""

  def test_take_the_file_at_their_path(self, path):
    assert registry.build(config_of(path), None).other_file is None

  def test_know_their_moved_file_by_sizes(self, path, tmp_path):
    config = config_of(path)
    moved = str(shutil.copy(path, tmp_path / 'moved.npz'))
    built = registry.build(config, None, moved)
    assert built.other_file is None
    other = write(tmp_path / 'o.npz', 1)
    built = registry.build(config, None, other)
    assert built.other_file == other
    assert len(built.data(0).splits['test']['input']) == COUNT

  def test_take_a_given_file_if_theirs_is_gone_and_say_so(
    self, path, tmp_path, caplog
  ):
    config = config_of(path)
    moved = str(shutil.move(path, tmp_path / 'moved.npz'))
    assert registry.build(config, None, moved).other_file is None
    assert 'no record of its data' in caplog.text
    with pytest.raises(errors.UserError, match='not of the kind'):
      registry.build(config, None, str(SCENES))

  def test_name_a_file_that_does_not_fit_the_model(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = write(tmp_path / 'o.npz', rows=9)
    with pytest.raises(errors.UserError, match='o.npz does not fit the run'):
      loading.load_run(str(OLD / 'own_seed3'), data_path=other)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A run and its file."""
  folder = tmp_path_factory.mktemp('trained')
  path = write(folder / 'sets.npz')
  loop.train_and_evaluate(config_of(path), str(folder / 'run'))
  return folder


class TestRuns:
  def test_on_another_file_have_a_table_of_their_own(self, trained, tmp_path):
    other = write(tmp_path / 'other.npz', 1, count=6)
    run = loading.load_run(str(trained / 'run'), data_path=other)
    table = evaluations.evaluate_at(run, (2,))
    assert table['other_file'] == other
    assert f'All sets of {other}' in evaluations.format_table(table)
    place = evaluations.default_output(run)
    assert place == str(trained / 'run' / 'evaluation_other')
    evaluations.save(run, table, place, figures=False)
    assert evaluations.default_output(run) == place
    (tmp_path / 'b').mkdir()
    second = write(tmp_path / 'b' / 'other.npz', 2)
    run = loading.load_run(str(trained / 'run'), data_path=second)
    with pytest.raises(errors.UserError, match='other.npz; .*--output='):
      evaluations.default_output(run)

  def test_are_refused_on_a_changed_file(self, trained, tmp_path):
    folder = pathlib.Path(shutil.copytree(trained, tmp_path / 'copy'))
    config = directory.read_config(str(folder / 'run'))
    config.data.path = str(folder / 'sets.npz')
    config.steps = 6
    write(folder / 'sets.npz', 1)
    with pytest.raises(errors.UserError, match='changed since the run'):
      loop.train_and_evaluate(config, str(folder / 'run'))
    # The file may move.
    write(folder / 'sets.npz')
    assert loop.train_and_evaluate(config, str(folder / 'run'))['step'] == 6
    stored = directory.read_config(str(folder / 'run'))
    assert stored.data.path == config.data.path
