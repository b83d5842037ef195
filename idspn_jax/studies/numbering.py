"""What Tables 2 and 8 measure of trained class-numbering models."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.metrics import equivariance as laws
from idspn_jax.metrics import numbering_errors
from idspn_jax.metrics import set_accuracy
from idspn_jax.tasks import class_numbering
from idspn_jax.tasks import task as task_lib

# Test sets, permutations of each, and what the rounding of float64 may add up
# to, relative to the largest score.
_EXAMPLES, _PERMUTATIONS, _ROUNDING = 4, 16, 1e-6


def equivariance(
  task: class_numbering.ClassNumbering,
  variables: task_lib.Variables,
  data: class_numbering.NumberingData,
  key: jax.Array,
) -> dict[str, dict[str, Any]]:
  """Measures how far a model is from Definitions 1 and 2 of Section 2.2.

  Some test sets are given to the model under random permutations, and the
  scores compared. The noise of a model stays where it is while the input is
  permuted. The noise of iDSPN and DSPN is no part of the function that they
  approximate but a start of its minimisation: here they start from equal
  elements, so that nothing but FSPool can tell equal elements apart. All is
  computed in float64: in large sets, float32 rounds equal elements apart.

  Args:
    task: the task.
    variables: of its model.
    data: where the test sets come from.
    key: for sampled positions.

  Returns:
    For 'set' and 'multiset': `error`, the largest difference of two scores
    relative to the largest score, and whether the law `holds`, up to
    rounding. A model of non-finite or vanishing scores satisfies no law.
  """
  with jax.enable_x64(True):
    variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)
    return _equivariance(task, variables, data, key)


def _equivariance(task, variables, data, key):
  size = task.config.data.set_size
  options = {}
  if task.iterates:
    options['initial_set'] = jnp.full((size, size), 1.0 / size)

  @jax.jit
  def function(one_hot):
    def one(x):
      classes = jnp.argmax(x, axis=-1)[None]
      return task.scores(variables, classes, key, **options)[0][0]

    # Mapped, so that all sets of a batch get the same noise.
    return jax.vmap(one)(one_hot)

  permutations = laws.random_permutations(size, _PERMUTATIONS)
  found = {}
  for name, law in (
    ('set', laws.set_equivariance_error),
    ('multiset', laws.multiset_equivariance_error),
  ):
    error = 0.0
    for classes in data.examples(_EXAMPLES)['classes']:
      one_hot = np.asarray(task.one_hot(classes))
      largest = float(np.max(np.abs(function(one_hot[None]))))
      good = np.isfinite(largest) and largest > 0
      own = law(function, one_hot, permutations) / largest if good else np.inf
      error = max(error, own)
    found[name] = {'error': error, 'holds': error <= _ROUNDING}
  return found


def worst_numbering(
  task: class_numbering.ClassNumbering,
  variables: task_lib.Variables,
  data: class_numbering.NumberingData,
  key: jax.Array,
) -> numbering_errors.Numbering:
  """Finds the test set with most wrong numbers.

  Args:
    task: the task.
    variables: of its model.
    data: where the test sets come from.
    key: for sampled initial sets and positions.

  Returns:
    Its predicted `numbering_errors.Numbering`.
  """
  predict = jax.jit(
    lambda classes, key: task.scores(variables, classes, key)[0]
  )
  classes, predictions = [], []
  for i, batch in enumerate(data.evaluate('test')):
    given, mask = batch['classes'], batch['mask']
    scores = predict(given, jax.random.fold_in(key, i))
    classes.append(given[mask])
    numbers = set_accuracy.predicted_numbers(scores)
    predictions.append(np.asarray(numbers)[mask])
  return numbering_errors.worst_numbering(
    np.concatenate(classes),
    np.concatenate(predictions),
    task.config.data.num_classes,
  )
