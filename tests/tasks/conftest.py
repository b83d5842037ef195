"""Small configurations and files for the tasks."""

import pathlib

import numpy as np
import pytest

from configs import own_sets
from configs import random_multisets

SCENES = pathlib.Path(__file__).parents[1] / 'data/clevr_scenes_small.json'


def _shrink(config):
  config.model.hidden_dim = config.model.latent_dim = 16
  config.batch_size = config.eval_batch_size = 4
  return config


@pytest.fixture
def multisets_config():
  """Random multisets: 3 elements of 2 features, 10 sets to train, 6 to test."""
  config = _shrink(random_multisets.get_config('n=3,d=2,T=3'))
  config.data.num_train, config.data.num_test = 10, 6
  return config


@pytest.fixture
def npz_path(tmp_path):
  """Twenty sets of 0 to 3 elements, far from standardised, junk in padding."""
  rng = np.random.default_rng(5)
  sizes = np.arange(20) % 4
  sets = np.asarray([100.0, -3.0]) + rng.normal(size=(20, 3, 2)) * [10.0, 0.1]
  sets[np.arange(3) >= sizes[:, None]] = 1e6
  np.savez(tmp_path / 'sets.npz', sets=sets, sizes=sizes)
  return str(tmp_path / 'sets.npz')


@pytest.fixture
def npz_config(npz_path):
  """Own sets from the `.npz` file."""
  config = _shrink(own_sets.get_config('T=3'))
  config.data.path = npz_path
  return config


@pytest.fixture
def clevr_config():
  """Own sets from twelve CLEVR scenes."""
  config = _shrink(own_sets.get_config('T=2'))
  config.data.path = str(SCENES)
  return config
