"""Autoencoding of one's own sets, from a file.

    python -m experiments.train --config=configs/own_sets.py \
      --config.data.path=FILE --workdir=runs/own

FILE is an `.npz` with `sets` (count, N, D), padded, and `sizes` (count,), or a
CLEVR scenes `.json`. Arguments after the colon: model (idspn_momentum, idspn,
dspn), T, seed; defaults idspn_momentum, 20, 0.
"""

import ml_collections

from configs import random_multisets
from idspn_jax import checks
from idspn_jax.runs import config as config_lib
from idspn_jax.tasks import model


def get_config(arguments: str = '') -> ml_collections.ConfigDict:
  """Returns settings that suit some hundreds to thousands of sets."""
  given = config_lib.parse_arguments(
    arguments, {'model': 'idspn_momentum', 'T': 20, 'seed': 0}
  )
  checks.choice(given['model'], 'model', random_multisets.MODELS)
  config = config_lib.default_config()
  config.task = 'own_sets'
  config.seed = given['seed']
  config.data = ml_collections.ConfigDict(
    {
      'path': '',
      'test_fraction': 0.2,
      # Of the division into training and test sets, the same for all seeds.
      'split_seed': 0,
      'standardize': True,
    }
  )
  config.batch_size = 32
  config.eval_batch_size = 32
  config.steps = 3_000
  config.eval_every = 500
  config.checkpoint_every = 500
  config.model = model.default_config()
  config.model.hidden_dim = 256
  config.model.latent_dim = 256
  config.model.iterations = given['T']
  # As in Section 4.3: every gradient of a set clipped to norm 10.
  config.model.grad_clip = 10.0
  config.model.update(random_multisets.MODELS[given['model']])
  config.lock()
  return config
