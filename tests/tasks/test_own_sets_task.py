"""Own sets: what is read, its units, metrics by hand, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.tasks import registry

KEY = jax.random.key(0)


def metrics_of(task, monkeypatch, batch, guess):
  """Mean metrics if the model predicted `guess`."""
  monkeypatch.setattr(task, 'reconstruct', lambda *_, **__: jnp.asarray(guess))
  found = task.metrics({}, batch, KEY)
  for value in found.values():
    assert value.shape == (len(guess),) and value.dtype == np.float32
  return {name: np.asarray(value) for name, value in found.items()}


def all_test_sets(task):
  return {name: jnp.asarray(array) for name, array in task.test.items()}


class TestStandardisation:
  def test_training_elements_have_mean_0_and_deviation_1(self, npz_config):
    task = registry.build(npz_config)
    sets = task.train['input'].astype(np.float64)
    elements = sets[sets[..., -1] > 0][:, :-1]
    np.testing.assert_allclose(elements.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(elements.std(0), 1, atol=1e-5)
    assert abs(task.mean[0] - 100) < 5 and abs(task.mean[1] + 3) < 0.05

  def test_can_be_switched_off(self, npz_config, npz_path):
    npz_config.data.standardize = False
    task = registry.build(npz_config)
    sets = np.concatenate([task.train['input'], task.test['input']])
    elements = sets[sets[..., -1] > 0][:, :-1]
    assert abs(elements[:, 0].mean() - 100) < 5

  def test_a_constant_feature_stays_finite(self, npz_config, npz_path):
    sets = np.ones((20, 3, 2))
    np.savez(npz_path, sets=sets, sizes=np.full(20, 3))
    task = registry.build(npz_config)
    np.testing.assert_array_equal(task.train['input'][..., :-1], 0)

  def test_empty_sets_only(self, npz_config, npz_path):
    np.savez(npz_path, sets=np.ones((20, 3, 2)), sizes=np.zeros(20, int))
    task = registry.build(npz_config)
    np.testing.assert_array_equal(task.train['input'], 0)


class TestData:
  def test_presence_and_padding(self, npz_config):
    task = registry.build(npz_config)
    for part in (task.train, task.test):
      sets, sizes = part['input'], part['size']
      assert sets.dtype == np.float32 and sets.shape[1:] == (3, 3)
      there = np.arange(3) < sizes[:, None]
      np.testing.assert_array_equal(sets[..., -1], there)
      np.testing.assert_array_equal(sets[~there], 0)
    assert len(task.train['size']) == 16 and len(task.test['size']) == 4

  def test_train_and_test_are_one_split_of_the_file(self, npz_config, npz_path):
    task = registry.build(npz_config)
    both = np.concatenate([task.train['input'], task.test['input']])
    back = both[..., :-1] * task.deviation + task.mean
    with np.load(npz_path) as f:
      sets, sizes = f['sets'], f['sizes']

    def elements(sets, there):
      return np.sort(sets[there][:, 0])

    np.testing.assert_allclose(
      elements(back, both[..., -1] > 0),
      elements(sets, np.arange(3) < sizes[:, None]),
      rtol=1e-5,
    )

  def test_clevr(self, clevr_config):
    task = registry.build(clevr_config)
    assert task.file.kind == 'clevr'
    assert task.train['input'].shape == (10, 10, 19)
    assert task.test['input'].shape == (2, 10, 19)
    np.testing.assert_array_equal(
      task.train['input'][..., -1].sum(-1), task.train['size']
    )

  def test_the_model_fits_the_data(self, npz_config):
    task = registry.build(npz_config)
    params = task.init(KEY)
    batch, _ = next(task.eval_batches())
    assert task.reconstruct(params, batch['input'], KEY).shape == (4, 3, 3)


class TestMetricsOfSets:
  def test_perfect_prediction_in_another_order(self, npz_config, monkeypatch):
    task = registry.build(npz_config)
    batch = all_test_sets(task)
    found = metrics_of(
      task, monkeypatch, batch, batch['input'][:, jnp.asarray([2, 0, 1])]
    )
    assert set(found) == {'loss', 'size_correct', 'size_error', 'distance'}
    np.testing.assert_array_equal(found['size_correct'], 1)
    for name in ('loss', 'size_error', 'distance'):
      np.testing.assert_array_equal(found[name], 0)

  def test_distance_is_in_the_files_units(self, npz_config, monkeypatch):
    task = registry.build(npz_config)
    batch = all_test_sets(task)
    # Off by (3, 4) units everywhere: distance 5 for every existing element.
    offset = np.asarray([3.0, 4.0]) / task.deviation
    target = np.asarray(batch['input'])
    guess = target + np.append(offset, 0.0).astype(np.float32)
    # Matching in standardised units may prefer other pairs; keep one element.
    guess, target = guess[:, :1], target[:, :1]
    batch = {'input': jnp.asarray(target), 'size': target[..., -1].sum(-1)}
    found = metrics_of(task, monkeypatch, batch, guess)
    expected = 5.0 * (target[:, 0, -1] > 0)
    np.testing.assert_allclose(found['distance'], expected, rtol=1e-4)
    np.testing.assert_array_equal(found['size_correct'], 1)

  def test_sizes(self, npz_config, monkeypatch):
    task = registry.build(npz_config)
    target = np.zeros((3, 3, 3), np.float32)
    target[0, :2, -1] = target[1, :1, -1] = 1
    guess = target.copy()
    guess[0, :, -1] = 0.51, 0.49, 0.2  # One element instead of two.
    guess[1, :, -1] = 0.9, 0.8, 0.7  # Three instead of one.
    batch = {'input': jnp.asarray(target), 'size': jnp.asarray([2, 1, 0])}
    found = metrics_of(task, monkeypatch, batch, guess)
    np.testing.assert_array_equal(found['size_correct'], [0, 0, 1])
    np.testing.assert_array_equal(found['size_error'], [1, 2, 0])


class TestMetricsOfScenes:
  def test_perfect_prediction(self, clevr_config, monkeypatch):
    task = registry.build(clevr_config)
    batch = all_test_sets(task)
    guess = batch['input'][:, ::-1]
    found = metrics_of(task, monkeypatch, batch, guess)
    for name in ('size_correct', 'attributes_correct'):
      np.testing.assert_array_equal(found[name], 1)
    for name in ('loss', 'size_error', 'distance'):
      np.testing.assert_array_equal(found[name], 0)

  def test_one_wrong_colour_and_one_moved_object(
    self, clevr_config, monkeypatch
  ):
    task = registry.build(clevr_config)
    batch = {name: array[:1] for name, array in all_test_sets(task).items()}
    guess = np.array(batch['input'])
    guess[0, 0, 5:13] = np.roll(guess[0, 0, 5:13], 1)
    guess[0, 1, 2] += 0.01  # 0.03 in scene units.
    count = int(batch['size'][0])
    found = metrics_of(task, monkeypatch, batch, guess)
    np.testing.assert_allclose(
      found['attributes_correct'], (count - 1) / count, rtol=1e-6
    )
    np.testing.assert_allclose(found['distance'], 0.03 / count, rtol=1e-3)
    np.testing.assert_array_equal(found['size_correct'], 1)
    assert found['loss'][0] > 0


class TestErrors:
  def refused(self, config):
    with pytest.raises(errors.UserError) as e:
      registry.build(config)
    assert '\n' not in str(e.value)
    return str(e.value)

  def test_no_path(self, npz_config):
    npz_config.data.path = ''
    assert '--config.data.path=FILE' in self.refused(npz_config)

  def test_missing_file(self, npz_config, tmp_path):
    npz_config.data.path = str(tmp_path / 'absent.npz')
    assert 'absent.npz' in self.refused(npz_config)

  def test_broken_file(self, npz_config, npz_path):
    with open(npz_path, 'wb') as f:
      f.write(b'PK\x03\x04 and no more')
    assert 'sets.npz' in self.refused(npz_config)

  def test_bad_sizes(self, npz_config, npz_path):
    np.savez(npz_path, sets=np.ones((4, 3, 2)), sizes=[1, 2, 3, 4])
    assert 'set 3 has 4' in self.refused(npz_config)

  def test_bad_scenes(self, clevr_config, tmp_path):
    clevr_config.data.path = str(tmp_path / 'scenes.json')
    (tmp_path / 'scenes.json').write_text('{"questions": []}')
    assert "'scenes'" in self.refused(clevr_config)

  def test_fraction(self, npz_config):
    npz_config.data.test_fraction = 1.0
    assert 'test_fraction' in self.refused(npz_config)

  def test_batch_larger_than_the_data(self, npz_config):
    npz_config.batch_size = 17
    message = self.refused(npz_config)
    assert '17' in message and '16' in message


@pytest.mark.parametrize('which', ['npz', 'clevr'])
def test_draws(which, request, tmp_path):
  task = registry.build(request.getfixturevalue(f'{which}_config'))
  params = task.init(KEY)
  (path,) = task.draw(params, KEY, [1, 2], str(tmp_path))
  with open(path, 'rb') as f:
    assert f.read(8) == b'\x89PNG\r\n\x1a\n'
