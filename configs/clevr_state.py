"""Scene-state autoencoding: CLEVR objects in, CLEVR objects out.

    python -m experiments.train --config=configs/clevr_state.py \
      --workdir=runs/clevr_state
    python -m experiments.evaluate --workdir=runs/clevr_state --iterations=20,40

Scenes of 3 to 10 objects are sampled by CLEVR's rules, no pictures are needed.
Reported is the dataset-level average precision (`ap_T`, T in scene units) with
95% confidence intervals, beside the per-image one (`ap_per_image_T`).
`--data=SCENES.json` evaluates on the scenes of a CLEVR scene file.

Arguments after the colon:
  model    idspn_momentum (default), idspn, dspn
  setting  full (default), or reduced: the decoder of the reduced setting of
           configs/clevr.py (3 to 6 objects, T = 20), in minutes
  T        default 40, or 20 if reduced. The full setting takes half of T inner
           steps first, and T in its last fifth
  seed     default 0
"""

import ml_collections

from configs import clevr
from configs import random_multisets
from idspn_jax import checks
from idspn_jax.runs import config as config_lib
from idspn_jax.tasks import model


def get_config(arguments: str = '') -> ml_collections.ConfigDict:
  """Returns settings for about an hour on two CPU cores."""
  given = config_lib.parse_arguments(
    arguments,
    {'model': 'idspn_momentum', 'setting': 'full', 'T': 0, 'seed': 0},
  )
  checks.choice(given['model'], 'model', random_multisets.MODELS)
  checks.choice(given['setting'], 'setting', clevr.SETTINGS)
  iterations = given['T'] or (20 if given['setting'] == 'reduced' else 40)
  config = config_lib.default_config()
  config.task = 'clevr_state'
  config.seed = given['seed']
  config.data = ml_collections.ConfigDict(
    {
      # Scenes that are drawn once; 0 draws new ones for every step.
      'num_train': 70_000,
      'num_test': 5_000,
      # Where drawn scenes are kept for the next start; '' draws them again.
      'scene_dir': 'runs/clevr_scenes',
      'min_objects': 3,
      'max_objects': 10,
      # A CLEVR scene file to test on instead of sampled scenes.
      'path': '',
      # What counts as 1 in the model's coordinates, in scene units; 3 in the
      # paper. The smaller, the more coordinates weigh against attributes.
      'coordinate_unit': 1.0,
    }
  )
  config.batch_size = 64
  config.eval_batch_size = 250
  config.steps = 40_000
  config.cooldown = 0.5
  config.eval_every = 5_000
  config.checkpoint_every = 1_000
  config.model = model.default_config()
  config.model.hidden_dim = 256
  config.model.latent_dim = 256
  config.model.iterations = iterations
  config.iterations_schedule = f'{max(1, iterations // 2)},{iterations}@0.8'
  # As in Section 4.3: every gradient of a set clipped to norm 10.
  config.model.grad_clip = 10.0
  config.model.update(random_multisets.MODELS[given['model']])
  if given['setting'] == 'reduced':
    _reduce(config)
  config.lock()
  return config


def _reduce(config):
  """Scenes and decoder as in the reduced setting of configs/clevr.py."""
  pictures = clevr.get_config('setting=reduced')
  config.data.num_train, config.data.num_test = 20_000, 2_000
  config.data.max_objects = pictures.data.max_objects
  config.data.coordinate_unit = pictures.data.coordinate_unit
  config.steps = 8_000
  config.eval_every = 4_000
  config.iterations_schedule = ''
  for name in ('hidden_dim', 'latent_dim', 'initial_set', 'regularizer'):
    config.model[name] = pictures.model[name]
