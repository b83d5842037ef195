"""From one's own images to their sets; see docs/own_images.md.

    python -m experiments.train --config=configs/own_images.py \
      --config.data.images=FOLDER --config.data.path=SETS.json \
      --workdir=runs/own_images

SETS.json says which elements every image of the folder has; `.npz` works too.

Arguments after the colon, all optional:
  model       iDSPN and DSPN as in configs/clevr.py; default idspn
  size        height and width that images are squashed to, in pixels; default
              64
  seed        default 0
"""

import ml_collections

from configs import clevr
from idspn_jax import checks
from idspn_jax.runs import config as config_lib
from idspn_jax.tasks import image_models
from idspn_jax.tasks import images

# Slot Attention and Slot MLP predict CLEVR objects only.
MODELS = {k: v for k, v in clevr.MODELS.items() if 'name' not in v}


def get_config(arguments: str = '') -> ml_collections.ConfigDict:
  """Returns settings that suit some thousands of small images."""
  given = config_lib.parse_arguments(
    arguments, {'model': 'idspn', 'size': 64, 'seed': 0}
  )
  checks.choice(given['model'], 'model', MODELS)
  config = config_lib.default_config()
  config.task = 'own_images'
  config.seed = given['seed']
  config.data = ml_collections.ConfigDict(
    {
      # '' for the folder of the file of sets.
      'images': '',
      'path': '',
      'image_size': given['size'],
      'test_fraction': 0.2,
      # Of the division into training and test images, the same for all seeds.
      'split_seed': 0,
      # What counts as 1 in distances of average precision, in standard
      # deviations of the training images' features.
      'distance_unit': 1.0,
      # Features that are drawn as places in the image, from its upper left
      # corner, as a 'fraction' of its width and height or in 'pixels'.
      'draw_x': 'x',
      'draw_y': 'y',
      'draw_units': 'fraction',
    }
  )
  config.augmentation = images.default_augmentation()
  config.model = image_models.default_config()
  config.model.update(MODELS[given['model']])
  config.model.hidden_dim = 128
  config.model.latent_dim = 128
  config.model.image_encoder.width = 16
  config.model.image_encoder.stem = 'patch'
  # As many stages as leave at least 2×2 positions.
  stages = 4 if given['size'] >= 64 else 3 if given['size'] >= 32 else 2
  config.model.image_encoder.blocks = (2,) * stages
  config.batch_size = 32
  config.eval_batch_size = 32
  config.steps = 3_000
  config.learning_rate = 1e-3
  config.cooldown = 0.3
  config.ema_decay = 0.99
  config.eval_every = 500
  config.checkpoint_every = 500
  config.lock()
  return config
