"""Class-specific numbering (Section 4.1, Tables 2 and 4).

    python -m experiments.train --workdir=runs/numbering_idspn \
      --config=configs/class_numbering.py:model=idspn,samples=640

Arguments after the colon, all optional:
  setting   paper (default), or reduced for two CPU cores: sets of 16, narrow
            models, 3,000 (DSPN) to 10,000 (iDSPN) steps; DSPN with larger
            inner steps, both with a cooldown, iDSPN with a warm-up and with
            gradients that pass the simplex's constraints; minutes a model
  model     idspn (default), dspn, deep_sets, transformer, transformer_pe,
            transformer_random_pe, bilstm
  samples   training sets: 640 (default), 6400 or 64000 in the paper; 0 makes
            new ones for every step
  classes   4 (default) or 8; with 8, each set draws from 4 of them
  n         elements per set; 64 in the paper, 16 reduced
  T         inner steps of iDSPN and DSPN; 20 in the paper
  permute   1 permutes every training set anew, the paper's data augmentation
  seed      default 0; another seed draws other data, too

More: --config.data.distinct_classes=0 lets sets of 8 classes contain all of
them; --config.loss=l2 or cross_entropy is the pairwise cost instead of the
model's own (hungarian).

Every 500 steps the set accuracy on the validation data is taken; the step at
which it was highest is tested, in the paper's setting on 64,000 sets. That
setting takes 50,000 steps, which is a GPU's work; with 640 samples the paper
has 96.8 ± 0.6 % for iDSPN and 89.4 ± 2.4 % for DSPN (Table 2). All models, and
the tables: `python -m experiments.reproduce`.
"""

import ml_collections

from idspn_jax import checks
from idspn_jax.data import class_numbering as data_lib
from idspn_jax.runs import config as config_lib
from idspn_jax.tasks import model
from idspn_jax.tasks import numbering_models

# Widths of the paper at 4 classes; 8 classes double them.
_WIDTHS = {
  'idspn': 256,
  'dspn': 256,
  'deep_sets': 256,
  'transformer': 64,
  'transformer_pe': 64,
  'transformer_random_pe': 64,
  'bilstm': 64,
}
# Width and steps of the reduced setting, where they are not 32 and 4,000.
_REDUCED = {
  'idspn': (64, 10_000),
  'dspn': (128, 3_000),
  'deep_sets': (64, 4_000),
}
# The share of the steps over which the learning rate falls to zero.
_COOLDOWN = {'idspn': 0.8, 'dspn': 0.1}
# Steps over which the learning rate rises from zero in the reduced setting.
_WARMUP = {'idspn': 500}
_DEFAULTS = {
  'setting': 'paper',
  'model': 'idspn',
  'samples': 640,
  'classes': 4,
  'n': 64,
  'T': 20,
  'permute': 0,
  'seed': 0,
}
SETTINGS = ('paper', 'reduced')


def get_config(arguments: str = '') -> ml_collections.ConfigDict:
  """Returns the paper's setting, or a smaller one."""
  given = config_lib.parse_arguments(arguments, _DEFAULTS)
  checks.choice(given['setting'], 'setting', SETTINGS)
  checks.choice(given['model'], 'model', numbering_models.MODELS)
  checks.choice(given['permute'], 'permute', (0, 1))
  reduced = given['setting'] == 'reduced'
  if reduced:
    given = config_lib.parse_arguments(arguments, {**_DEFAULTS, 'n': 16})
  config = config_lib.default_config()
  config.task = 'class_numbering'
  config.model_name = given['model']
  config.seed = given['seed']
  config.steps = 50_000
  config.eval_every = config.checkpoint_every = 500
  config.eval_batch_size = 640
  config.data = ml_collections.ConfigDict(
    {
      'set_size': given['n'],
      'num_classes': given['classes'],
      # 0: a set may contain any of the classes.
      'distinct_classes': min(
        given['classes'], data_lib.PAPER_DISTINCT_CLASSES
      ),
      'num_train': given['samples'],
      'num_validation': 6_400,
      'num_test': 64_000,
      'permute': bool(given['permute']),
    }
  )
  config.model = model.default_config()
  config.model.iterations = given['T']
  width = _WIDTHS[given['model']] * (2 if given['classes'] == 8 else 1)
  config.model.hidden_dim = config.model.latent_dim = width
  config.model.projection = 'simplex'
  config.model.initial_set = 'normal'
  config.model.regularizer = 0.0
  if given['model'] == 'dspn':
    # Recomputed steps give the same gradient with less memory; on CPUs, where
    # memory is slow, sooner too.
    config.model.update({'gradient': 'unrolled_checkpointed', 'momentum': 0.0})
  else:
    config.model.grad_clip = 40.0
  if reduced:
    _reduce(config)
  config.lock()
  return config


def _reduce(config):
  """Narrow models, fast steps, less data to evaluate on.

  Widths and steps differ, for DSPN needs width and takes long for a step while
  iDSPN generalises best with a small latent and many steps. Without momentum, a
  DSPN of the paper's inner rate 1 hardly moves its set until the weights have
  grown, which its few steps here do not leave time for. At a high learning rate
  DSPN's last steps are noisy and iDSPN may lose what it has learned, so it
  falls: at the end of the one, early in the other. Without a warm-up, the first
  steps may scale up iDSPN's encoder until its inner steps oscillate, from which
  some seeds do not recover. With the exact derivative of the projection, some
  trainings never learn the numbers of single elements of a class, which sit at
  wrong vertices without a gradient.
  """
  width, steps = _REDUCED.get(config.model_name, (32, 4_000))
  config.model.hidden_dim = config.model.latent_dim = width
  config.steps = steps
  config.learning_rate = 3e-3
  if config.model_name == 'dspn':
    config.model.learning_rate = 3.0
  if config.model_name == 'idspn':
    config.model.projection = 'simplex_straight_through'
  config.cooldown = _COOLDOWN.get(config.model_name, 0.0)
  config.optimizer.warmup_steps = _WARMUP.get(config.model_name, 0)
  config.data.num_validation = 2_560
  config.data.num_test = 6_400
