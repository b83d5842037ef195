"""Section 4.1: number the elements of each class (Tables 2, 4 and 8)."""

from collections.abc import Callable
import itertools
import os

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.data import class_numbering
from idspn_jax.losses import class_matching
from idspn_jax.metrics import equivariance
from idspn_jax.metrics import numbering_errors
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
_OWN_LOSS = 'hungarian'  # Each model's own pairwise cost, as in the paper.
# Of the measured equivariance: test sets, permutations of each, and what the
# rounding of float64 may add up to.
_EXAMPLES, _PERMUTATIONS, _ROUNDING = 4, 16, 1e-6


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
  model.positive(config.hidden_dim, 'model.hidden_dim')
  if name.startswith('transformer') and config.hidden_dim % 8:
    raise errors.UserError(
      'model.hidden_dim must be a multiple of 8 (the attention heads); got '
      f'{config.hidden_dim}.'
    )
  return _BASELINES[name](config.hidden_dim, set_size)


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses what the task could not be built from, without making its data.

  Raises:
    UserError: if a setting is wrong or settings do not combine.
  """
  data = config.data
  for name in ('set_size', 'num_classes', 'num_validation', 'num_test'):
    model.positive(data[name], f'data.{name}')
  if data.num_train != 0:
    model.positive(data.num_train, 'data.num_train (0 for ever new sets)')
    if config.batch_size > data.num_train:
      raise errors.UserError(
        f'batch_size is {config.batch_size} but there are only '
        f'{data.num_train} sets to train on; lower batch_size or raise '
        'data.num_train.'
      )
  model.choice(config.loss, 'loss', (_OWN_LOSS, *class_matching.COSTS))
  build_model(config.model_name, config.model, data.set_size)
  try:
    class_numbering.sample_labels(
      np.random.default_rng(0),
      0,
      data.set_size,
      data.num_classes,
      data.distinct_classes or None,
    )
  except ValueError as e:
    raise errors.UserError(f'config.data: {e}') from e


class ClassNumbering(task.Task):
  """Numbers the elements of each class of an input multiset."""

  headline = 'set_accuracy'
  selection = 'set_accuracy'

  def __init__(self, config):
    """Samples the data and builds the model; see `Task`."""
    super().__init__(config)
    check(config)
    data = config.data
    self.model = build_model(config.model_name, config.model, data.set_size)
    self.iterates = config.model_name in DECODERS
    self.cost = config.loss
    if config.loss == _OWN_LOSS:
      self.cost = 'l2' if self.iterates else 'cross_entropy'
    self.classes = {
      split: class_numbering.class_labels(
        data[f'num_{split}'],
        data.set_size,
        data.num_classes,
        config.seed,
        split,
        data.distinct_classes or None,
      )
      for split in class_numbering.SPLITS
    }

  def init(self, key):
    """See `Task.init`."""
    names = ('params', 'initial_set', 'positions')
    rngs = dict(zip(names, jax.random.split(key, 3), strict=True))
    return self.model.init(rngs, self._one_hot(self.classes['test'][:1]))[
      'params'
    ]

  def _one_hot(self, classes):
    return jax.nn.one_hot(classes, self.config.data.num_classes)

  def train_batches(self, first_step):
    """See `Task.train_batches`."""
    for step, classes in enumerate(self._train_classes(first_step), first_step):
      if self.config.data.permute:
        rng = np.random.default_rng([self.config.seed, 3, step])
        classes = class_numbering.permuted(classes, rng)
      yield {'classes': classes, 'numbers': class_numbering.numbering(classes)}

  def _train_classes(self, first_step):
    """Labels of the steps from `first_step`: out of memory, or made anew."""
    config, data = self.config, self.config.data
    if data.num_train:
      batches = task.shuffled_batches(
        {'classes': self.classes['train']},
        config.batch_size,
        config.seed,
        first_step,
      )
      yield from (batch['classes'] for batch in batches)
    for step in itertools.count(first_step):
      yield class_numbering.sample_labels(
        np.random.default_rng([config.seed, 4, step]),
        config.batch_size,
        data.set_size,
        data.num_classes,
        data.distinct_classes or None,
      )

  def eval_batches(self, split='test'):
    """See `Task.eval_batches`."""
    classes = self.classes[split]
    arrays = {
      'classes': classes,
      'numbers': class_numbering.numbering(classes),
    }
    size = min(self.config.eval_batch_size, len(classes))
    return task.padded_batches(arrays, size)

  def predict(self, params, classes, key, iterations=None, initial_set=None):
    """Scores every number for every element.

    Args:
      params: parameters.
      classes: class of every element, `(B, N)`, integers below K.
      key: for sampled initial sets and positions.
      iterations: inner steps, or None for the configured number.
      initial_set: start of iDSPN and DSPN, `(N, N)` or `(B, N, N)`, instead of
        a sampled one.

    Returns:
      Scores, `(B, N, N)`: probabilities of iDSPN and DSPN, logits of others.

    Raises:
      ValueError: if the sets have another size than the model's, or (outside
        of `jax.jit`) a label is not below K.
    """
    size = self.config.data.set_size
    if classes.ndim != 2 or classes.shape[1] != size:
      raise ValueError(
        f'classes need shape (B, {size}), one label per element of sets of '
        f'size {size}; got {classes.shape}.'
      )
    if not isinstance(classes, jax.core.Tracer):
      self._check_labels(np.asarray(classes))
    set_key, position_key = jax.random.split(key)
    rngs = {'initial_set': set_key, 'positions': position_key}
    options = {}
    if self.iterates:
      options['iterations'] = iterations
      options['initial_set'] = initial_set
    return self.model.apply(
      {'params': params}, self._one_hot(classes), rngs=rngs, **options
    )

  def _check_labels(self, classes):
    known = self.config.data.num_classes
    if not np.issubdtype(classes.dtype, np.integer):
      raise ValueError(f'classes need to be integers; got {classes.dtype}.')
    wrong = classes[(classes < 0) | (classes >= known)]
    if wrong.size:
      raise ValueError(
        f'This model knows the classes 0 to {known - 1}; got {wrong[0]}.'
      )

  def loss(self, params, batch, key):
    """See `Task.loss`."""
    found = self.metrics(params, batch, key)
    found = {name: jnp.mean(value) for name, value in found.items()}
    return found.pop('loss'), found

  def metrics(self, params, batch, key, iterations=None):
    """See `Task.metrics`.

    `element_accuracy` and `set_accuracy` are under the loss's own matching;
    `multiset_accuracy` counts (class, number) pairs and needs none. Where a
    score is not finite, all are zero.
    """
    classes, numbers = batch['classes'], batch['numbers']
    scores = self.predict(params, classes, key, iterations)
    target = jax.nn.one_hot(numbers, classes.shape[-1])
    loss, matching = class_matching.class_matched_loss(
      scores, target, classes, self.cost
    )
    predicted = jnp.argmax(scores, axis=-1)
    elements, sets = set_accuracy.matched_accuracy(predicted, numbers, matching)
    equal = set_accuracy.multiset_equal(
      predicted, numbers, classes, self.config.data.num_classes
    )
    # What is no number is not right by being taken for a zero.
    known = jnp.all(jnp.isfinite(scores), axis=(-2, -1))
    return {
      'loss': loss,
      'element_accuracy': jnp.where(known, elements, 0.0),
      'set_accuracy': jnp.where(known, sets, 0.0),
      'multiset_accuracy': jnp.where(known, equal, 0.0),
    }

  def draw(self, params, key, iterations, directory):
    """See `Task.draw`: predicted against true numbers of some test sets."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import numbering

    classes = self.classes['test'][:256]
    worst = {}
    for t in iterations:
      scores = self.predict(params, jnp.asarray(classes), key, t)
      label = 'prediction' if t is None else f'T = {t}'
      worst[label] = numbering_errors.worst_numbering(
        classes, np.argmax(scores, axis=-1), self.config.data.num_classes
      )
    path = os.path.join(directory, 'numbering.png')
    return [numbering.draw_numberings(worst, path)]

  def equivariance(self, params, key):
    """Measures how far the model is from Definitions 1 and 2 of Section 2.2.

    Some test sets are given to the model under random permutations, and the
    scores compared. The noise of a model stays where it is while the input is
    permuted. The noise of iDSPN and DSPN is no part of the function that they
    approximate but a start of its minimisation: here they start from equal
    elements, so that nothing but FSPool can tell equal elements apart. All is
    computed in float64: in large sets, float32 rounds equal elements apart.

    Args:
      params: parameters.
      key: for sampled positions.

    Returns:
      For 'set' and 'multiset': `error`, the largest difference of two scores
      relative to the largest score, and whether the law `holds`, up to
      rounding.
    """
    with jax.enable_x64(True):
      params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), params)
      return self._equivariance(params, key)

  def _equivariance(self, params, key):
    size = self.config.data.set_size
    start = jnp.full((size, size), 1.0 / size) if self.iterates else None

    @jax.jit
    def function(one_hot):
      def one(x):
        classes = jnp.argmax(x, axis=-1)[None]
        return self.predict(params, classes, key, initial_set=start)[0]

      # Mapped, so that all sets of a batch meet the same noise.
      return jax.vmap(one)(one_hot)

    permutations = equivariance.random_permutations(size, _PERMUTATIONS)
    found = {}
    for name, law in (
      ('set', equivariance.set_equivariance_error),
      ('multiset', equivariance.multiset_equivariance_error),
    ):
      error = 0.0
      for classes in self.classes['test'][:_EXAMPLES]:
        one_hot = np.asarray(self._one_hot(classes))
        largest = float(np.max(np.abs(function(one_hot[None]))))
        # What gives no numbers keeps no law.
        good = np.isfinite(largest) and largest > 0
        own = law(function, one_hot, permutations) / largest if good else np.inf
        error = max(error, own)
      found[name] = {'error': error, 'holds': error <= _ROUNDING}
    return found

  def worst_numbering(self, params, key):
    """Finds the test set with most wrong numbers.

    Args:
      params: parameters.
      key: for sampled initial sets and positions.

    Returns:
      Its predicted `numbering_errors.Numbering`.
    """
    predict = jax.jit(self.predict)
    classes, predictions = [], []
    for i, (batch, weight) in enumerate(self.eval_batches('test')):
      given = batch['classes']
      found = predict(params, given, jax.random.fold_in(key, i))
      predicted = np.argmax(found, axis=-1)
      classes.append(given[weight > 0])
      predictions.append(predicted[weight > 0])
    return numbering_errors.worst_numbering(
      np.concatenate(classes),
      np.concatenate(predictions),
      self.config.data.num_classes,
    )
