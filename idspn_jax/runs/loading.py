"""Opens finished or interrupted runs for reading."""

from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import directory
from idspn_jax.runs import files
from idspn_jax.runs import remote
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import registry
from idspn_jax.tasks import task as task_lib

# To read a checkpoint while a training removes and replaces them.
_ATTEMPTS = 3


class LoadedRun(NamedTuple):
  """A run read back from its directory.

  Attributes:
    workdir: the directory.
    config: its configuration.
    task: its task.
    data: the data of its seed.
    step: the step of the variables.
    variables: of the model: the checkpoint's, averaged if the run averages;
      if the task selects and has been validated, the best.
    other_file: the data file that is evaluated instead of the run's own.
    num_objects: smallest and largest number of objects of the scenes that are
      evaluated; None for what the config says.
    ema: False if the variables are not averaged though the run averages.
  """

  workdir: str
  config: ml_collections.ConfigDict
  task: task_lib.Task
  data: data_lib.Data
  step: int
  variables: dict[str, Any]
  other_file: str | None = None
  num_objects: tuple[int, int] | None = None
  ema: bool = True


def load_run(
  workdir: str,
  step: int | None = None,
  data_path: str | None = None,
  task: task_lib.Builder | None = None,
  num_objects: tuple[int, int] | None = None,
  ema: bool = True,
) -> LoadedRun:
  """Reads a run's config and one of its checkpoints; writes nothing.

  Args:
    workdir: the run's directory; also on shared storage, see `remote`.
    step: which checkpoint; the newest if None.
    data_path: where the run's data file is now, or another file to evaluate
      on.
    task: builds the experiment, for tasks that are not registered.
    num_objects: of the scenes to evaluate on, see `registry.build`.
    ema: if False, the parameters of the checkpoint's step in place of their
      moving average.

  Returns:
    The run.

  Raises:
    UserError: if there is no run, no such checkpoint, or it is damaged or of
      another shape or seed; with `ema=False` if the run has no moving average
      or evaluates its best step.
  """
  if remote.is_remote(workdir):
    with remote.fetched(workdir) as local:
      run = load_run(local, step, data_path, task, num_objects, ema)
    return run._replace(workdir=workdir)
  workdir = files.local_path(workdir, '--workdir')
  config = directory.read_config(workdir)
  record = directory.read_record(workdir)
  experiment = registry.build(
    config, record, data_path, builder=task, num_objects=num_objects
  )
  step, stored = _read_checkpoint(workdir, step)
  variables = jax.eval_shape(experiment.task.init, jax.random.key(0))
  params, model_state = task_lib.split_variables(variables)
  where = f'{workdir}/checkpoints/{step}'
  checkpoints.check_seed(stored, config.seed, where)
  if not ema:
    _check_averages(config, experiment.task, workdir)
    stored = {name: stored.get(name) for name in ('params', 'model_state')}
  step, source = _evaluated(step, stored, where)
  stored = {
    'params': source['params'],
    'model_state': source.get('model_state') or {},
  }
  like = {'params': params, 'model_state': model_state}
  try:
    found = checkpoints.fit(stored, like, where)
  except errors.UserError as e:
    if data_path is None or record is not None:
      raise
    raise errors.UserError(
      f'{data_path} does not fit the run {workdir}: its sets have other sizes '
      'or features than those that the run was trained on.'
    ) from e
  return LoadedRun(
    workdir,
    config,
    experiment.task,
    experiment.data(config.seed),
    step,
    task_lib.join_variables(found['params'], found['model_state']),
    experiment.other_file,
    num_objects,
    ema,
  )


def _check_averages(config, task, workdir):
  """Refuses runs that cannot be evaluated without their average."""
  if not config.ema_decay:
    raise errors.UserError(
      f'{workdir} keeps no moving average (config.ema_decay=0): leave out '
      '--noema.'
    )
  if task.selection is not None:
    raise errors.UserError(
      f'{workdir} evaluates the best step, of which it keeps the moving '
      'average only: leave out --noema.'
    )


def _evaluated(step, stored, where):
  """The step and the variables that are evaluated: the best if it selects."""
  best = stored.get('best')
  try:
    if best is not None and np.isfinite(best['value']):
      return int(best['step']), {**best, 'params': best['params']}
  except (KeyError, TypeError, ValueError) as e:
    raise errors.UserError(
      f'The checkpoint {where} is damaged: its best variables are not complete '
      f'({type(e).__name__}: {e}); use another one with --step.'
    ) from e
  return step, {
    name: stored.get(f'ema_{name}') or stored.get(name)
    for name in ('params', 'model_state')
  }


def _read_checkpoint(workdir, wanted, attempts=_ATTEMPTS):
  steps = checkpoints.stored_steps(workdir)
  if not steps:
    raise errors.UserError(f'{workdir} holds no checkpoint yet.')
  if wanted is not None and wanted not in steps:
    raise errors.UserError(
      f'{workdir} has no checkpoint of step {wanted}; it has '
      f'{", ".join(map(str, steps))}.'
    )
  step = steps[-1] if wanted is None else wanted
  try:
    return step, checkpoints.read(workdir, step)
  except checkpoints.Damaged as e:
    if attempts > 1:
      return _read_checkpoint(workdir, wanted, attempts - 1)
    others = [s for s in steps if s != step]
    remedy = (
      f'use another one with --step={others[-1]}'
      if others
      else 'there is no other one; train again'
    )
    raise errors.UserError(
      f'The checkpoint {workdir}/checkpoints/{step} is damaged ({e}); {remedy}.'
    ) from e
