"""Random multisets (Section 4.2, Tables 5 and 6).

    python -m experiments.train --config=configs/random_multisets.py:n=4,d=4 \
      --workdir=runs/n4_d4

Arguments after the colon, all optional:
  n, d        set size and features per element (2, 4, 8, 16 or 32 in the
              paper); default 4, 4
  T           inner steps (10, 20 or 40 in the paper); default 10
  model       idspn_momentum (default), idspn, dspn; and for Table 6
              idspn_momentum_sum and idspn_momentum_mean, whose decoder pools by
              sum or mean
  seed        default 0

At n = 4, d = 4, T = 10 the paper's Table 5 gives a test loss of 5.7e-4 ± 9e-5
(iDSPN with momentum), 1.6e-3 ± 2e-4 (iDSPN), 2.0e-3 ± 2e-4 (DSPN): 20,000
steps, about half an hour (DSPN: an hour) on two CPU cores. With four starts
(`experiments.evaluate --restarts=4`) iDSPN with momentum gets 5e-5.
"""

import ml_collections

from idspn_jax import checks
from idspn_jax.runs import config as config_lib
from idspn_jax.tasks import model

_MOMENTUM = {'gradient': 'jacobian_free', 'momentum': 0.9}
MODELS = {
  'idspn_momentum': _MOMENTUM,
  'idspn': {'gradient': 'jacobian_free', 'momentum': 0.0},
  'dspn': {'gradient': 'unrolled', 'momentum': 0.0},
  'idspn_momentum_sum': {**_MOMENTUM, 'pool': 'sum'},
  'idspn_momentum_mean': {**_MOMENTUM, 'pool': 'mean'},
}


def get_config(arguments: str = '') -> ml_collections.ConfigDict:
  """Returns the paper's setting."""
  given = config_lib.parse_arguments(
    arguments, {'n': 4, 'd': 4, 'T': 10, 'model': 'idspn_momentum', 'seed': 0}
  )
  checks.choice(given['model'], 'model', MODELS)
  config = config_lib.default_config()
  config.task = 'random_multisets'
  config.seed = given['seed']
  config.data = ml_collections.ConfigDict(
    {
      'set_size': given['n'],
      'set_dim': given['d'],
      'num_train': 64_000,
      'num_test': 6_400,
    }
  )
  config.model = model.default_config()
  config.model.iterations = given['T']
  config.model.update(MODELS[given['model']])
  config.lock()
  return config
