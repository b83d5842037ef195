"""One run: a seed's state, its directory, and how far it has come."""

import contextlib
import json
import os
import shutil
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import directory
from idspn_jax.runs import files
from idspn_jax.runs import initial_weights
from idspn_jax.runs import provenance
from idspn_jax.runs import remote
from idspn_jax.runs import scalars as scalars_lib
from idspn_jax.tasks import task as task_lib
from idspn_jax.training import hosts
from idspn_jax.training import reproduction
from idspn_jax.training import state as state_lib

_COSTS = ('seconds_per_step', 'peak_bytes', 'vectorized_seeds')


class TrainingRun:
  """A run's state, checkpoints and records while it trains.

  Of several processes (see `hosts`) the first one opens and writes its files.

  Attributes:
    config: its configuration.
    workdir: its directory.
    task: the task.
    data: the data of its seed.
    state: its state, as of the last checkpoint or of the end.
    first: the step from which it continues.
    evaluated: whether the evaluation of that step is logged.
    diverged_at: the step at which divergence was found, or None.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: str,
    experiment: task_lib.Experiment,
    resources: contextlib.ExitStack,
    mirror: remote.Mirror | None = None,
  ):
    """Opens or continues a run whose directory is locked by the caller.

    Args:
      config: its configuration.
      workdir: the run's directory.
      experiment: built from the config and the run's record.
      resources: closes the run's files.
      mirror: sends the directory to shared storage, where the run is.

    Raises:
      UserError: if the config, the directory or a checkpoint does not fit.
    """
    self.config = config
    self.workdir = workdir
    self.task = experiment.task
    self.data = experiment.data(config.seed)
    self._record = experiment.record
    self._mirror = mirror
    self._saved: checkpoints.Checkpoints | None = None
    self._log: scalars_lib.ScalarLog | None = None
    self.state = state_lib.init_state(self.task, config)
    self.first, self.evaluated = hosts.from_writer(
      lambda: self._open(resources)
    )
    if hosts.count() > 1:
      self.state = hosts.send_arrays(self.state)
    self.diverged_at: int | None = None
    self._diverged: dict[str, Any] = {}
    best = self.state.best
    self._saved_best = best and int(best.step)

  def _open(self, resources):
    """Opens the files and restores the state; returns `first, evaluated`."""
    self._saved = resources.enter_context(
      checkpoints.Checkpoints(self.workdir, self.config.keep_checkpoints)
    )
    directory.check_steps(self._saved.latest(), self.config, self.workdir)
    found = self._saved.restore_newest(
      self.state, state_lib.complete, self.config.seed
    )
    first = 0
    if found is not None:
      first, self.state = found
      logging.info('%s: resuming at step %d.', self.workdir, first)
    elif self.config.initial_weights.source:
      self.state = self._initial()
    directory.write_setup(self.workdir, self.config, self._record)
    self._log = resources.enter_context(
      contextlib.closing(scalars_lib.ScalarLog(self.workdir, first))
    )
    return first, self._log.knows('eval/')

  def _initial(self):
    """The first state with the weights of another model."""
    variables = initial_weights.load(
      self.config.initial_weights, self.state.variables
    )
    key = jax.random.key(self.config.seed)
    with self.data.train(0) as batches:
      batch = self.task.fill(next(batches), key)
    batch = self.task.prepare(batch, key)
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
    self._saved_best = best and int(best.step)
    if self._saved is None:
      return
    if self._mirror is not None:
      self._mirror.wait()
    # What a checkpoint continues from must be on the disk before it.
    self._log.flush()
    several = hosts.count() > 1
    state = jax.device_get(self.state) if several else self.state
    self._saved.save(step, state, replace=improved)
    if self._mirror is not None:
      self._saved.wait()
      self._mirror.send_later()

  def diverge(self, step: int, evaluation_batch: int | None = None) -> None:
    """Notes that a non-finite number was found at this step.

    Args:
      step: the step.
      evaluation_batch: in which batch of an evaluation, from 0, if in one.
    """
    self.diverged_at = step
    where = ''
    if evaluation_batch is not None:
      self._diverged = {'evaluation_batch': evaluation_batch}
      where = f' in batch {evaluation_batch} of the evaluation, counted from 0'
    logging.warning('%s: diverged at step %d%s.', self.workdir, step, where)

  def keep_reproduction(
    self, batch: task_lib.Batch, iterations: int | None, restarts: int | None
  ) -> None:
    """Saves what `reproduction.replay` takes the bad step again from.

    Args:
      batch: of that step.
      iterations: inner steps of that step, None for the model's own.
      restarts: starts, likewise.
    """
    self._diverged = {'batch': int(self.state.skipped_at)}
    if self._saved is None:
      return
    try:
      reproduction.save(
        self.workdir,
        self.config,
        self._record,
        jax.device_get(self.state),
        batch,
        iterations,
        restarts,
      )
    except errors.UserError as e:
      logging.warning('No reproduction of the bad step: %s', e)
    else:
      self._diverged['reproduction'] = reproduction.FOLDER

  def write(self, step: int, prefix: str, scalars: dict[str, Any]) -> None:
    """Logs scalars under `prefix/`."""
    values = {f'{prefix}/{k}': float(v) for k, v in scalars.items()}
    if self._log is not None:
      self._log.write(step, values)

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
      **self._diverged,
      'metrics': metrics,
    }
    if int(self.state.skipped) and not diverged:
      result['skipped_steps'] = int(self.state.skipped)
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
    if self._saved is not None:
      files.write_json(os.path.join(self.workdir, 'result.json'), result)
      if 'reproduction' not in result:
        self._remove_reproduction()
    return result

  def _remove_reproduction(self):
    """Removes that of an earlier call, which ended otherwise."""
    folder = os.path.join(self.workdir, reproduction.FOLDER)
    shutil.rmtree(folder, ignore_errors=True)
    if self._mirror is not None:
      self._mirror.remove_later(reproduction.FOLDER)

  def _former_costs(self):
    """What an earlier call measured: this one took no step."""
    before = {}
    if self._saved is not None:
      before = directory.read_result(self.workdir) or {}
    return {key: before.get(key) for key in _COSTS}
