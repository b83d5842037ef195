"""Predictions from a file: in any batches, in the units of the input."""

import json
import pathlib

import numpy as np
import pytest

from configs import own_sets
from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.data import clevr_scenes
from idspn_jax.data import set_files
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.studies import predictions
from idspn_jax.tasks import registry
from idspn_jax.training import loop

TESTS = pathlib.Path(__file__).parents[1]
SCENES = TESTS / 'data' / 'clevr_scenes_small.json'
NUMBERING = TESTS / 'runs' / 'old' / 'numbering'
MEAN, COUNT = 1e6, 7


def write(path, seed, count, rows=4):
  rng = np.random.default_rng(seed)
  sets = MEAN + rng.normal(size=(count, rows, 2))
  np.savez(path, sets=sets, sizes=rng.integers(0, rows + 1, count))
  return str(path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A run on sets far from the origin, whose file is gone, and new inputs."""
  folder = tmp_path_factory.mktemp('predict')
  path = pathlib.Path(write(folder / 'sets.npz', 0, 20))
  config = own_sets.get_config('T=2')
  config.update_from_flattened_dict(
    {
      'data.path': str(path),
      'model.hidden_dim': 4,
      'model.latent_dim': 4,
      'batch_size': 8,
      'steps': 2,
    }
  )
  loop.train_and_evaluate(config, str(folder / 'run'))
  path.unlink()
  write(folder / 'inputs.npz', 1, COUNT)
  return folder


@pytest.fixture(scope='module')
def opened(folder):
  """The run and its inputs."""
  run = loading.load_run(str(folder / 'run'))
  return run, run.data.read_inputs(str(folder / 'inputs.npz'))


@pytest.fixture(scope='module')
def found(opened):
  """Predictions in one batch."""
  return predictions.predict(*opened)


class TestPredict:
  def test_is_in_the_units_of_the_input(self, found):
    assert found['sets'].shape == (COUNT, 4, 2)
    assert found['sets'].dtype == np.float64
    assert np.all(np.abs(found['sets'] - MEAN) < 10)
    assert found['presence'].shape == (COUNT, 4)
    for name in ('energy', 'residual'):
      assert found[name].shape == (COUNT,)
      assert np.all(np.isfinite(found[name]) & (found[name] >= 0))

  @pytest.mark.parametrize('batch_size', [1, 3])
  def test_in_batches_of_any_size(self, batch_size, opened, found):
    again = predictions.predict(*opened, batch_size=batch_size)
    assert again.keys() == found.keys()
    for name, array in found.items():
      offset = MEAN if name == 'sets' else 0.0
      np.testing.assert_allclose(
        again[name] - offset, array - offset, rtol=1e-5, atol=1e-6
      )

  @pytest.mark.parametrize(
    'options, culprit',
    [
      ({'batch_size': 0}, 'batch_size .*0'),
      ({'batch_size': 2.5}, 'batch_size .*2.5'),
      ({'iterations': 0}, 'iterations .*0'),
      ({'restarts': 0}, 'restarts .*0'),
    ],
  )
  def test_impossible_values(self, options, culprit, opened):
    with pytest.raises(errors.UserError, match=culprit):
      predictions.predict(*opened, **options)

  def test_starts(self, opened, found):
    """The energies reported are at the winners' last step but one."""
    one = predictions.predict(*opened, restarts=1)
    np.testing.assert_array_equal(one['sets'], found['sets'])
    several = predictions.predict(*opened, restarts=8)
    assert several.keys() == found.keys()
    changed = np.any(several['sets'] != found['sets'], axis=(1, 2))
    assert 0 < np.sum(changed)
    assert np.mean(several['energy']) < np.mean(found['energy'])

  def test_nothing(self, opened):
    run, inputs = opened
    none = {name: array[:0] for name, array in inputs.items()}
    with pytest.raises(errors.UserError, match='no inputs'):
      predictions.predict(run, none)


class TestSave:
  @pytest.mark.parametrize('suffix', ['.npz', '.json', '.JSON'])
  def test_both_formats(self, suffix, opened, found, tmp_path):
    path = tmp_path / 'deep' / f'out{suffix}'
    predictions.save(opened[0], found, str(path))
    if suffix == '.npz':
      stored = dict(np.load(path))
    else:
      content = json.loads(path.read_text('utf-8'))
      assert content['step'] == 2 and 'versions' in content
      stored = content['predictions']
    assert stored.keys() == found.keys()
    for name, array in found.items():
      np.testing.assert_allclose(stored[name], array, rtol=1e-15)

  @pytest.mark.parametrize('suffix', ['.npz', '.json'])
  def test_an_interruption_leaves_nothing(
    self, suffix, opened, found, tmp_path, monkeypatch
  ):
    def interrupt(*_, **__):
      raise KeyboardInterrupt

    monkeypatch.setattr('os.fsync', interrupt)
    with pytest.raises(KeyboardInterrupt):
      predictions.save(opened[0], found, str(tmp_path / f'out{suffix}'))
    assert list(tmp_path.iterdir()) == []

  @pytest.mark.parametrize(
    'name, culprit',
    [
      ('out.csv', 'ends in .npz or .json'),
      ('folder.npz', 'is a directory'),
      ('file/out.npz', 'file'),
    ],
  )
  def test_impossible_places(self, name, culprit, tmp_path):
    (tmp_path / 'folder.npz').mkdir()
    (tmp_path / 'file').touch()
    with pytest.raises(errors.UserError, match=culprit):
      predictions.check_output(str(tmp_path / name))


class TestScenes:
  @pytest.fixture
  def data(self):
    """The data of an experiment on CLEVR scenes."""
    config = own_sets.get_config('T=2')
    config.data.path = str(SCENES)
    config.batch_size = 1
    return registry.build(config).data(0)

  def test_are_written_as_readable_objects(self, data, tmp_path):
    features = clevr_scenes.load_scenes(SCENES)
    count = len(features)
    inner = {'energy': np.arange(count), 'residual': np.ones(count)}
    found = data.to_units({'sets': features, **inner})
    assert found['coordinates'].shape == (count, 10, 3)
    assert found['color'].shape == (count, 10)
    path = tmp_path / 'scenes.json'
    files.write_json(str(path), data.to_json(found))
    scenes = json.loads(path.read_text('utf-8'))['scenes']
    assert [scene['energy'] for scene in scenes] == list(range(count))
    original = json.loads(SCENES.read_text('utf-8'))['scenes']
    for now, then in zip(scenes, original, strict=True):
      for thing, given in zip(now['objects'], then['objects'], strict=True):
        assert {k: thing[k] for k in clevr_features.ATTRIBUTES} == {
          k: given[k] for k in clevr_features.ATTRIBUTES
        }
        np.testing.assert_allclose(
          thing['3d_coords'], given['3d_coords'], rtol=1e-5
        )
    # What was predicted can be read as a scene file again.
    np.testing.assert_allclose(
      clevr_scenes.load_scenes(path), features, rtol=1e-6
    )

  def test_are_read_as_inputs(self, data):
    inputs = data.read_inputs(str(SCENES))
    assert inputs['input'].shape[1:] == (10, 19)


def test_numbering_from_the_command_line(run, tmp_path):
  classes = np.random.default_rng(0).integers(0, 2, (5, 4))
  np.savez(tmp_path / 'classes.npz', classes=classes)
  done = run(
    'predict',
    f'--workdir={NUMBERING}',
    f'--inputs={tmp_path / "classes.npz"}',
    f'--output={tmp_path / "out.json"}',
    '--batch_size=2',
    '--iterations=4',
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  assert done.stdout.splitlines()[0].startswith('5 predictions with energy')
  found = json.loads((tmp_path / 'out.json').read_text('utf-8'))
  assert np.shape(found['predictions']['numbers']) == (5, 4)
  assert found['step'] == 4  # The best in validation.
  assert np.shape(found['predictions']['energy']) == (5,)


class TestReadArrays:
  def test_as_stored(self, tmp_path):
    np.savez(tmp_path / 'a.npz', x=np.int8([1, 2]), y=1.5)
    y, x = set_files.read_arrays(tmp_path / 'a.npz', ('y', 'x'))
    assert y == 1.5 and x.dtype == np.int8 and x.tolist() == [1, 2]

  def test_errors(self, tmp_path):
    np.savez(tmp_path / 'a.npz', x=1)
    (tmp_path / 'empty.npz').touch()
    (tmp_path / 'a.txt').write_text('x')
    for name, culprit in {
      'a.npz': "no array 'z'.*z=...",
      'empty.npz': 'empty',
      'absent.npz': 'no such file',
      'a.txt': '.txt',
      '.': 'a directory',
    }.items():
      with pytest.raises(ValueError, match=culprit):
        set_files.read_arrays(tmp_path / name, ('z',))
