"""Evaluation of parameters on a task's held-out data."""

from typing import Any

import jax
import numpy as np

from idspn_jax.tasks import task as task_lib

# Evaluation draws its own noise, the same at every step and for every model.
_STREAM = 3


class Evaluator:
  """Averages a task's metrics; compiles once per number of inner steps."""

  def __init__(self, task: task_lib.Task, seed: int):
    """Prepares the compiled metrics.

    Args:
      task: the experiment.
      seed: for sampled initial sets.
    """
    self._task = task
    self._key = jax.random.fold_in(jax.random.key(seed), _STREAM)
    self._metrics = jax.jit(task.metrics, static_argnames='iterations')

  def __call__(
    self, params: Any, iterations: int | None = None
  ) -> dict[str, float]:
    """Evaluates once over all data.

    Args:
      params: parameters.
      iterations: inner steps, or None for the configured number.

    Returns:
      Metrics averaged over examples.
    """
    totals: dict[str, float] = {}
    weights = 0.0
    for i, (batch, weight) in enumerate(self._task.eval_batches()):
      key = jax.random.fold_in(self._key, i)
      values = self._metrics(params, batch, key, iterations=iterations)
      weights += float(weight.sum())
      for name, value in values.items():
        kept = np.asarray(value, np.float64)[weight > 0]
        totals[name] = totals.get(name, 0.0) + float(kept.sum())
    return {name: total / weights for name, total in totals.items()}
