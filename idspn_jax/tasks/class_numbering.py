"""Section 4.1: number the elements of each class (Tables 2, 4 and 8)."""

from collections.abc import Callable
import os

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.data import class_numbering
from idspn_jax.losses import class_matching
from idspn_jax.metrics import set_accuracy
from idspn_jax.modules import autoencoder
from idspn_jax.modules import deep_sets
from idspn_jax.modules import lstm
from idspn_jax.modules import transformer
from idspn_jax.tasks import model
from idspn_jax.tasks import task

DECODERS = ('idspn', 'dspn')
_BASELINES: dict[str, Callable] = {
  'deep_sets': deep_sets.EquivariantDeepSets,
  'transformer': transformer.SetTransformer,
  'transformer_pe': lambda h, n: transformer.SetTransformer(
    h, n, positions='sinusoidal'
  ),
  'transformer_random_pe': lambda h, n: transformer.SetTransformer(
    h, n, positions='random'
  ),
  'bilstm': lstm.BidirectionalLSTM,
}
MODELS = (*_BASELINES, *DECODERS)


def build_model(
  name: str, config: ml_collections.ConfigDict, set_size: int
) -> Callable:
  """Builds one of the seven models.

  Args:
    name: one of `MODELS`.
    config: the `model` part of a config.
    set_size: elements per set N, and numbers to choose from.

  Returns:
    A Flax module from one-hot classes `(B, N, K)` to scores `(B, N, N)`.

  Raises:
    UserError: if the name or a setting is wrong.
  """
  model.choice(name, 'model_name', MODELS)
  if name in DECODERS:
    built = model.build_autoencoder(config, set_size, set_size)
    return autoencoder.SetAutoencoder(
      built.input_encoder, built.decoder, condition_on_input=True
    )
  if name.startswith('transformer') and config.hidden_dim % 8:
    raise errors.UserError(
      'model.hidden_dim must be a multiple of 8 (the attention heads); got '
      f'{config.hidden_dim}.'
    )
  return _BASELINES[name](config.hidden_dim, set_size)


class ClassNumbering(task.Task):
  """Numbers the elements of each class of an input multiset."""

  headline = 'set_accuracy'

  def __init__(self, config):
    """Samples the data and builds the model; see `Task`."""
    super().__init__(config)
    data = config.data
    for name in ('set_size', 'num_classes', 'num_train', 'num_test'):
      model.positive(data[name], f'data.{name}')
    self.model = build_model(config.model_name, config.model, data.set_size)
    self.cost = 'l2' if config.model_name in DECODERS else 'cross_entropy'
    try:
      self.train, self.test = (
        class_numbering.class_labels(
          count,
          data.set_size,
          data.num_classes,
          config.seed,
          split,
          data.distinct_classes or None,
        )
        for count, split in ((data.num_train, 'train'), (data.num_test, 'test'))
      )
    except ValueError as e:
      raise errors.UserError(f'config.data: {e}') from e

  def init(self, key):
    """See `Task.init`."""
    names = ('params', 'initial_set', 'positions')
    rngs = dict(zip(names, jax.random.split(key, 3), strict=True))
    return self.model.init(rngs, self._one_hot(self.test[:1]))['params']

  def _one_hot(self, classes):
    return jax.nn.one_hot(classes, self.config.data.num_classes)

  def train_batches(self, first_step):
    """See `Task.train_batches`."""
    config = self.config
    batches = task.shuffled_batches(
      {'classes': self.train}, config.batch_size, config.seed, first_step
    )
    for step, batch in enumerate(batches, first_step):
      classes = batch['classes']
      if config.data.permute:
        rng = np.random.default_rng([config.seed, 3, step])
        classes = class_numbering.permuted(classes, rng)
      yield {'classes': classes, 'numbers': class_numbering.numbering(classes)}

  def eval_batches(self):
    """See `Task.eval_batches`."""
    arrays = {
      'classes': self.test,
      'numbers': class_numbering.numbering(self.test),
    }
    size = min(self.config.eval_batch_size, len(self.test))
    return task.padded_batches(arrays, size)

  def predict(self, params, classes, key, iterations=None):
    """Returns scores for every element and number, `(B, N, N)`."""
    set_key, position_key = jax.random.split(key)
    rngs = {'initial_set': set_key, 'positions': position_key}
    options = {}
    if self.config.model_name in DECODERS:
      options['iterations'] = iterations
    return self.model.apply(
      {'params': params}, self._one_hot(classes), rngs=rngs, **options
    )

  def _score(self, params, batch, key, iterations=None):
    classes, numbers = batch['classes'], batch['numbers']
    scores = self.predict(params, classes, key, iterations)
    target = jax.nn.one_hot(numbers, classes.shape[-1])
    loss, matching = class_matching.class_matched_loss(
      scores, target, classes, self.cost
    )
    predicted = jnp.argmax(scores, axis=-1)
    elements, sets = set_accuracy.matched_accuracy(predicted, numbers, matching)
    return predicted, {
      'loss': loss,
      'element_accuracy': elements,
      'set_accuracy': sets,
    }

  def loss(self, params, batch, key):
    """See `Task.loss`."""
    _, found = self._score(params, batch, key)
    found = {name: jnp.mean(value) for name, value in found.items()}
    return found.pop('loss'), found

  def metrics(self, params, batch, key, iterations=None):
    """See `Task.metrics`.

    `element_accuracy` and `set_accuracy` are under the loss's own matching;
    `multiset_accuracy` counts (class, number) pairs and needs none.
    """
    predicted, found = self._score(params, batch, key, iterations)
    found['multiset_accuracy'] = set_accuracy.multiset_equal(
      predicted,
      batch['numbers'],
      batch['classes'],
      self.config.data.num_classes,
    )
    return found

  def draw(self, params, key, iterations, directory):
    """See `Task.draw`: predicted against true numbers of some test sets."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import numbering

    classes = self.test[:256]
    predicted = {
      t: np.argmax(self.predict(params, jnp.asarray(classes), key, t), -1)
      for t in iterations
    }
    path = os.path.join(directory, 'numbering.png')
    return [
      numbering.draw_worst_numbering(
        classes, predicted, self.config.data.num_classes, path
      )
    ]
