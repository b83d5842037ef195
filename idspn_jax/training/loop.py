"""Trains a task, evaluates it, and can be stopped and resumed at any time.

Runs that differ in their seeds alone can be vectorised: one compiled program
advances them all, while each keeps its own records and checkpoints, as if it
had been alone (up to rounding, which long trainings amplify).
"""

from collections.abc import Sequence
import contextlib
import itertools
import json
import os
import sys
import time
from typing import Any

from absl import logging
import jax
import ml_collections
import tqdm

from idspn_jax import errors
from idspn_jax.runs import config as config_lib
from idspn_jax.runs import directory
from idspn_jax.runs import remote
from idspn_jax.tasks import registry
from idspn_jax.tasks import task as task_lib
from idspn_jax.training import agreement
from idspn_jax.training import group as group_lib
from idspn_jax.training import hosts
from idspn_jax.training import iterations as iterations_lib
from idspn_jax.training import parallel as parallel_lib
from idspn_jax.training import run as run_lib
from idspn_jax.training import stopping

Interrupted = stopping.Interrupted


def _progress(first, steps):
  interval = 0.2 if sys.stderr.isatty() else 30.0
  return tqdm.tqdm(
    initial=first,
    total=steps,
    unit='step',
    dynamic_ncols=True,
    mininterval=interval,
    maxinterval=interval,
  )


def _advance(group, batches, stop):
  """Steps until done, asked to stop, or all diverged; returns the step."""
  config = group.config
  step, reported, scalars = group.first, group.first, None
  on_cpu = jax.default_backend() == 'cpu'
  selects = group.runs[0].task.selection is not None
  with _progress(group.first, config.steps) as bar:
    since = time.perf_counter()
    for batch in batches:
      stop.agree()
      if stop.received:
        break
      scalars = group.advance(step, batch)
      if on_cpu:
        # Host callbacks and queued steps share the CPU's threads.
        jax.block_until_ready(scalars)
      step += 1
      bar.update()
      if step % config.log_every == 0:
        jax.block_until_ready(scalars)
        seconds = time.perf_counter() - since
        if group.all_diverged(step, scalars):
          return step
        group.report(step, scalars, step - reported, seconds, bar)
        reported, since = step, time.perf_counter()
      if step >= config.steps:
        break
      # The last step is evaluated and saved outside, in this order too: a
      # checkpoint knows of its own validation, and of every best before it,
      # unless the validation was stopped; then it is repeated.
      evaluates = step % config.eval_every == 0
      saves = step % config.checkpoint_every == 0 or (evaluates and selects)
      if evaluates or saves:
        pause = time.perf_counter()
        if group.all_diverged(step, scalars):
          return step
        if evaluates:
          group.validate(step)
        if saves:
          group.save(step)
        since += time.perf_counter() - pause
      if stop.received:
        break
  if scalars is not None:
    group.all_diverged(step, scalars)
  if step < config.steps and not stop.received:
    group.save(step)
    raise errors.UserError(
      f'The data ended after step {step} of {config.steps}; Data.train must '
      'yield batches without end.'
    )
  return step


def _steps(group, stop):
  """Trains a group; returns its last step, or None if it is too large."""
  if group.first >= group.config.steps or stop.received:
    return group.first
  with group.batches() as batches:
    first = next(batches, None)
    if first is None:
      raise errors.UserError('Data.train yielded no batch.')
    if not group.compile(first) and len(group.runs) > 1:
      return None
    group.evaluate_again()
    return _advance(group, itertools.chain([first], batches), stop)


def _train(runs, stop):
  """Trains as many runs in one program as fit into the memory."""
  group = group_lib.Group(runs, stop)
  step = _steps(group, stop)
  if step is None:
    del group
    half = (len(runs) + 1) // 2
    logging.warning(
      '%d seeds in one program exceed the memory; halving.', len(runs)
    )
    return [*_train(runs[:half], stop), *_train(runs[half:], stop)]
  finished = step == group.config.steps
  if finished and runs[0].task.selection is not None:
    # Also if a run was stopped right here, before or in its validation.
    group.validate(step)
  group.save(step)
  if stop.received and not all(run.diverged_at is not None for run in runs):
    raise Interrupted(step, stop.received)
  try:
    metrics = group.test(step)
  except stopping.Abandoned:
    raise Interrupted(step, stop.received) from None
  return [
    run.finish(step, own, group.costs())
    for run, own in zip(runs, metrics, strict=True)
  ]


def _places(workdirs, resources):
  """The local directory of every run, locked, and its mirror if it has one.

  Only in the process that writes; elsewhere what the user gave.
  """
  if not hosts.is_writer():
    hosts.from_writer(lambda: None)
    return [(workdir, None) for workdir in workdirs]
  places = []

  def open_all():
    for workdir in workdirs:
      mirror = None
      if remote.is_remote(workdir):
        mirror = resources.enter_context(remote.Mirror(workdir))
      local = directory.prepare(mirror.local if mirror else workdir)
      resources.enter_context(directory.locked(local))
      places.append((local, mirror))

  hosts.from_writer(open_all)
  return places


def _adopted(config, workdir):
  """The configuration to continue with, and the record of the data."""

  def read():
    adopted = directory.adopt(config, workdir)
    changes = config_lib.changes(config, adopted)
    return changes, directory.read_record(workdir)

  changes, record = hosts.from_writer(read)
  if changes:
    logging.info(
      '%s: continues as it was started, with %s.',
      workdir,
      ', '.join(f'--config.{key}={value}' for key, value in changes.items()),
    )
    config = config.copy_and_resolve_references()
    with config.unlocked():
      config.update_from_flattened_dict(changes)
  return config, record


def _open(configs, places, task, resources):
  """Opens the runs, whose directories stay locked while they train."""
  runs = []
  built: dict[str, task_lib.Experiment] = {}
  for config, (workdir, mirror) in zip(configs, places, strict=True):
    config, record = _adopted(config, workdir)
    # Runs of one experiment share its task and the source of its data.
    shared = {**json.loads(config.to_json()), 'seed': None}
    key = json.dumps([shared, record], sort_keys=True)
    if key not in built:
      built[key] = registry.build(config, record, builder=task)
      agreement.check_data(built[key].record)
      # Before anything is written to the directory.
      iterations_lib.Schedule(config, built[key].task.iterates)
    runs.append(
      run_lib.TrainingRun(config, workdir, built[key], resources, mirror)
    )
  return runs


def _check_together(configs, workdirs):
  for config in configs:
    first, other = (json.loads(c.to_json()) for c in (configs[0], config))
    first['seed'] = config.seed
    if changed := config_lib.differences(first, other, free=()):
      raise errors.UserError(
        'Runs that are trained together may differ in their seeds alone, not '
        f'in {"; ".join(changed)}.'
      )
  if '' in workdirs:
    raise errors.UserError('Give the run a directory: --workdir=DIR.')
  if len(set(map(os.path.abspath, workdirs))) < len(configs):
    raise errors.UserError(
      'Runs that are trained together need a directory each; got '
      f'{", ".join(workdirs)}.'
    )


def train_seeds(
  configs: Sequence[ml_collections.ConfigDict],
  workdirs: Sequence[str],
  task: task_lib.Builder | None = None,
) -> list[dict[str, Any]]:
  """Runs an experiment for several seeds; continues runs that exist.

  Each run leaves in its directory what it would have left alone, up to
  rounding; see `train_and_evaluate`. Runs that stand at different steps, and
  runs that do not fit into the memory together, train one group after another.

  Args:
    configs: configurations that differ in their seeds alone.
    workdirs: one directory per configuration; local, or an address of shared
      storage that `etils.epath` opens, like `gs://bucket/run`.
    task: builds the experiment from a config; the registered task if None.

  Returns:
    The content of every run's `result.json`.

  Raises:
    UserError: if the configs differ elsewhere, or between processes, or a
      config, a file or a checkpoint does not fit, or a directory is in use.
    Interrupted: if a signal asked to stop; the states are saved.
  """
  agreement.check_configs(configs)
  for config in configs:
    config_lib.check(config)
    parallel_lib.check(config)
  _check_together(configs, workdirs)
  with contextlib.ExitStack() as resources:
    # All locked before anything is written to one of them.
    places = _places(workdirs, resources)
    runs = _open(configs, places, task, resources)
    results = {}
    with stopping.StopRequest() as stop:

      def kind(run):
        # Older runs may keep settings that newer ones do not have.
        own = {**json.loads(run.config.to_json()), 'seed': None}
        return run.first, json.dumps(own, sort_keys=True)

      runs.sort(key=kind)
      for (first_step, _), group in itertools.groupby(runs, kind):
        if stop.received:
          raise Interrupted(first_step, stop.received)
        together = list(group)
        found = _train(together, stop)
        names = [run.workdir for run in together]
        results.update(zip(names, found, strict=True))
      if stop.received:  # While testing: all is written, but go no further.
        raise Interrupted(runs[-1].config.steps, stop.received)
  return [results[local] for local, _ in places]


def train_and_evaluate(
  config: ml_collections.ConfigDict,
  workdir: str,
  task: task_lib.Builder | None = None,
) -> dict[str, Any]:
  """Runs an experiment from its config; continues if the run exists.

  Leaves in `workdir`: `config.json`, `environment.json`, `scalars.jsonl`,
  TensorBoard events, Orbax checkpoints, `data.json` if there is a data file,
  and at the end `result.json`.

  Args:
    config: a configuration of `configs/`, or one of your own that starts from
      `runs.config.default_config`.
    workdir: the run's directory, created if missing; see `train_seeds`.
    task: builds the experiment from a config, `task(config) -> Experiment`;
      the task registered under `config.task` if None.

  Returns:
    The content of `result.json`: metrics on the test data (of the variables
    with the best validation metric if the task selects, else of the last
    step), whether training diverged, timings, memory, config and versions.

  Raises:
    UserError: if the config, a file or a checkpoint does not fit, or another
      process trains in `workdir`.
    Interrupted: if a signal asked to stop; the state is saved.
  """
  (result,) = train_seeds([config], [workdir], task)
  return result
