"""Section 4.2: autoencoding random multisets (Tables 5 and 6)."""

import os

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax import errors
from idspn_jax.data import random_multisets
from idspn_jax.tasks import model
from idspn_jax.tasks import task

EXAMPLES = 4


class RandomMultisets(task.Task):
  """Reconstructs sets of i.i.d. normal elements from one vector."""

  def __init__(self, config):
    """Samples the data and builds the model; see `Task`."""
    super().__init__(config)
    data = config.data
    for name in ('set_size', 'set_dim', 'num_train', 'num_test'):
      model.positive(data[name], f'data.{name}')
    if config.batch_size > data.num_train:
      raise errors.UserError(
        f'batch_size is {config.batch_size} but there are only '
        f'{data.num_train} sets to train on; lower --config.batch_size.'
      )
    shape = (data.set_size, data.set_dim)
    self.model = model.build_autoencoder(config.model, *shape)
    self.set_loss = model.build_loss(config.loss)
    self.train, self.test = (
      random_multisets.random_multisets(count, *shape, config.seed, split)
      for count, split in ((data.num_train, 'train'), (data.num_test, 'test'))
    )

  def init(self, key):
    """See `Task.init`."""
    params_key, set_key = jax.random.split(key)
    rngs = {'params': params_key, 'initial_set': set_key}
    return self.model.init(rngs, jnp.asarray(self.test[:1]))['params']

  def train_batches(self, first_step):
    """See `Task.train_batches`."""
    return task.shuffled_batches(
      {'input': self.train},
      self.config.batch_size,
      self.config.seed,
      first_step,
    )

  def eval_batches(self, split='test'):
    """See `Task.eval_batches`."""
    del split  # Nothing is selected: all that is held out is to test.
    size = min(self.config.eval_batch_size, len(self.test))
    return task.padded_batches({'input': self.test}, size)

  def reconstruct(self, params, sets, key, iterations=None):
    """Returns reconstructions, `(B, N, D)`."""
    return self.model.apply(
      {'params': params},
      sets,
      iterations=iterations,
      rngs={'initial_set': key},
    )

  def loss(self, params, batch, key):
    """See `Task.loss`."""
    sets = batch['input']
    prediction = self.reconstruct(params, sets, key)
    return jnp.mean(self.set_loss(prediction, sets)), {}

  def metrics(self, params, batch, key, iterations=None):
    """See `Task.metrics`; the loss is the paper's whatever it trains with."""
    sets = batch['input']
    prediction = self.reconstruct(params, sets, key, iterations)
    return {'loss': model.LOSSES['hungarian'](prediction, sets)}

  def draw(self, params, key, iterations, directory):
    """See `Task.draw`."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import sets as set_figures
    from idspn_jax.figures import trajectories

    shown = jnp.asarray(self.test[:EXAMPLES])
    many = jnp.asarray(self.test[:256])
    decoded = {
      t: np.asarray(self.reconstruct(params, shown, key, t)) for t in iterations
    }
    on_the_way = self.model.apply(
      {'params': params},
      self.model.apply({'params': params}, many, method='encode'),
      iterations=max(iterations),
      trajectory=True,
      rngs={'initial_set': key},
      method='decode',
    )
    return [
      set_figures.draw_random_sets(
        np.asarray(shown), decoded, os.path.join(directory, 'sets.png')
      ),
      trajectories.draw_trajectory(
        np.asarray(on_the_way.energy),
        np.asarray(on_the_way.residual),
        os.path.join(directory, 'inner_optimisation.png'),
      ),
    ]
