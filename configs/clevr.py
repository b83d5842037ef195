"""CLEVR pictures to sets of objects (Section 4.3, Tables 3 and 7).

    python -m experiments.train --config=configs/clevr.py:setting=reduced \
      --workdir=runs/clevr_reduced
    python -m experiments.evaluate --workdir=runs/clevr_reduced \
      --iterations=10,20,40 --restarts=1,4

Arguments after the colon, all optional:
  model       idspn (default), dspn, dspn_momentum (0.5), dspn_momentum_high
              (0.9), and iDSPN with another pooling in its inner encoder:
              idspn_sum, idspn_mean, idspn_rnfs, or momentum 0.5:
              idspn_momentum_half; slot_attention,
              slot_attention_symmetric, slot_attention_scene (Table 3's three
              scales of coordinates), slot_mlp
  setting     full (default), as in Appendix F.3: 128×128 pixels, 3 to 10
              objects, ResNet-18, 100 epochs of 70,000 pictures; reduced: 64×64
              pixels, 3 to 6 objects, half the width (the slot models keep
              theirs), for two CPU cores
  size        height and width of the pictures in pixels; 128 or 64 by setting
  data        rendered (default), tfds (see experiments.prepare_clevr) or tree,
              an unpacked CLEVR_v1.0; the latter two need
              --config.data.data_dir=DIR
  decoder     a run of configs/clevr_state.py with the same setting, whose set
              decoder is taken as it is; the image encoder then learns the
              latent vectors of the true sets too. Default: all is trained
  seed        default 0

The paper's iDSPN at 128×128 has an average precision (of every image, averaged)
of 98.8, 98.5, 98.2, 95.8, 76.9, 32.3 % at ∞, 1, 0.5, 0.25, 0.125, 0.0625.
"""

import ml_collections

from idspn_jax import checks
from idspn_jax.runs import config as config_lib
from idspn_jax.tasks import clevr_sources
from idspn_jax.tasks import image_models
from idspn_jax.tasks import images

_IDSPN = {'gradient': 'jacobian_free', 'momentum': 0.9}
MODELS = {
  'idspn': _IDSPN,
  'idspn_sum': {**_IDSPN, 'pool': 'sum'},
  'idspn_mean': {**_IDSPN, 'pool': 'mean'},
  'idspn_rnfs': {**_IDSPN, 'pool': 'rnfs'},
  'dspn': {'gradient': 'unrolled', 'momentum': 0.0},
  'dspn_momentum': {'gradient': 'unrolled', 'momentum': 0.5},
  'dspn_momentum_high': {'gradient': 'unrolled', 'momentum': 0.9},
  'idspn_momentum_half': {**_IDSPN, 'momentum': 0.5},
  'slot_attention': {'name': 'slot_attention'},
  'slot_attention_symmetric': {
    'name': 'slot_attention',
    'slots': {'coordinates': 'symmetric', 'loss_at': 'all'},
  },
  'slot_attention_scene': {
    'name': 'slot_attention',
    'slots': {'coordinates': 'scene', 'loss_at': 'all'},
  },
  'slot_mlp': {'name': 'slot_mlp'},
}
SETTINGS = ('full', 'reduced')
_EPOCHS = 100
_TRAIN_IMAGES = 70_000


def get_config(arguments: str = '') -> ml_collections.ConfigDict:
  """Returns the paper's setting, or a reduced one for CPUs."""
  given = config_lib.parse_arguments(
    arguments,
    {
      'model': 'idspn',
      'setting': 'full',
      'size': 0,
      'data': 'rendered',
      'decoder': '',
      'seed': 0,
    },
  )
  checks.choice(given['model'], 'model', MODELS)
  checks.choice(given['setting'], 'setting', SETTINGS)
  checks.choice(given['data'], 'data', clevr_sources.SOURCES)
  reduced = given['setting'] == 'reduced'
  config = config_lib.default_config()
  config.task = 'clevr'
  config.seed = given['seed']
  config.data = clevr_sources.default_config()
  config.data.source = given['data']
  config.data.image_size = given['size'] or (64 if reduced else 128)
  # Another unpacked CLEVR_v1.0 to test on; '' for the data's own pictures.
  config.data.path = ''
  # What counts as 1 in the model's coordinates, in scene units; 3 in the paper.
  config.data.coordinate_unit = 3.0
  config.augmentation = images.default_augmentation()
  config.model = image_models.default_config()
  config.model.update(MODELS[given['model']])
  config.batch_size = 128
  config.eval_batch_size = 125
  config.steps = _EPOCHS * (_TRAIN_IMAGES // config.batch_size)
  config.iterations_schedule = '20,40@0.5'
  config.model.iterations = 40
  config.optimizer.schedule = 'steps'
  config.eval_every = 5 * (_TRAIN_IMAGES // config.batch_size)
  if reduced:
    _reduce(config)
  if config.model.name != 'set_decoder':
    _train_slots(config)
  if given['decoder']:
    config.initial_weights.source = given['decoder']
    config.initial_weights.part = 'decoder'
    config.model.latent_loss = 1.0
    config.model.train_decoder = False
  config.lock()
  return config


def _reduce(config):
  """What two CPU cores train in hours."""
  config.data.max_objects = 6
  config.data.leave_out = True
  config.data.num_test = 2_000
  config.data.coordinate_unit = 1.5
  config.batch_size = 64
  config.steps = 60_000
  config.eval_every = 2_500
  config.checkpoint_every = 1_000
  config.model.hidden_dim = 256
  config.model.latent_dim = 256
  config.model.image_encoder.width = 32
  config.model.image_encoder.stem = 'patch'
  config.model.iterations = 20
  config.iterations_schedule = ''
  config.optimizer.schedule = 'constant'
  config.cooldown = 0.3
  config.ema_decay = 0.999


def _train_slots(config):
  """As Slot Attention was trained, where that differs."""
  config.learning_rate = 4e-4
  config.optimizer.warmup_steps = 1_000
  config.iterations_schedule = ''
