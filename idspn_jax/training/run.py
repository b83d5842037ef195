"""One run: a seed's task, its directory, and how far it has come."""

import contextlib
import json
import os
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.tasks import registry
from idspn_jax.training import checkpoints
from idspn_jax.training import records
from idspn_jax.training import run_config
from idspn_jax.training import state as state_lib

_COSTS = ('seconds_per_step', 'peak_bytes', 'seeds_in_lockstep')


def _make_workdir(workdir):
  if not workdir:
    raise errors.UserError('Give the run a directory: --workdir=DIR.')
  records.make_directory(workdir, '--workdir')


def check_same(old: dict, config: ml_collections.ConfigDict, workdir: str):
  """Refuses to mix runs.

  Args:
    old: the configuration of what is in the directory.
    config: the present configuration.
    workdir: the directory.

  Raises:
    UserError: if they are of different runs.
  """
  changed = run_config.differences(
    run_config.with_defaults(old), json.loads(config.to_json())
  )
  if changed:
    raise errors.UserError(
      f'{workdir} holds a run with another config ({"; ".join(changed)}); '
      'use another --workdir or the same settings.'
    )


def check_workdir(
  config: ml_collections.ConfigDict, workdir: str, latest: int | None = None
) -> None:
  """Refuses a directory that holds a run which cannot be continued.

  Args:
    config: the present configuration.
    workdir: the directory; need not exist.
    latest: the step of its newest checkpoint; looked up if None.

  Raises:
    UserError: if the run there has another config or more steps.
  """
  path = os.path.join(workdir, 'config.json')
  if os.path.exists(path):
    check_same(records.read_json(path), config, workdir)
  if latest is None and checkpoints.exist(workdir):
    with checkpoints.Checkpoints(workdir, config.keep_checkpoints) as saved:
      latest = saved.latest()
  if latest is not None and latest > config.steps:
    raise errors.UserError(
      f'{workdir} has a checkpoint of step {latest}, beyond '
      f'config.steps={config.steps}; use more steps or another --workdir.'
    )


def _prepare_workdir(config, workdir, latest):
  """Checks that the directory is this run's, and notes its settings."""
  check_workdir(config, workdir, latest)
  path = os.path.join(workdir, 'config.json')
  records.write_json(path, json.loads(config.to_json()))
  records.write_json(
    os.path.join(workdir, 'environment.json'), records.provenance()
  )


class Run:
  """A run's state, checkpoints and records.

  Attributes:
    config: its configuration.
    workdir: its directory.
    task: the experiment.
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
    resources: contextlib.ExitStack,
  ):
    """Opens or continues a run.

    Args:
      config: a configuration of `configs/`.
      workdir: the run's directory, created if missing.
      resources: closes the run's files.

    Raises:
      UserError: if the config, the directory or a checkpoint does not fit.
    """
    run_config.check(config)
    self.config = config
    self.workdir = workdir
    self.task = registry.build(config)
    _make_workdir(workdir)
    self.saved = resources.enter_context(
      checkpoints.Checkpoints(workdir, config.keep_checkpoints)
    )
    self.first = self.saved.latest() or 0
    _prepare_workdir(config, workdir, self.first)
    self.state = state_lib.init_state(self.task, config)
    if self.first:
      self.state = self.saved.restore(self.first, self.state)
      logging.info('%s: resuming at step %d.', workdir, self.first)
    self.log = resources.enter_context(
      contextlib.closing(records.ScalarLog(workdir, self.first))
    )
    self.diverged_at: int | None = None
    best = self.state.best
    self._saved_best = best and int(best.step)

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
    """Notes that a number was found to be none at this step."""
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
      **records.provenance(),
    }
    records.write_json(os.path.join(self.workdir, 'result.json'), result)
    return result

  def _former_costs(self):
    """What an earlier call measured: this one took no step."""
    before = read_result(self.workdir) or {}
    return {key: before.get(key) for key in _COSTS}


def read_result(workdir: str) -> dict[str, Any] | None:
  """Reads a run's `result.json`; None if it has not finished.

  Raises:
    UserError: if the file is broken.
  """
  path = os.path.join(workdir, 'result.json')
  if not os.path.exists(path):
    return None
  return records.read_json(path)
