"""Looks tasks up by the name that configs give."""

import ml_collections

from idspn_jax.tasks import class_numbering
from idspn_jax.tasks import model
from idspn_jax.tasks import own_sets
from idspn_jax.tasks import random_multisets
from idspn_jax.tasks import task

TASKS = {
  'class_numbering': class_numbering.ClassNumbering,
  'random_multisets': random_multisets.RandomMultisets,
  'own_sets': own_sets.OwnSets,
}


def build(config: ml_collections.ConfigDict) -> task.Task:
  """Builds the task of a config.

  Raises:
    UserError: if the name is unknown or the config does not fit the task.
  """
  model.choice(config.task, 'task', TASKS)
  return TASKS[config.task](config)
