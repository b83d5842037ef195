"""Models that come with the package, and how runs become such files."""

import importlib.resources
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import random_multisets
from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.losses import set_losses
from idspn_jax.metrics import scene_scores
from idspn_jax.runs import loading
from idspn_jax.runs import pretrained
from idspn_jax.studies import predictions
from idspn_jax.tasks import clevr_state
from idspn_jax.training import loop

MOST_BYTES = 8_000_000


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A run of one step."""
  config = random_multisets.get_config('n=3,d=2,T=2')
  config.data.num_train, config.data.num_test = 8, 4
  config.model.hidden_dim = config.model.latent_dim = 8
  config.batch_size = config.eval_batch_size = 4
  config.steps = 1
  workdir = str(tmp_path_factory.mktemp('run'))
  loop.train_and_evaluate(config, workdir)
  return loading.load_run(workdir)


def change(path, **values):
  with np.load(path) as stored:
    arrays = {name: stored[name] for name in stored.files}
  arrays.update(values)
  arrays = {name: array for name, array in arrays.items() if array is not None}
  np.savez(path, **arrays)


class TestFiles:
  def test_come_back_rounded(self, run, tmp_path):
    path = str(tmp_path / 'small.npz')
    pretrained.export(run, path)
    found = pretrained.read(path, 'somewhere')
    assert found.workdir == 'somewhere' and found.step == run.step
    assert found.config.to_json() == run.config.to_json()

    def rounded(leaf):
      dtype = np.float16 if leaf.ndim > 1 else np.float32
      return np.asarray(leaf).astype(dtype).astype(np.float32)

    expected = jax.tree.map(rounded, run.variables)
    jax.tree.map(np.testing.assert_array_equal, found.variables, expected)

  def test_damaged_or_foreign(self, run, tmp_path):
    path = tmp_path / 'small.npz'
    path.write_bytes(b'junk')
    with pytest.raises(errors.UserError, match='no exported model'):
      pretrained.read(str(path), '')
    pretrained.export(run, str(path))
    change(path, config=None)
    with pytest.raises(errors.UserError, match='no exported model'):
      pretrained.read(str(path), '')

  def test_objects_are_not_unpickled(self, run, tmp_path):
    path = tmp_path / 'small.npz'
    pretrained.export(run, str(path))
    change(path, config=np.asarray([{}], object))
    with pytest.raises(errors.UserError, match='no exported model'):
      pretrained.read(str(path), '')

  def test_of_another_shape(self, run, tmp_path):
    path = tmp_path / 'small.npz'
    pretrained.export(run, str(path))
    config = json.loads(run.config.to_json())
    config['model']['hidden_dim'] = 9
    change(path, config=np.asarray(json.dumps(config)))
    with pytest.raises(errors.UserError, match='another model'):
      pretrained.read(str(path), '')

  def test_what_cannot_be_exported(self, run, tmp_path):
    with pytest.raises(errors.UserError, match=r'NAME\.npz'):
      pretrained.export(run, str(tmp_path / 'a b.npz'))
    huge = jax.tree.map(lambda leaf: leaf + 1e6, run.variables)
    with pytest.raises(errors.UserError, match='not finite in float16'):
      pretrained.export(run._replace(variables=huge), str(tmp_path / 'b.npz'))
    assert not list(tmp_path.iterdir())


class TestPackaged:
  def test_names(self):
    assert 'multisets_n4_d4' in pretrained.names()
    with pytest.raises(errors.UserError, match="'resnet'.*multisets_n4_d4"):
      pretrained.load_pretrained('resnet')

  def test_loading_draws_no_scenes(self, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clevr_state, 'sample_scenes', None)
    found = pretrained.load_pretrained('clevr_state')
    assert found.config.task == 'clevr_state'
    assert not list(tmp_path.iterdir())

  def test_are_small(self):
    folder = importlib.resources.files('idspn_jax.runs') / 'weights'
    sizes = [len(path.read_bytes()) for path in folder.iterdir()]
    assert 0 < sum(sizes) <= MOST_BYTES

  def test_the_autoencoder_is_trained(self):
    """An untrained one has a loss of about 0.3."""
    found = pretrained.load_pretrained('multisets_n4_d4')
    sets = jax.random.normal(jax.random.key(0), (64, 4, 4))
    decoded = found.task.decode(found.variables, sets, jax.random.key(1))
    loss = jnp.mean(set_losses.hungarian_loss(decoded.set, sets))
    assert loss < 0.005

  def test_the_model_of_pictures_knows_real_ones(self):
    """An untrained one finds hardly any of the 16 objects."""
    folder = pathlib.Path(__file__).parents[1] / 'render' / 'real'
    with open(folder / 'scenes.json') as f:
      scenes = json.load(f)['scenes']
    chosen = (1, 2, 4)  # Those of at most 6 objects.
    truth = np.stack(
      [clevr_features.features_of(scenes[n]['objects'], 6) for n in chosen]
    )
    found = pretrained.load_pretrained('clevr_reduced')
    names = [str(folder / f'CLEVR_val_{n:06}.png') for n in chosen]
    images = found.data.read_images(names)
    sets = predictions.predict(found, images, restarts=4)['sets']
    scores = scene_scores.scene_scores(sets, truth)
    assert scores['attributes_accuracy'] >= 0.7
    assert scores['ap_0.5'] >= 0.5
