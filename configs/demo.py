"""A small setting of Section 4.2 for the demonstration: minutes on two cores.

    python -m experiments.demo --workdir=runs/demo

Eight elements of two features, encoders of width 128, T = 10, 1,500 steps.
Argument after the colon: model (idspn_momentum, idspn, dspn).
"""

import ml_collections

from configs import random_multisets
from idspn_jax.runs import config as config_lib


def get_config(arguments: str = '') -> ml_collections.ConfigDict:
  """Returns the demonstration's setting."""
  given = config_lib.parse_arguments(arguments, {'model': 'idspn_momentum'})
  config = random_multisets.get_config(f'n=8,d=2,T=10,model={given["model"]}')
  config.data.num_test = 1_280
  config.model.hidden_dim = config.model.latent_dim = 128
  config.steps = 1_500
  config.eval_every = 500
  config.log_every = 50
  config.lock()
  return config
