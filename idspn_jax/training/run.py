"""One run: a seed's state, its directory, and how far it has come."""

import contextlib
import json
import os
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from idspn_jax.runs import checkpoints
from idspn_jax.runs import directory
from idspn_jax.runs import files
from idspn_jax.runs import initial_weights
from idspn_jax.runs import provenance
from idspn_jax.runs import scalars as scalars_lib
from idspn_jax.tasks import task as task_lib
from idspn_jax.training import state as state_lib

_COSTS = ('seconds_per_step', 'peak_bytes', 'vectorized_seeds')


class TrainingRun:
  """A run's state, checkpoints and records while it trains.

  Attributes:
    config: its configuration.
    workdir: its directory.
    task: the task.
    data: the data of its seed.
    state: its state, as of the last checkpoint or of the end.
    saved: its checkpoints.
    log: its scalars.
    first: the step from which it continues.
    diverged_at: the step at which divergence was found, or None.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: str,
    experiment: task_lib.Experiment,
    resources: contextlib.ExitStack,
  ):
    """Opens or continues a run whose directory is locked by the caller.

    Args:
      config: its configuration.
      workdir: the run's directory.
      experiment: built from the config and the run's record.
      resources: closes the run's files.

    Raises:
      UserError: if the config, the directory or a checkpoint does not fit.
    """
    self.config = config
    self.workdir = workdir
    self.task = experiment.task
    self.data = experiment.data(config.seed)
    self.saved = resources.enter_context(
      checkpoints.Checkpoints(workdir, config.keep_checkpoints)
    )
    directory.check_steps(self.saved.latest(), config, workdir)
    self.state = state_lib.init_state(self.task, config)
    found = self.saved.restore_newest(self.state)
    self.first = 0
    if found is not None:
      self.first, self.state = found
      logging.info('%s: resuming at step %d.', workdir, self.first)
    elif config.initial_weights.source:
      self.state = self._initial()
    directory.write_setup(workdir, config, experiment.record)
    self.log = resources.enter_context(
      contextlib.closing(scalars_lib.ScalarLog(workdir, self.first))
    )
    self.diverged_at: int | None = None
    best = self.state.best
    self._saved_best = best and int(best.step)

  def _initial(self):
    """The first state with the weights of another model."""
    variables = initial_weights.load(
      self.config.initial_weights, self.state.variables
    )
    key = jax.random.key(self.config.seed)
    with self.data.train(0) as batches:
      batch = self.task.prepare(next(batches), key)
    variables = self.task.fit_start(variables, batch)
    return state_lib.start_from(self.state, variables)

  @property
  def has_selected(self) -> bool:
    """Whether some parameters have passed a validation."""
    best = self.state.best
    return best is not None and bool(np.isfinite(best.value))

  def save(self, step: int) -> None:
    """Saves the state; again if the step has become the best since."""
    best = self.state.best
    improved = best is not None and int(best.step) != self._saved_best
    self.saved.save(step, self.state, replace=improved)
    self._saved_best = best and int(best.step)

  def diverge(self, step: int) -> None:
    """Notes that a non-finite number was found at this step."""
    self.diverged_at = step
    logging.warning('%s: diverged at step %d.', self.workdir, step)

  def write(self, step: int, prefix: str, scalars: dict[str, Any]) -> None:
    """Logs scalars under `prefix/`."""
    values = {f'{prefix}/{k}': float(v) for k, v in scalars.items()}
    self.log.write(step, values)

  def finish(
    self, step: int, metrics: dict[str, float], costs: dict[str, Any]
  ) -> dict[str, Any]:
    """Writes and returns `result.json`.

    Args:
      step: the last step.
      metrics: on the test data.
      costs: time and memory, or nothing if no step was taken.
    """
    diverged = self.diverged_at is not None
    result = {
      'task': self.config.task,
      'step': self.diverged_at if diverged else step,
      'diverged': diverged,
      'metrics': metrics,
    }
    if self.task.selection is not None:
      best = self.state.best if self.has_selected else None
      result['selected'] = {
        'by': self.task.selection,
        'step': best and int(best.step),
        'validation': best and float(best.value),
      }
    result |= {
      'parameters': sum(x.size for x in jax.tree.leaves(self.state.params)),
      **(costs or self._former_costs()),
      'config': json.loads(self.config.to_json()),
      **provenance.provenance(),
    }
    files.write_json(os.path.join(self.workdir, 'result.json'), result)
    return result

  def _former_costs(self):
    """What an earlier call measured: this one took no step."""
    before = directory.read_result(self.workdir) or {}
    return {key: before.get(key) for key in _COSTS}
