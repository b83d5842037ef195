"""Own sets: what is read, its units, metrics by hand, and errors."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.metrics import averages
from idspn_jax.tasks import registry

KEY = jax.random.key(0)


def build(config):
  """The task, and the data of seed 0."""
  experiment = registry.build(config)
  return experiment.task, experiment.data(0)


def metrics_of(task, monkeypatch, batch, guess):
  """Metrics of every set if the model predicted `guess`."""
  decoded = types.SimpleNamespace(set=jnp.asarray(guess))
  monkeypatch.setattr(task, 'decode', lambda *_, **__: decoded)
  found = task.evaluate({}, batch, KEY)
  for leaf in jax.tree.leaves(found):
    assert leaf.shape == (len(guess),) and leaf.dtype == np.float32
  return jax.tree.map(np.asarray, found)


def values(metric):
  """Of the sets that count, if some do not."""
  if isinstance(metric, averages.Weighted):
    assert set(metric.weight) <= {0.0, 1.0}
    return metric.value[metric.weight > 0]
  return metric


def all_test_sets(data):
  return {name: jnp.asarray(a) for name, a in data.splits['test'].items()}


def both_splits(data, name='input'):
  return np.concatenate([data.splits[s][name] for s in ('train', 'test')])


class TestStandardisation:
  def test_training_elements_have_mean_0_and_standard_deviation_1(
    self, npz_config
  ):
    experiment = registry.build(npz_config)
    sets = experiment.data(0).splits['train']['input'].astype(np.float64)
    elements = sets[sets[..., -1] > 0][:, :-1]
    np.testing.assert_allclose(elements.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(elements.std(0), 1, atol=1e-5)
    mean = experiment.record['mean']
    assert abs(mean[0] - 100) < 5 and abs(mean[1] + 3) < 0.05

  def test_can_be_switched_off(self, npz_config):
    npz_config.data.standardize = False
    _, data = build(npz_config)
    sets = both_splits(data)
    elements = sets[sets[..., -1] > 0][:, :-1]
    assert abs(elements[:, 0].mean() - 100) < 5

  def test_a_constant_feature_stays_finite(self, npz_config, npz_path):
    sets = np.ones((20, 3, 2))
    np.savez(npz_path, sets=sets, sizes=np.full(20, 3))
    _, data = build(npz_config)
    np.testing.assert_array_equal(data.splits['train']['input'][..., :-1], 0)

  def test_empty_sets_only(self, npz_config, npz_path):
    np.savez(npz_path, sets=np.ones((20, 3, 2)), sizes=np.zeros(20, int))
    _, data = build(npz_config)
    np.testing.assert_array_equal(data.splits['train']['input'], 0)

  def test_small_differences_of_large_values_survive(
    self, npz_config, npz_path
  ):
    rng = np.random.default_rng(0)
    sets = 1e6 + 0.01 * rng.normal(size=(20, 3, 2))
    np.savez(npz_path, sets=sets, sizes=np.full(20, 3))
    _, data = build(npz_config)
    assert len(np.unique(both_splits(data)[..., 0])) == 60
    features = both_splits(data)[..., :-1].astype(np.float64)
    assert features.std() == pytest.approx(1.0, abs=0.1)
    np.testing.assert_allclose(
      np.sort(data.in_units(both_splits(data))[..., 0], axis=None),
      np.sort(sets[..., 0], axis=None),
      atol=1e-8,
    )

  @pytest.mark.parametrize('standardize', [True, False])
  def test_beyond_the_range_of_float32(self, standardize, npz_config, npz_path):
    sets = np.random.default_rng(0).normal(size=(20, 3, 2)) * 1e39
    np.savez(npz_path, sets=sets, sizes=np.full(20, 3))
    npz_config.data.standardize = standardize
    with pytest.raises(errors.UserError, match='sets.npz.*float32'):
      registry.build(npz_config).data(0)


class TestData:
  def test_presence_and_padding(self, npz_config):
    _, data = build(npz_config)
    for name, count in (('train', 16), ('test', 4)):
      sets, sizes = data.splits[name]['input'], data.splits[name]['size']
      assert sets.dtype == np.float32 and sets.shape == (count, 3, 3)
      mask = np.arange(3) < sizes[:, None]
      np.testing.assert_array_equal(sets[..., -1], mask)
      np.testing.assert_array_equal(sets[~mask], 0)

  def test_train_and_test_are_one_split_of_the_file(self, npz_config, npz_path):
    _, data = build(npz_config)
    both = data.in_units(both_splits(data))
    with np.load(npz_path) as f:
      sets, sizes = f['sets'], f['sizes']

    def elements(sets, mask):
      return np.sort(sets[mask][:, 0])

    np.testing.assert_allclose(
      elements(both, both[..., -1] > 0),
      elements(sets, np.arange(3) < sizes[:, None]),
      rtol=1e-5,
    )

  def test_the_split_has_a_seed_of_its_own(self, npz_config):
    def test_sets(**changes):
      npz_config.update(changes)
      return registry.build(npz_config).record['test_sets']

    first = test_sets()
    assert test_sets(seed=1) == first
    assert test_sets(data={'split_seed': 1}) != first

  def test_clevr(self, clevr_config):
    task, data = build(clevr_config)
    assert task.kind == 'clevr'
    train, test = data.splits['train'], data.splits['test']
    assert train['input'].shape == (10, 10, 19)
    assert test['input'].shape == (2, 10, 19)
    np.testing.assert_array_equal(
      train['input'][..., -1].sum(-1), train['size']
    )

  def test_the_model_fits_the_data(self, npz_config):
    task, data = build(npz_config)
    variables = task.init(KEY)
    batch = next(data.evaluate())
    decoded = task.decode(variables, batch['input'], KEY)
    assert decoded.set.shape == (4, 3, 3)


class TestMetricsOfSets:
  def test_perfect_prediction_in_another_order(self, npz_config, monkeypatch):
    task, data = build(npz_config)
    batch = all_test_sets(data)
    found = metrics_of(
      task, monkeypatch, batch, batch['input'][:, jnp.asarray([2, 0, 1])]
    )
    assert set(found) == {'loss', 'size_correct', 'size_error', 'distance'}
    np.testing.assert_array_equal(found['size_correct'], 1)
    for name in ('loss', 'size_error', 'distance'):
      np.testing.assert_array_equal(values(found[name]), 0)

  def test_distance_is_in_the_files_units(self, npz_config, monkeypatch):
    task, data = build(npz_config)
    batch = all_test_sets(data)
    # Off by (3, 4) units everywhere: distance 5 for every existing element.
    offset = np.asarray([3.0, 4.0]) / np.asarray(batch['scale'][0])
    target = np.asarray(batch['input'])
    guess = target + np.append(offset, 0.0).astype(np.float32)
    # Matching in standardised units may prefer other pairs; keep one element.
    guess, target = guess[:, :1], target[:, :1]
    size = target[..., -1].sum(-1)
    batch = {**batch, 'input': jnp.asarray(target), 'size': size}
    found = metrics_of(task, monkeypatch, batch, guess)
    np.testing.assert_array_equal(found['distance'].weight, size > 0)
    np.testing.assert_allclose(values(found['distance']), 5.0, rtol=1e-4)
    np.testing.assert_array_equal(found['size_correct'], 1)

  def test_sizes(self, npz_config, monkeypatch):
    task, data = build(npz_config)
    target = np.zeros((3, 3, 3), np.float32)
    target[0, :2, -1] = target[1, :1, -1] = 1
    guess = target.copy()
    guess[0, :, -1] = 0.51, 0.49, 0.2  # One element instead of two.
    guess[1, :, -1] = 0.9, 0.8, 0.7  # Three instead of one.
    batch = {
      'input': jnp.asarray(target),
      'size': jnp.asarray([2, 1, 0]),
      'scale': jnp.ones((3, 2)),
    }
    found = metrics_of(task, monkeypatch, batch, guess)
    np.testing.assert_array_equal(found['size_correct'], [0, 0, 1])
    np.testing.assert_array_equal(found['size_error'], [1, 2, 0])

  def test_empty_sets_do_not_count_in_the_distance(
    self, npz_config, monkeypatch
  ):
    task, data = build(npz_config)
    target = np.zeros((2, 3, 3), np.float32)
    target[0, 0, -1] = 1
    batch = {
      'input': jnp.asarray(target),
      'size': jnp.asarray([1, 0]),
      'scale': jnp.ones((2, 2)),
    }
    guess = target + np.asarray([3, 4, 0], np.float32)
    found = metrics_of(task, monkeypatch, batch, guess)
    means = task.summarize(found)
    assert means['distance'] == pytest.approx(5.0)
    assert means['size_correct'] == 1.0

  def test_non_finite_predictions_are_wrong(self, npz_config, monkeypatch):
    task, data = build(npz_config)
    target = np.zeros((1, 3, 3), np.float32)
    target[0, 0, -1] = 1
    guess = target.copy()
    guess[0, 2, 0] = np.nan  # Neither near nor of the right size.
    batch = {
      'input': jnp.asarray(target),
      'size': jnp.asarray([1]),
      'scale': jnp.ones((1, 2)),
    }
    found = metrics_of(task, monkeypatch, batch, guess)
    assert found['size_correct'][0] == 0.0
    assert found['size_error'][0] == np.inf
    assert found['distance'].value[0] == np.inf


class TestMetricsOfScenes:
  def test_perfect_prediction(self, clevr_config, monkeypatch):
    task, data = build(clevr_config)
    batch = all_test_sets(data)
    guess = batch['input'][:, ::-1]
    found = metrics_of(task, monkeypatch, batch, guess)
    for name in ('size_correct', 'attributes_correct'):
      np.testing.assert_array_equal(values(found[name]), 1)
    for name in ('loss', 'size_error', 'distance'):
      np.testing.assert_array_equal(values(found[name]), 0)

  def test_one_wrong_colour_and_one_moved_object(
    self, clevr_config, monkeypatch
  ):
    task, data = build(clevr_config)
    batch = {name: array[:1] for name, array in all_test_sets(data).items()}
    guess = np.array(batch['input'])
    guess[0, 0, 5:13] = np.roll(guess[0, 0, 5:13], 1)
    guess[0, 1, 2] += 0.01  # 0.03 in scene units.
    count = int(batch['size'][0])
    found = metrics_of(task, monkeypatch, batch, guess)
    np.testing.assert_allclose(
      values(found['attributes_correct']), (count - 1) / count, rtol=1e-6
    )
    np.testing.assert_allclose(
      values(found['distance']), 0.03 / count, rtol=1e-3
    )
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
def test_draws(which, request):
  task, data = build(request.getfixturevalue(f'{which}_config'))
  figures = task.draw(task.init(KEY), data, KEY, [1, 2])
  assert set(figures) == {'sets'} and figures['sets'].axes
