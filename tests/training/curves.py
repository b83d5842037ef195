"""Loss curves on the devices that there are; run by test_curves.

python curves.py KINDS CASES FOLDER [INDEX PORT]

Prints, for every case, kind and precision, the losses of 50 steps and the
metrics of an evaluation whose last batch is not full. With INDEX and PORT it is
one of two processes.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

from configs import class_numbering
from configs import clevr
from configs import random_multisets
from idspn_jax.tasks import registry
from idspn_jax.training import evaluation
from idspn_jax.training import hosts
from idspn_jax.training import parallel as parallel_lib
from idspn_jax.training import state as state_lib
from idspn_jax.training import step as step_lib

STEPS = 50
# Chaotic trainings amplify rounding; these rates keep the curves comparable.
RATES = {'multisets': 1e-3, 'numbering': 1e-3, 'rendered': 1e-4, 'kept': 1e-3}


def multisets():
  """Section 4.2."""
  config = random_multisets.get_config('n=2,d=2,T=3')
  config.data.num_train, config.data.num_test = 24, 11
  config.model.hidden_dim = config.model.latent_dim = 8
  return config


def numbering():
  """Section 4.1; every set starts from noise of its own."""
  config = class_numbering.get_config('n=3,T=2,samples=24,classes=2')
  config.data.num_validation, config.data.num_test = 4, 11
  config.model.hidden_dim = config.model.latent_dim = 8
  return config


def rendered():
  """Section 4.3, with BatchNorm; every picture is rendered on the device."""
  config = clevr.get_config('setting=reduced').copy_and_resolve_references()
  config.unlock()
  config.data.num_train, config.data.num_test = 0, 7
  config.data.cache_dir = sys.argv[3]
  config.data.min_objects, config.data.max_objects = 3, 4
  config.model.hidden_dim = config.model.latent_dim = 8
  config.model.image_encoder.width = 4
  config.model.iterations = 2
  return config


def kept():
  """Likewise, of pictures that were rendered before, with noise on them."""
  config = rendered()
  config.data.num_train = 12
  config.augmentation.noise = 0.02
  return config


def curves(make, kind, dtype):
  """Losses, and metrics of the test data."""
  with jax.enable_x64(dtype == 'float64'):
    return trained(*opened(make, kind), dtype)


def opened(make, kind):
  """The configuration, the experiment and its data."""
  config = make()
  with config.unlocked():
    config.batch_size = config.eval_batch_size = 4
    config.learning_rate = RATES[make.__name__]
    config.parallel = kind
  experiment = registry.build(config)
  return config, experiment, experiment.data(0)


def trained(config, experiment, data, dtype):
  """See `curves`."""

  def cast(tree):
    return jax.tree.map(
      lambda x: (
        np.asarray(x, dtype) if jnp.issubdtype(x.dtype, jnp.inexact) else x
      ),
      tree,
    )

  parallel = parallel_lib.make_parallel(config.parallel, config.batch_size)
  state = cast(state_lib.init_state(experiment.task, config))
  state = parallel.place_state(state)
  step = step_lib.make_train_step(
    experiment.task,
    config,
    axis_name=parallel.axis_name,
    mesh=parallel.mesh,
  )
  compiled, losses = None, []
  with data.train(0) as batches:
    for _ in range(STEPS):
      batch = parallel.place_batch(cast(dict(next(batches))))
      compiled = compiled or parallel.compile(step, state, batch)
      state, scalars = compiled(state, batch)
      losses.append(float(parallel.take_scalars(scalars)['loss']))
  evaluate = evaluation.Evaluator(experiment.task, [data], [0])
  (metrics,) = evaluate(parallel.take_state(state).variables)
  return {'losses': losses, 'metrics': metrics}


CASES = {
  multisets: ('float32', 'float64'),
  numbering: ('float32', 'float64'),
  rendered: ('float32', 'float64'),
  kept: ('float64',),
}


def main(kinds, cases):
  """Prints all curves as JSON, on its last line."""
  found = {}
  for make, dtypes in CASES.items():
    if make.__name__ not in cases.split(','):
      continue
    for kind in kinds.split(','):
      for dtype in dtypes:
        name = f'{make.__name__} {kind} {dtype}'
        found[name] = curves(make, kind, dtype)
        print(name, time.process_time(), file=sys.stderr, flush=True)
  print(json.dumps(found))


if __name__ == '__main__':
  if len(sys.argv) > 4:
    with hosts.session(f'127.0.0.1:{sys.argv[5]}', 2, int(sys.argv[4])):
      main(*sys.argv[1:3])
  else:
    main(*sys.argv[1:3])
