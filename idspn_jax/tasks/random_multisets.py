"""Section 4.2: autoencoding random multisets (Tables 5 and 6)."""

import functools

import jax.numpy as jnp
import ml_collections
import numpy as np

from idspn_jax import checks
from idspn_jax.data import random_multisets
from idspn_jax.tasks import autoencoding
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import model
from idspn_jax.tasks import task

EXAMPLES = 4
# Sets whose inner optimisation is drawn.
_MANY = 256


class RandomMultisets(autoencoding.SetAutoencoding):
  """Reconstructs sets of i.i.d. normal elements from one vector."""

  def evaluate(self, variables, batch, key, **decode_options):
    """See `Task.evaluate`; the loss is the paper's whatever it trains with."""
    sets = batch['input']
    decoded = self.decode(variables, sets, key, **decode_options)
    return {'loss': model.LOSSES['hungarian'](decoded.set, sets)}

  def draw(self, variables, data, key, iterations):
    """See `Task.draw`: reconstructions, and how the inner problem converges."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import sets as set_figures
    from idspn_jax.figures import trajectories

    shown = jnp.asarray(data.examples(EXAMPLES)['input'])
    many = jnp.asarray(data.examples(_MANY)['input'])
    decoded = {
      t: np.asarray(self.decode(variables, shown, key, iterations=t).set)
      for t in iterations
    }
    longest = max(t or self.config.model.iterations for t in iterations)
    path = self.decode(
      variables, many, key, iterations=longest, trajectory=True
    )
    trained_with = self.config.model.iterations
    return {
      'sets': set_figures.draw_random_sets(
        np.asarray(shown), decoded, trained_with=trained_with
      ),
      'inner_optimisation': trajectories.draw_trajectory(
        np.asarray(path.energy),
        np.asarray(path.residual),
        trained_with=trained_with,
      ),
    }


def build(config: ml_collections.ConfigDict) -> task.Experiment:
  """Builds the experiment; another seed draws other data.

  Raises:
    UserError: if a value is impossible.
  """
  data = config.data
  for name in ('set_size', 'set_dim', 'num_train', 'num_test'):
    checks.integer(data[name], f'config.data.{name}')
  data_lib.check_batch_size(
    config.batch_size, data.num_train, 'lower --config.batch_size'
  )
  shape = (data.set_size, data.set_dim)
  built = RandomMultisets(config, *shape)

  @functools.cache
  def of_seed(seed):
    splits = {
      split: {
        'input': random_multisets.random_multisets(count, *shape, seed, split)
      }
      for split, count in (('train', data.num_train), ('test', data.num_test))
    }
    return data_lib.ArrayData(
      splits,
      config.batch_size,
      config.eval_batch_size,
      seed,
      config.random_streams,
    )

  return task.Experiment(built, of_seed)
