"""A small task for tests of training: regression by a net with BatchNorm."""

import contextlib
import functools

from flax import linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from idspn_jax.runs import config as config_lib
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import task as task_lib
from idspn_jax.training import parallel

SIZES = {'train': 24, 'validation': 10, 'test': 11}


class Net(nn.Module):
  """Regression; `axis_name` is the mapped axis that divides the batch."""

  axis_name: str | None = None

  @nn.compact
  def __call__(self, x, train):
    # No bias: its gradient would be rounding errors, which Adam magnifies.
    x = nn.Dense(4, use_bias=False)(x)
    x = nn.BatchNorm(
      use_running_average=not train, momentum=0.8, axis_name=self.axis_name
    )(x)
    return nn.Dense(1)(x)[..., 0]


class Toy(task_lib.Task):
  """Predicts `y` of `x`; counts how often its loss is traced.

  Attributes:
    traces: the `iterations` of every trace of the loss.
    seen: indices of the examples that every call of `summarize` got.
  """

  def __init__(self, config):
    """Builds the net."""
    super().__init__(config)
    self.selection = config.toy.selection or None
    self.iterates = config.toy.iterates
    self.counts_fallbacks = config.toy.counts_fallbacks
    mapped = config.parallel == 'pmap'
    self.net = Net(parallel.BATCH_AXIS if mapped else None)
    self.traces = []
    self.seen = []

  def init(self, key):
    variables = self.net.init(key, jnp.zeros((1, 3)), train=False)
    return {**variables, 'counters': {'steps': jnp.zeros((), jnp.int32)}}

  def prepare(self, batch, key):
    if not self.config.toy.on_device:
      return batch
    x = jax.random.normal(key, (len(batch['index']), 3))
    return {'x': x, 'y': target(x)}

  def loss(self, params, model_state, batch, key, *, iterations=None):
    self.traces.append(iterations)
    variables = {
      'params': params,
      'batch_stats': model_state['batch_stats'],
    }
    output, changed = self.net.apply(
      variables, batch['x'], train=True, mutable=['batch_stats']
    )
    loss = jnp.mean((output - batch['y']) ** 2)
    if self.counts_fallbacks:
      # The derivative with respect to `fallbacks` flags sets.
      flagged = jnp.where(batch['x'][:, 0] > 0, 1.0, 0.0)
      loss += jnp.sum(flagged * batch['fallbacks'])
    steps = model_state['counters']['steps'] + 1
    scalars = {'output': jnp.mean(output), 'iterations': iterations or 0}
    new_state = {**changed, 'counters': {'steps': steps}}
    return loss, task_lib.LossOutput(
      new_state, jax.tree.map(jnp.asarray, scalars)
    )

  def evaluate(self, variables, batch, key, **decode_options):
    del key, decode_options
    own = {name: variables[name] for name in ('params', 'batch_stats')}
    output = self.net.apply(own, batch['x'], train=False)
    error = (output - batch['y']) ** 2
    return {'error': error, 'index': batch['index']}

  def summarize(self, metrics):
    """The median is no mean of batches."""
    self.seen.append(metrics['index'].tolist())
    return {
      'loss': float(np.mean(metrics['error'])),
      'median': float(np.median(metrics['error'])),
      'score': -float(np.mean(metrics['error'])),
    }


def target(x):
  """What is to be learned."""
  return 2.0 * x[..., 0] - x[..., 1]


class ToyData(data_lib.ArrayData):
  """Counts the streams of training batches.

  Attributes:
    events: 'open' and 'close' of every stream.
  """

  def __init__(self, config, seed):
    """Draws all splits."""
    rng = np.random.default_rng(seed)
    splits = {}
    for name, count in SIZES.items():
      x = (3 * rng.normal(size=(count, 3)) + 5).astype(np.float32)
      splits[name] = {'x': x, 'y': target(x), 'index': np.arange(count)}
    super().__init__(splits, config.batch_size, config.eval_batch_size, seed)
    self.events = []

  @contextlib.contextmanager
  def train(self, first_step):
    """See `Data.train`."""
    self.events.append('open')
    try:
      with super().train(first_step) as batches:
        yield batches
    finally:
      self.events.append('close')


def build(config):
  """Builds the experiment; see `registry.register_task`."""
  of_seed = functools.cache(lambda seed: ToyData(config, seed))
  return task_lib.Experiment(Toy(config), of_seed)


def get_config(**changes) -> ml_collections.ConfigDict:
  """A run of a second; `optimizer__name='sgd'` changes `optimizer.name`."""
  config = config_lib.default_config()
  config.task = 'toy'
  config.toy = ml_collections.ConfigDict(
    {
      'selection': '',
      'iterates': True,
      'counts_fallbacks': False,
      'on_device': False,
    }
  )
  config.model = ml_collections.ConfigDict({'iterations': 3})
  config.batch_size, config.eval_batch_size = 8, 4
  config.learning_rate = 0.05
  config.steps, config.log_every = 6, 1
  config.eval_every = config.checkpoint_every = 3
  config.update_from_flattened_dict(
    {key.replace('__', '.'): value for key, value in changes.items()}
  )
  return config


class Recorder:
  """Builds the toy and remembers the experiments that were built."""

  def __init__(self):
    """Starts without any."""
    self.built = []

  def __call__(self, config):
    """See `build`."""
    self.built.append(build(config))
    return self.built[-1]
