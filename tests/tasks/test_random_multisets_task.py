"""Random multisets: the data, its errors, and the pure functions of a task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.data import random_multisets as data
from idspn_jax.losses import set_losses
from idspn_jax.tasks import registry

KEY = jax.random.key(0)


class TestData:
  def test_one_seed_one_dataset(self):
    a, b = (data.random_multisets(5, 3, 2, 4, 'train') for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert a.shape == (5, 3, 2) and a.dtype == np.float32

  def test_seed_and_split_change_the_data(self):
    samples = [
      data.random_multisets(50, 3, 2, seed, split)
      for seed in (0, 1)
      for split in ('train', 'test')
    ]
    for i, a in enumerate(samples):
      for b in samples[:i]:
        assert np.intersect1d(a, b).size == 0

  def test_standard_normal(self):
    sample = data.random_multisets(2_000, 3, 2, 0, 'train').astype(np.float64)
    flat = sample.reshape(-1, 6)
    # Four deviations of each estimate.
    assert np.abs(flat.mean(0)).max() < 4 / np.sqrt(2_000)
    assert np.abs(np.cov(flat.T) - np.eye(6)).max() < 4 * np.sqrt(2 / 2_000)

  def test_unknown_split(self):
    with pytest.raises(ValueError, match='validation'):
      data.random_multisets(5, 3, 2, 0, 'validation')


class TestTask:
  def test_uses_the_seed(self, multisets_config):
    first = registry.build(multisets_config)
    multisets_config.seed = 1
    second = registry.build(multisets_config)
    assert np.intersect1d(first.train, second.train).size == 0
    assert np.intersect1d(first.train, first.test).size == 0

  @pytest.mark.parametrize(
    'key', ['set_size', 'set_dim', 'num_train', 'num_test']
  )
  def test_impossible_sizes_are_named(self, key, multisets_config):
    multisets_config.data[key] = 0
    with pytest.raises(errors.UserError, match=f'data.{key}.*got 0'):
      registry.build(multisets_config)

  def test_unknown_loss_and_task_are_named(self, multisets_config):
    multisets_config.loss = 'mse'
    with pytest.raises(errors.UserError, match="'mse'.*hungarian"):
      registry.build(multisets_config)
    multisets_config.task = 'sorting'
    with pytest.raises(errors.UserError, match="'sorting'.*own_sets"):
      registry.build(multisets_config)

  def test_too_few_sets_for_a_batch(self, multisets_config):
    multisets_config.data.num_train = 3
    with pytest.raises(errors.UserError, match='batch_size'):
      registry.build(multisets_config)

  def test_metrics_are_the_papers_loss(self, multisets_config, monkeypatch):
    multisets_config.loss = 'chamfer'
    task = registry.build(multisets_config)
    batch, _ = next(task.eval_batches())
    guess = jnp.asarray(batch['input'][:, ::-1]) + 0.5
    monkeypatch.setattr(task, 'reconstruct', lambda *_, **__: guess)
    found = task.metrics({}, batch, KEY)
    expected = set_losses.hungarian_loss(guess, jnp.asarray(batch['input']))
    np.testing.assert_array_equal(found['loss'], expected)
    loss, extra = task.loss({}, batch, KEY)
    expected = set_losses.chamfer_loss(guess, jnp.asarray(batch['input']))
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-6)
    assert extra == {}

  def test_perfect_reconstruction_has_no_loss(
    self, multisets_config, monkeypatch
  ):
    task = registry.build(multisets_config)
    batch, _ = next(task.eval_batches())
    permuted = jnp.asarray(batch['input'][:, [2, 0, 1]])
    monkeypatch.setattr(task, 'reconstruct', lambda *_, **__: permuted)
    np.testing.assert_allclose(task.metrics({}, batch, KEY)['loss'], 0.0)
    assert task.loss({}, batch, KEY)[0] == 0.0

  def test_draws(self, multisets_config, tmp_path):
    task = registry.build(multisets_config)
    params = task.init(KEY)
    paths = task.draw(params, KEY, [1, 3], str(tmp_path))
    assert len(paths) == 2
    for path in paths:
      with open(path, 'rb') as f:
        assert f.read(8) == b'\x89PNG\r\n\x1a\n'
