"""Random multisets: the data, its errors, and the pure functions of a task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.data import random_multisets as data
from idspn_jax.losses import set_losses
from idspn_jax.solvers import decode as decode_lib
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


def decode_to(task, monkeypatch, guess):
  """Lets the model decode everything to `guess`."""
  rows = len(guess)
  decoded = decode_lib.Decoded(
    set=guess,
    steps=jnp.full(rows, 3),
    last_energy=jnp.full(rows, 1.5),
    last_residual=jnp.full(rows, 0.5),
  )
  monkeypatch.setattr(task, 'decode', lambda *_, **__: decoded)


class TestTask:
  def test_another_seed_is_other_data(self, multisets_config):
    data_of = registry.build(multisets_config).data
    first, second = data_of(0).splits, data_of(1).splits
    train = first['train']['input']
    assert np.intersect1d(train, second['train']['input']).size == 0
    assert np.intersect1d(train, first['test']['input']).size == 0

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

  def test_evaluates_the_papers_loss(self, multisets_config, monkeypatch):
    multisets_config.loss = 'chamfer'
    experiment = registry.build(multisets_config)
    task = experiment.task
    batch = next(experiment.data(0).evaluate())
    target = jnp.asarray(batch['input'])
    guess = target[:, ::-1] + 0.5
    decode_to(task, monkeypatch, guess)
    found = task.evaluate({}, batch, KEY)
    expected = set_losses.hungarian_loss(guess, target)
    np.testing.assert_array_equal(found['loss'], expected)
    loss, output = task.loss({}, {}, batch, KEY)
    expected = set_losses.chamfer_loss(guess, target)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-6)
    assert output.model_state == {}
    assert output.scalars == {'inner_energy': 1.5, 'inner_residual': 0.5}

  def test_perfect_reconstruction_has_no_loss(
    self, multisets_config, monkeypatch
  ):
    experiment = registry.build(multisets_config)
    task = experiment.task
    batch = next(experiment.data(0).evaluate())
    decode_to(task, monkeypatch, jnp.asarray(batch['input'][:, [2, 0, 1]]))
    np.testing.assert_allclose(task.evaluate({}, batch, KEY)['loss'], 0.0)
    assert task.loss({}, {}, batch, KEY)[0] == 0.0

  def test_draws(self, multisets_config):
    experiment = registry.build(multisets_config)
    variables = experiment.task.init(KEY)
    figures = experiment.task.draw(variables, experiment.data(0), KEY, [1, 3])
    assert set(figures) == {'sets', 'inner_optimisation'}
    assert all(figure.axes for figure in figures.values())
