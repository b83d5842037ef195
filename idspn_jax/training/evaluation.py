"""Evaluation of parameters on a task's held-out data."""

import functools
from typing import Any

import jax
import numpy as np

from idspn_jax.tasks import task as task_lib
from idspn_jax.training import lockstep as lockstep_lib

# Evaluation draws its own noise, the same at every step and for every model.
_STREAM = 3


class Evaluator:
  """Averages metrics; compiles once per number of inner steps.

  Several tasks that differ in their seeds alone are evaluated in lockstep.
  """

  def __init__(self, *tasks: task_lib.Task):
    """Prepares the compiled metrics."""
    self._tasks = tasks
    self._lockstep = lockstep_lib.Lockstep(len(tasks))
    self._keys = [
      jax.random.fold_in(jax.random.key(task.config.seed), _STREAM)
      for task in tasks
    ]

    def metrics(params, batch, key, iterations):
      one = functools.partial(tasks[0].metrics, iterations=iterations)
      return self._lockstep.map(one)(params, batch, key)

    self._metrics = jax.jit(metrics, static_argnames='iterations')

  def __call__(
    self, params: Any, split: str = 'test', iterations: int | None = None
  ) -> list[dict[str, float]]:
    """Evaluates once over all data of a split.

    Args:
      params: parameters; those of several tasks stacked.
      split: which data, see `Task.eval_batches`.
      iterations: inner steps, or None for the configured number.

    Returns:
      Metrics averaged over examples, for every task.
    """
    totals: dict[str, Any] = {}
    weights = 0.0
    batches = zip(
      *(task.eval_batches(split) for task in self._tasks), strict=True
    )
    for i, found in enumerate(batches):
      batch = self._lockstep.stack([batch for batch, _ in found])
      keys = [jax.random.fold_in(key, i) for key in self._keys]
      key = self._lockstep.stack(keys)
      values = self._metrics(params, batch, key, iterations=iterations)
      # The same for every task: it follows from the number of examples.
      weight = found[0][1]
      weights += float(weight.sum())
      for name, value in values.items():
        kept = np.asarray(value, np.float64)[..., weight > 0]
        totals[name] = totals.get(name, 0.0) + kept.sum(-1)
    means = {name: total / weights for name, total in totals.items()}
    return [
      {name: float(value) for name, value in one.items()}
      for one in self._lockstep.unstack(means)
    ]
