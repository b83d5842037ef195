"""Section 4.1: number the elements of each class (Tables 2, 4 and 8)."""

import contextlib
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.data import class_numbering
from idspn_jax.data import set_files
from idspn_jax.losses import class_matching
from idspn_jax.metrics import numbering_errors
from idspn_jax.metrics import set_accuracy
from idspn_jax.tasks import autoencoding
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import model
from idspn_jax.tasks import numbering_models
from idspn_jax.tasks import task

_OWN_LOSS = 'hungarian'  # Each model's own pairwise cost, as in the paper.
_DRAWN = 256  # Test sets of which the worst is drawn.
# Random streams of a seed: permutations of training sets, online sampling.
_PERMUTED, _SAMPLED = 3, 4


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses what the task could not be built from, without making its data.

  Raises:
    UserError: if a setting is wrong or settings do not combine.
  """
  data = config.data
  for name in ('set_size', 'num_classes', 'num_validation', 'num_test'):
    checks.integer(data[name], f'config.data.{name}')
  checks.integer(
    data.num_train, 'config.data.num_train (0 for online sampling)', least=0
  )
  checks.integer(data.distinct_classes, 'config.data.distinct_classes', least=0)
  checks.boolean(data.permute, 'config.data.permute')
  if data.num_train:
    data_lib.check_batch_size(
      config.batch_size,
      data.num_train,
      'lower batch_size or raise data.num_train',
    )
  checks.choice(config.loss, 'config.loss', (_OWN_LOSS, *class_matching.COSTS))
  numbering_models.build_model(config.model_name, config.model, data.set_size)
  try:
    _sample(data, np.random.default_rng(0), 0)
  except ValueError as e:
    raise errors.UserError(f'config.data: {e}') from e


def _sample(data, rng, count):
  return class_numbering.sample_labels(
    rng,
    count,
    data.set_size,
    data.num_classes,
    data.distinct_classes or None,
  )


class ClassNumbering(task.Task):
  """Numbers the elements of each class of an input multiset."""

  headline = 'set_accuracy'
  selection = 'set_accuracy'

  def __init__(self, config: ml_collections.ConfigDict):
    """Builds the model; see `Task`."""
    super().__init__(config)
    self.model = numbering_models.build_model(
      config.model_name,
      config.model,
      config.data.set_size,
      model.axis_name_of(config),
    )
    self.iterates = config.model_name in numbering_models.DECODERS
    if self.iterates:
      self.counts_fallbacks = autoencoding.counts_fallbacks(
        self.model.decoder.gradient
      )
    self.cost = config.loss
    if config.loss == _OWN_LOSS:
      self.cost = 'l2' if self.iterates else 'cross_entropy'

  def init(self, key):
    """See `Task.init`."""
    names = ('params', 'initial_set', 'positions')
    rngs = dict(zip(names, jax.random.split(key, 3), strict=True))
    classes = jnp.zeros((1, self.config.data.set_size), jnp.int32)
    return self.model.init(rngs, self.one_hot(classes))

  def one_hot(self, classes: jax.Array) -> jax.Array:
    """The models' input, `(B, N)` classes to `(B, N, K)`."""
    return jax.nn.one_hot(classes, self.config.data.num_classes)

  def scores(
    self,
    variables: task.Variables,
    classes: jax.Array,
    key: jax.Array,
    **options: Any,
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Scores every number for every element.

    Args:
      variables: of the model.
      classes: class of every element, `(B, N)`, integers below K.
      key: for sampled initial sets and positions.
      **options: of the decoder of iDSPN and DSPN: `iterations`, `initial_set`
        (`(N, N)` or `(B, N, N)` instead of a sampled one), `fallbacks`.

    Returns:
      Scores, `(B, N, N)`: probabilities of iDSPN and DSPN, logits of others.
      And `energy` and `residual` of the inner problem, `(B,)`, where there is
      one.

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
    inputs = self.one_hot(classes)
    if not self.iterates:
      return self.model.apply(variables, inputs, rngs=rngs), {}

    def decode(module, x):
      return module.decode(module.encode(x), x, **options)

    decoded = self.model.apply(variables, inputs, method=decode, rngs=rngs)
    inner = {
      'energy': decoded.last_energy,
      'residual': decoded.last_residual,
    }
    return decoded.set, inner

  def _check_labels(self, classes):
    known = self.config.data.num_classes
    if not np.issubdtype(classes.dtype, np.integer):
      raise ValueError(f'classes need to be integers; got {classes.dtype}.')
    wrong = classes[(classes < 0) | (classes >= known)]
    if wrong.size:
      raise ValueError(
        f'This model knows the classes 0 to {known - 1}; got {wrong[0]}.'
      )

  def loss(
    self,
    params,
    model_state,
    batch,
    key,
    *,
    iterations=None,
    restarts=None,
  ):
    """See `Task.loss`."""
    variables = task.join_variables(params, model_state)
    options = {
      'iterations': iterations,
      'restarts': restarts,
      'fallbacks': batch.get('fallbacks'),
    }
    metrics, inner = self._measure(variables, batch, key, options)
    means = {name: jnp.mean(value) for name, value in metrics.items()}
    inner = {f'inner_{name}': jnp.mean(a) for name, a in inner.items()}
    return means.pop('loss'), task.LossOutput(model_state, {**means, **inner})

  def evaluate(self, variables, batch, key, **decode_options):
    """See `Task.evaluate`.

    `element_accuracy` and `set_accuracy` are under the loss's own matching;
    `multiset_accuracy` counts (class, number) pairs and needs none. Where a
    score is not finite, all are zero.
    """
    return self._measure(variables, batch, key, decode_options)[0]

  def _measure(self, variables, batch, key, options):
    classes, numbers = batch['classes'], batch['numbers']
    scores, inner = self.scores(variables, classes, key, **options)
    target = jax.nn.one_hot(numbers, classes.shape[-1])
    loss, matching = class_matching.class_matched_loss(
      scores, target, classes, self.cost
    )
    predicted = set_accuracy.predicted_numbers(scores)
    elements, sets = set_accuracy.matched_accuracy(predicted, numbers, matching)
    equal = set_accuracy.multiset_equal(
      predicted, numbers, classes, self.config.data.num_classes
    )
    finite = jnp.all(jnp.isfinite(scores), axis=(-2, -1))
    metrics = {
      'loss': loss,
      'element_accuracy': jnp.where(finite, elements, 0.0),
      'set_accuracy': jnp.where(finite, sets, 0.0),
      'multiset_accuracy': jnp.where(finite, equal, 0.0),
    }
    return metrics, inner

  def predict(self, variables, batch, key, **decode_options):
    """See `Task.predict`: `scores`, `(B, N, N)`, and `numbers`, `(B, N)`."""
    scores, inner = self.scores(
      variables, batch['classes'], key, **decode_options
    )
    numbers = set_accuracy.predicted_numbers(scores)
    return {'scores': scores, 'numbers': numbers, **inner}

  def draw(self, variables, data, key, iterations):
    """See `Task.draw`: predicted against true numbers of the worst test set."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import numbering

    classes = data.examples(_DRAWN)['classes']
    worst = {}
    for t in iterations:
      options = {'iterations': t} if self.iterates else {}
      scores, _ = self.scores(variables, jnp.asarray(classes), key, **options)
      worst['prediction' if t is None else t] = (
        numbering_errors.worst_numbering(
          classes,
          np.asarray(set_accuracy.predicted_numbers(scores)),
          self.config.data.num_classes,
        )
      )
    trained_with = self.config.model.iterations if self.iterates else None
    figure = numbering.draw_numberings(worst, trained_with=trained_with)
    return {'numbering': figure}


class NumberingData(data_lib.ArrayData):
  """Sets of class labels, held in memory or sampled for every step."""

  def __init__(self, config: ml_collections.ConfigDict, seed: int):
    """Samples the splits that are held in memory."""
    self._config = config
    self._num_classes = config.data.num_classes
    splits = {}
    for split in class_numbering.SPLITS:
      labels = class_numbering.class_labels(
        config.data[f'num_{split}'],
        config.data.set_size,
        config.data.num_classes,
        seed,
        split,
        config.data.distinct_classes or None,
      )
      splits[split] = {'classes': labels}
      if split != 'train':
        splits[split]['numbers'] = class_numbering.numbering(labels)
    super().__init__(
      splits,
      config.batch_size,
      config.eval_batch_size,
      seed,
      config.random_streams,
    )

  def train(self, first_step):
    """See `Data.train`."""
    return contextlib.closing(self._train(first_step))

  def _train(self, first_step):
    for step, classes in enumerate(self._labels(first_step), first_step):
      if self._config.data.permute:
        rng = np.random.default_rng([self.seed, _PERMUTED, step])
        classes = class_numbering.permuted(classes, rng)
      yield {'classes': classes, 'numbers': class_numbering.numbering(classes)}

  def _labels(self, first_step):
    if self._config.data.num_train:
      with super().train(first_step) as batches:
        yield from (batch['classes'] for batch in batches)
    for step in itertools.count(first_step):
      rng = np.random.default_rng([self.seed, _SAMPLED, step])
      yield _sample(self._config.data, rng, self.batch_size)

  def read_inputs(self, path):
    """See `Data.read_inputs`: an `.npz` with integer `classes`, `(B, N)`."""
    try:
      (classes,) = set_files.read_arrays(path, ('classes',))
    except ValueError as e:
      raise errors.UserError(str(e)) from e
    size = self._config.data.set_size
    if classes.ndim != 2 or classes.shape[1] != size:
      raise errors.UserError(
        f'{path}: `classes` needs shape (count, {size}); got {classes.shape}.'
      )
    integers = np.issubdtype(classes.dtype, np.integer)
    if not integers or np.any((classes < 0) | (classes >= self._num_classes)):
      raise errors.UserError(
        f'{path}: `classes` must be integers from 0 to {self._num_classes - 1}.'
      )
    return {'classes': classes.astype(np.int32)}


def build(config: ml_collections.ConfigDict) -> task.Experiment:
  """Builds the experiment; another seed draws other data.

  Raises:
    UserError: if a setting is wrong or settings do not combine.
  """
  check(config)
  built = ClassNumbering(config)
  return task.Experiment(
    built, functools.cache(lambda seed: NumberingData(config, seed))
  )
