"""Measures training steps: time side by side, and memory by mode."""

from collections.abc import Callable, Sequence
import time
from typing import Any

import jax
import ml_collections

from idspn_jax.solvers import gradients
from idspn_jax.tasks import registry
from idspn_jax.training import parallel as parallel_lib
from idspn_jax.training import state as state_lib
from idspn_jax.training import step as step_lib


class CompiledStep:
  """A compiled training step of a config, fed with one batch over and over."""

  def __init__(self, config: ml_collections.ConfigDict):
    """Builds the task, its first state and batch, and compiles the step."""
    experiment = registry.build(config)
    parallel = parallel_lib.make_parallel(config.parallel, config.batch_size)
    state = state_lib.init_state(experiment.task, config)
    self._state = parallel.place_state(state)
    with experiment.data(config.seed).train(0) as batches:
      self._batch = parallel.place_batch(next(batches))
    step = step_lib.make_train_step(
      experiment.task, config, axis_name=parallel.axis_name
    )
    self.compiled = parallel.compile(step, self._state, self._batch)

  def seconds(self) -> float:
    """Takes one step and returns its wall-clock time."""
    start = time.perf_counter()
    self._state, scalars = self.compiled(self._state, self._batch)
    jax.block_until_ready((self._state, scalars))
    return time.perf_counter() - start


def time_side_by_side(
  steps: Sequence[CompiledStep], repeats: int
) -> list[list[float]]:
  """Times steps in turn, A B A B …, after one warm-up of each.

  Args:
    steps: the steps to compare.
    repeats: counted steps of each.

  Returns:
    Seconds, one list per step.
  """
  for step in steps:
    step.seconds()
  seconds: list[list[float]] = [[] for _ in steps]
  for _ in range(repeats):
    for one, found in zip(steps, seconds, strict=True):
      found.append(one.seconds())
  return seconds


def memory_rows(
  config: ml_collections.ConfigDict,
  iterations: Sequence[int],
  modes: Sequence[str] = tuple(gradients.MODES),
  progress: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
  """Compiles a training step for every mode and number of inner steps.

  Args:
    config: the step's configuration; gradient and iterations are replaced.
    iterations: numbers of inner steps T.
    modes: names of gradient modes; those that do not apply under the
      configuration's projection are left out.
    progress: called with every row.

  Returns:
    Rows with `gradient`, `iterations` and `peak_bytes`, the compiler's count
    of temporary plus argument plus output bytes.
  """
  rows = []
  projected = config.model.projection != 'none'
  for mode in modes:
    try:
      gradients.check_applies(gradients.gradient_mode(mode), projected)
    except ValueError:
      continue
    for count in iterations:
      one = ml_collections.ConfigDict(config.to_dict())
      one.model.gradient, one.model.iterations = mode, count
      compiled = CompiledStep(one).compiled
      peak = parallel_lib.peak_bytes(compiled)
      rows.append({'gradient': mode, 'iterations': count, 'peak_bytes': peak})
      progress(rows[-1])
  return rows
