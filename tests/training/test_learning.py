"""Short real trainings: the loss falls far below where it starts."""

import itertools

import jax
import numpy as np
import pytest

from configs import own_sets
from idspn_jax.tasks import registry
from idspn_jax.training import state as state_lib
from idspn_jax.training import step as step_lib

STEPS = 240


def losses(config):
  """Training losses, step by step."""
  experiment = registry.build(config)
  state = state_lib.init_state(experiment.task, config)
  step = jax.jit(step_lib.make_train_step(experiment.task, config))
  found = []
  with experiment.data(config.seed).train(0) as batches:
    for batch in itertools.islice(batches, STEPS):
      state, scalars = step(state, batch)
      assert set(scalars) == {
        'loss',
        'gradient_norm',
        'inner_energy',
        'inner_residual',
      }
      found.append(float(scalars['loss']))
  assert int(state.step) == STEPS
  return found


def assert_learned(config, fraction):
  found = losses(config)
  assert np.isfinite(found).all()
  assert np.mean(found[-20:]) < fraction * np.mean(found[:5])


@pytest.mark.parametrize('model', ['idspn_momentum', 'idspn', 'dspn'])
def test_random_multisets(model, small):
  config = small(
    model,
    model__iterations=5,
    model__hidden_dim=32,
    model__latent_dim=32,
    data__num_train=1024,
    batch_size=32,
    learning_rate=1e-2,
  )
  assert_learned(config, 0.3)


def test_own_sets(tmp_path):
  rng = np.random.default_rng(5)
  sets = rng.normal(size=(200, 3, 2)) * [10.0, 0.1] + [100.0, -3.0]
  path = tmp_path / 'sets.npz'
  np.savez(path, sets=sets, sizes=np.arange(200) % 4)
  config = own_sets.get_config('T=5')
  config.data.path = str(path)
  config.model.hidden_dim = config.model.latent_dim = 32
  config.learning_rate = 1e-2
  assert_learned(config, 0.3)
