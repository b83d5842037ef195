"""Small runs: random multisets of 2 elements, encoders of width 16."""

import json

import pytest

from configs import random_multisets


def _config(model='idspn_momentum', **changes):
  """A run of some seconds; `model__pool='sum'` changes `model.pool`."""
  config = random_multisets.get_config(f'n=2,d=2,T=3,model={model}')
  config.data.num_train, config.data.num_test = 64, 10
  config.model.hidden_dim = config.model.latent_dim = 16
  config.batch_size = config.eval_batch_size = 8
  config.steps, config.log_every = 6, 2
  config.eval_every = config.checkpoint_every = 4
  config.update_from_flattened_dict(
    {key.replace('__', '.'): value for key, value in changes.items()}
  )
  return config


@pytest.fixture(scope='session')
def small():
  """Makes small configs."""
  return _config


@pytest.fixture(scope='session')
def read_json():
  """Reads a JSON file, refusing NaN and Infinity."""

  def refuse(text):
    raise ValueError(f'{text} is not JSON')

  def read(path):
    return json.loads(path.read_text('utf-8'), parse_constant=refuse)

  return read
