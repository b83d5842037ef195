"""CLEVR through TFDS: prepared from folder and zip, read, refused."""

import json
import pathlib
import pickle
import shutil

import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.data import clevr_tfds
from idspn_jax.data import clevr_tree


def refused(culprits, call, *arguments):
  with pytest.raises(errors.UserError) as e:
    call(*arguments)
  assert '\n' not in str(e.value)
  for culprit in culprits:
    assert culprit in str(e.value), str(e.value)


@pytest.fixture(scope='module')
def tfds():
  """Skips where the extra `data` is not installed."""
  reason = "needs pip install 'idspn-jax[data]'"
  for package in ('array_record', 'grain', 'importlib_resources'):
    pytest.importorskip(package, reason=reason)
  return pytest.importorskip('tensorflow_datasets', reason=reason)


@pytest.fixture(scope='module')
def tree(tmp_path_factory, write_clevr_tree):
  """A CLEVR_v1.0 folder."""
  return write_clevr_tree(tmp_path_factory.mktemp('tree'))


@pytest.fixture(scope='module')
def data_dir(tfds, tree, tmp_path_factory):
  """The folder prepared."""
  place = tmp_path_factory.mktemp('prepared')
  assert clevr_tfds.prepare(tree, place) == place / 'clevr/3.1.0'
  return place


class TestPreparing:
  def test_leaves_the_prepared_data_set_only(self, data_dir):
    assert [p.name for p in data_dir.iterdir()] == ['clevr']
    assert [p.name for p in (data_dir / 'clevr').iterdir()] == ['3.1.0']

  def test_a_zip_gives_what_the_folder_gives(self, data_dir, tree, tmp_path):
    path = shutil.make_archive(
      str(tmp_path / 'CLEVR_v1.0'), 'zip', tree.parent, tree.name
    )
    clevr_tfds.prepare(path, tmp_path / 'out')
    same = [
      sorted((p.name, p.read_bytes()) for p in d.rglob('*array_record*'))
      for d in (data_dir, tmp_path / 'out')
    ]
    assert same[0] == same[1] and len(same[0]) == 3
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['clevr']

  def test_a_folder_of_another_name(self, data_dir, tree, tmp_path):
    shutil.copytree(tree, tmp_path / 'rendered')
    clevr_tfds.prepare(tmp_path / 'rendered', tmp_path / 'out')
    assert clevr_tfds.identity(tmp_path / 'out', 'train') == (
      clevr_tfds.identity(data_dir, 'train')
    )

  def test_replaces_only_when_told(self, tfds, tree, tmp_path):
    clevr_tfds.prepare(tree, tmp_path)
    refused(
      ['prepared already', '--overwrite'], clevr_tfds.prepare, tree, tmp_path
    )
    marker = tmp_path / 'clevr/3.1.0/marker'
    marker.touch()
    clevr_tfds.prepare(tree, tmp_path, True)
    assert not marker.exists()
    assert len(clevr_tfds.TfdsPictures(tmp_path, 'train')) == 7

  def test_what_a_killed_preparation_left_is_named(
    self, tfds, tree, tmp_path, caplog
  ):
    (tmp_path / 'clevr_preparing_old').mkdir()
    clevr_tfds.prepare(tree, tmp_path)
    assert f'{tmp_path}/clevr_preparing_old is left' in caplog.text
    assert len(clevr_tfds.TfdsPictures(tmp_path, 'train')) == 7

  def test_a_wrong_source_leaves_nothing(self, tfds, tree, tmp_path):
    shutil.copytree(tree, tmp_path / 'wrong')
    clevr_tree.scenes_path(tmp_path / 'wrong', 'train').unlink()
    refused(
      ['CLEVR_train_scenes.json'],
      clevr_tfds.prepare,
      tmp_path / 'wrong',
      tmp_path / 'out',
    )
    assert not list((tmp_path / 'out').iterdir())
    refused(['absent'], clevr_tfds.prepare, tmp_path / 'absent', tmp_path)


class TestReading:
  @pytest.mark.parametrize('split', ['train', 'validation'])
  def test_equals_the_folder(self, data_dir, tree, split):
    found = clevr_tfds.TfdsPictures(data_dir, split)
    direct = clevr_tree.TreePictures(
      tree, {'train': 'train', 'validation': 'val'}[split]
    )
    assert found.names == direct.names
    np.testing.assert_array_equal(found.targets, direct.targets)
    for i in range(len(direct)):
      np.testing.assert_array_equal(found.picture(i, 8), direct.picture(i, 8))

  def test_the_folder_of_the_version_is_understood(self, data_dir):
    assert len(clevr_tfds.TfdsPictures(data_dir / 'clevr/3.1.0', 'train')) == 7

  def test_can_be_sent_to_another_process(self, data_dir):
    found = clevr_tfds.TfdsPictures(data_dir, 'train')
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.picture(3, 8), found.picture(3, 8))

  def test_more_objects_than_slots(self, data_dir):
    refused(
      ['4 objects', '3 rows', '.png'],
      clevr_tfds.TfdsPictures,
      data_dir,
      'train',
      3,
    )

  def test_unknown_split(self, data_dir):
    refused(['val', 'validation'], clevr_tfds.TfdsPictures, data_dir, 'val')


def write_info(data_dir, text):
  folder = data_dir / 'clevr/3.1.0'
  folder.mkdir(parents=True)
  (folder / 'dataset_info.json').write_text(text)


class TestPlacesThatCannotBeRead:
  """These need no package."""

  def test_nothing_prepared(self, tmp_path):
    refused(
      [str(tmp_path), 'experiments.prepare_clevr'],
      clevr_tfds.readable_folder,
      tmp_path,
    )
    refused(['experiments.prepare_clevr'], clevr_tfds.identity, tmp_path, 'x')

  @pytest.mark.parametrize('info', [{'fileFormat': 'tfrecord'}, {}])
  def test_prepared_as_tfrecord(self, info, tmp_path):
    write_info(tmp_path, json.dumps(info))
    refused(
      [
        'tfrecord',
        'array_record',
        f'python -m experiments.prepare_clevr --source=CLEVR_v1.0.zip '
        f'--data_dir={tmp_path} --overwrite',
      ],
      clevr_tfds.readable_folder,
      tmp_path,
    )

  @pytest.mark.parametrize('text', ['', '[1]'])
  def test_damaged_description(self, text, tmp_path):
    write_info(tmp_path, text)
    refused(['dataset_info.json', 'anew'], clevr_tfds.readable_folder, tmp_path)

  def test_missing_packages(self, tmp_path, monkeypatch):
    monkeypatch.setattr(clevr_tfds.importlib.util, 'find_spec', lambda _: None)
    for call in (clevr_tfds.prepare, clevr_tfds.TfdsPictures):
      refused(
        ['tensorflow_datasets', "pip install 'idspn-jax[data]'"],
        call,
        tmp_path,
        tmp_path,
      )
    stream = clevr_tfds.loaded_in_workers(len, 0, 0)
    refused(['grain', "'idspn-jax[data]'"], stream.__enter__)


class Squares:
  """A batch of a step; picklable."""

  def __call__(self, step):
    if step == 13:
      raise ValueError('thirteen')
    return {'step': np.asarray(step), 'square': np.asarray(step**2)}


class TestWorkers:
  @pytest.mark.parametrize('workers', [0, 1, 2])
  def test_order_does_not_depend_on_them(self, tfds, workers):
    stream = clevr_tfds.loaded_in_workers(Squares(), 5, workers)
    with stream as batches:
      found = [next(batches) for _ in range(6)]
    assert [int(b['step']) for b in found] == list(range(5, 11))
    assert [int(b['square']) for b in found] == [k**2 for k in range(5, 11)]

  def test_errors_arrive(self, tfds):
    with clevr_tfds.loaded_in_workers(Squares(), 12, 0) as batches:
      next(batches)
      with pytest.raises(ValueError, match='thirteen'):
        next(batches)


def test_paths_are_checked(tmp_path):
  for path in ('gs://bucket/data', pathlib.Path('~nobody-here/data')):
    with pytest.raises(errors.UserError):
      clevr_tfds.prepared_folder(path)
