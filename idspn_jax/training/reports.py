"""Evaluates finished runs: tables over step counts, and figures."""

from collections.abc import Sequence
import json
import os
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.tasks import registry
from idspn_jax.tasks import task as task_lib
from idspn_jax.training import checkpoints
from idspn_jax.training import evaluation
from idspn_jax.training import records
from idspn_jax.training import run_config
from idspn_jax.training import state as state_lib


class LoadedRun(NamedTuple):
  """A run read back from its directory.

  Attributes:
    workdir: the directory.
    config: its configuration.
    task: its task, data included.
    step: the step of the parameters.
    params: the checkpoint's parameters; if the task selects and has been
      validated, the best.
  """

  workdir: str
  config: ml_collections.ConfigDict
  task: task_lib.Task
  step: int
  params: Any


def load_run(
  workdir: str, step: int | None = None, data_path: str | None = None
) -> LoadedRun:
  """Reads a run's config and one of its checkpoints.

  Args:
    workdir: the run's directory.
    step: which checkpoint; the newest if None.
    data_path: replaces `data.path` of the config.

  Returns:
    The run.

  Raises:
    UserError: if there is no run, no such checkpoint, or one of another shape.
  """
  path = os.path.join(workdir, 'config.json')
  if not os.path.exists(path):
    raise errors.UserError(
      f'{workdir} holds no run (there is no {path}); train one first.'
    )
  stored = records.read_json(path)
  config = ml_collections.ConfigDict(run_config.with_defaults(stored))
  if data_path is not None:
    if 'path' not in config.data:
      raise errors.UserError(f'Task {config.task} reads no data file.')
    config.data.path = data_path
  task = registry.build(config)
  state = state_lib.init_state(task, config)
  with checkpoints.Checkpoints(workdir, config.keep_checkpoints) as saved:
    found = saved.steps()
    if not found:
      raise errors.UserError(f'{workdir} holds no checkpoint yet.')
    step = found[-1] if step is None else step
    if step not in found:
      raise errors.UserError(
        f'{workdir} has no checkpoint of step {step}; it has {found}.'
      )
    state = saved.restore(step, state)
  if state.best is None or not np.isfinite(state.best.value):
    return LoadedRun(workdir, config, task, step, state.params)
  best = state.best
  return LoadedRun(workdir, config, task, int(best.step), best.params)


def evaluate_at(
  run: LoadedRun, iterations: Sequence[int | None]
) -> dict[str, Any]:
  """Evaluates on the test data at several numbers of inner steps.

  Args:
    run: a run.
    iterations: numbers of inner steps; None for the configured number.

  Returns:
    A table: `rows` with `iterations` and the metrics, and where it comes from.
  """
  evaluate = evaluation.Evaluator(run.task)
  rows = [
    {'iterations': count, **evaluate(run.params, iterations=count)[0]}
    for count in iterations
  ]
  trained_with = run.config.model.iterations if run.task.iterates else None
  return {
    'task': run.config.task,
    'step': run.step,
    'trained_with_iterations': trained_with,
    'rows': rows,
    'config': json.loads(run.config.to_json()),
    **records.provenance(),
  }


def format_table(table: dict[str, Any]) -> str:
  """Lays a table of `evaluate_at` out as text."""
  names = [name for name in table['rows'][0] if name != 'iterations']
  lines = [f'{"T":>5} ' + ''.join(f'{name:>20}' for name in names)]
  for row in table['rows']:
    count = row['iterations']
    trained = count == table['trained_with_iterations']
    lines.append(
      (f'{count:5}' if count else f'{"–":>5}')
      + ('*' if count and trained else ' ')
      + ''.join(f'{row[name]:20.4g}' for name in names)
    )
  return '\n'.join(lines)


def save(
  run: LoadedRun, table: dict[str, Any], figures: bool = True
) -> list[str]:
  """Writes a table and its figures to `workdir/evaluation`.

  Args:
    run: the run.
    table: from `evaluate_at`.
    figures: draw examples and learning curves too.

  Returns:
    The files written.

  Raises:
    UserError: if the directory cannot be written to.
  """
  directory = os.path.join(run.workdir, 'evaluation')
  records.make_directory(directory, 'directory')
  path = os.path.join(directory, 'table.json')
  records.write_json(path, table)
  if not figures:
    return [path]
  counts = [row['iterations'] for row in table['rows']]
  key = jax.random.key(run.config.seed)
  drawn = run.task.draw(run.params, key, counts, directory)
  return [path, *map(str, drawn), *_learning_curve(run, directory)]


def read_scalars(workdir: str, name: str) -> tuple[list[int], list[float]]:
  """Reads one scalar's steps and values from a run's log."""
  steps, values = [], []
  with open(os.path.join(workdir, 'scalars.jsonl'), encoding='utf-8') as f:
    for line in f:
      row = json.loads(line)
      if row.get(name) is not None:
        steps.append(row['step'])
        values.append(row[name])
  return steps, values


def _learning_curve(run, directory):
  # Here, because only drawing needs matplotlib.
  from idspn_jax.figures import trajectories

  curves = {}
  for name, label in (('train/loss', 'training'), ('eval/loss', 'held out')):
    steps, values = read_scalars(run.workdir, name)
    if steps:
      curves[label] = (steps, values)
  if not curves:
    return []
  path = os.path.join(directory, 'learning_curve.png')
  return [str(trajectories.draw_losses(curves, path))]
