"""Trains a task, evaluates it, and can be stopped and resumed at any time."""

import contextlib
import json
import os
import signal
import sys
import time
from typing import Any

from absl import logging
import jax
import ml_collections
import numpy as np
import tqdm

from idspn_jax import errors
from idspn_jax.tasks import registry
from idspn_jax.training import checkpoints
from idspn_jax.training import evaluation
from idspn_jax.training import records
from idspn_jax.training import run_config
from idspn_jax.training import state as state_lib


class Interrupted(Exception):
  """The run was asked to stop; its state is saved."""

  def __init__(self, step: int, signal_number: int):
    """Remembers where and why."""
    super().__init__(f'interrupted at step {step}')
    self.step = step
    self.exit_code = 128 + signal_number


class _StopRequest:
  """Turns the first SIGINT or SIGTERM into a flag, the second is deadly."""

  _SIGNALS = (signal.SIGINT, signal.SIGTERM)

  def __enter__(self):
    self.received = None
    self._before = {}
    for number in self._SIGNALS:
      try:
        self._before[number] = signal.signal(number, self._receive)
      except ValueError:  # Not in the main thread: signals go elsewhere.
        break
    return self

  def _receive(self, number, frame):
    del frame
    self.received = number
    signal.signal(number, self._before[number] or signal.SIG_DFL)

  def __exit__(self, *_):
    for number, handler in self._before.items():
      signal.signal(number, handler)


def _make_workdir(workdir):
  if not workdir:
    raise errors.UserError('Give the run a directory: --workdir=DIR.')
  try:
    os.makedirs(os.path.join(workdir, 'checkpoints'), exist_ok=True)
  except OSError as e:
    raise errors.UserError(f'Cannot create --workdir={workdir}: {e}.') from e


def _prepare_workdir(config, workdir):
  """Checks that the directory is this run's, and notes its settings."""
  path = os.path.join(workdir, 'config.json')
  content = json.loads(config.to_json())
  if os.path.exists(path):
    with open(path, encoding='utf-8') as f:
      changed = run_config.differences(json.load(f), content)
    if changed:
      raise errors.UserError(
        f'{workdir} holds a run with another config ({"; ".join(changed)}); '
        'use another --workdir or the same settings.'
      )
  records.write_json(path, content)
  records.write_json(
    os.path.join(workdir, 'environment.json'), records.provenance()
  )


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


class _Run:
  """One call of `train_and_evaluate`, taken apart."""

  def __init__(self, task, config, workdir, saved):
    self.config = config
    self.saved = saved
    self.task = task
    self.parallel = state_lib.DataParallel(config.batch_size)
    self.evaluate = evaluation.Evaluator(self.task, config.seed)
    _prepare_workdir(config, workdir)
    state = state_lib.init_state(self.task, config)
    self.state = self.parallel.replicate(state)
    self.first = saved.latest() or 0
    if self.first:
      self.state = saved.restore(self.first, self.state)
      logging.info('Resuming at step %d.', self.first)
    if self.first > config.steps:
      raise errors.UserError(
        f'{workdir} has a checkpoint of step {self.first}, beyond '
        f'config.steps={config.steps}.'
      )
    self.log = records.ScalarLog(workdir, self.first)
    self.train_seconds = 0.0
    self.compiled = None

  def batches(self):
    batches = self.task.train_batches(self.first)
    return (self.parallel.shard(batch) for batch in batches)

  def compile(self, batch):
    step = state_lib.make_train_step(self.task, self.config)
    self.compiled = self.parallel.compile(step, self.state, batch)

  def report(self, step, scalars, seconds, bar):
    """Logs training scalars."""
    values = {f'train/{k}': float(v) for k, v in scalars.items()}
    values['train/steps_per_second'] = self.config.log_every / seconds
    self.log.write(step, values)
    bar.set_postfix(loss=f'{values["train/loss"]:.3g}', refresh=False)

  def report_evaluation(self, step):
    metrics = self.evaluate(self.state.params)
    self.log.write(step, {f'eval/{k}': v for k, v in metrics.items()})
    return metrics


def _diverged(scalars):
  """Whether a step's loss or gradient is not finite."""
  found = jax.device_get([scalars['loss'], scalars['gradient_norm']])
  return not np.all(np.isfinite(found))


def _train(run, stop):
  """Steps until done, asked to stop, or diverged; returns (step, diverged)."""
  config = run.config
  step, scalars = run.first, None
  on_cpu = jax.default_backend() == 'cpu'
  with _progress(run.first, config.steps) as bar:
    since = time.perf_counter()
    for batch in run.batches():
      if step >= config.steps or stop.received:
        break
      if run.compiled is None:
        run.compile(batch)
        since = time.perf_counter()
      run.state, scalars = run.compiled(run.state, batch)
      if on_cpu:
        # Host callbacks and queued steps share the CPU's threads.
        jax.block_until_ready(scalars)
      step += 1
      bar.update()
      if step % config.log_every == 0:
        jax.block_until_ready(scalars)
        seconds = time.perf_counter() - since
        run.train_seconds += seconds
        run.report(step, scalars, seconds, bar)
        if _diverged(scalars):
          return step, True
        since = time.perf_counter()
      pause = time.perf_counter()
      if step % config.checkpoint_every == 0:
        if _diverged(scalars):
          return step, True
        run.saved.save(step, run.state)
      if step % config.eval_every == 0 and step < config.steps:
        run.report_evaluation(step)
      since += time.perf_counter() - pause
  return step, scalars is not None and _diverged(scalars)


def train_and_evaluate(
  config: ml_collections.ConfigDict, workdir: str
) -> dict[str, Any]:
  """Runs an experiment from its config; continues if the run exists.

  Leaves in `workdir`: `config.json`, `environment.json`, `scalars.jsonl`,
  TensorBoard events, Orbax checkpoints, and at the end `result.json`.

  Args:
    config: a configuration of `configs/`.
    workdir: the run's directory, created if missing.

  Returns:
    The content of `result.json`: metrics of the last step on the held-out
    data, whether training diverged, timings, memory, config and versions.

  Raises:
    UserError: if the config, a file or a checkpoint does not fit.
    Interrupted: if a signal asked to stop; the state is saved.
  """
  run_config.check(config)
  task = registry.build(config)
  _make_workdir(workdir)
  with checkpoints.Checkpoints(workdir, config.keep_checkpoints) as saved:
    run = _Run(task, config, workdir, saved)
    with contextlib.closing(run.log):
      with _StopRequest() as stop:
        step, diverged = _train(run, stop)
      if not diverged:
        saved.save(step, run.state)
      if stop.received:
        raise Interrupted(step, stop.received)
      metrics = {} if diverged else run.report_evaluation(step)
  result = {
    'task': config.task,
    'step': step,
    'diverged': diverged,
    'metrics': metrics,
    'parameters': sum(x.size for x in jax.tree.leaves(run.state.params)),
    **_costs(run, step, workdir),
    'config': json.loads(config.to_json()),
    **records.provenance(),
  }
  records.write_json(os.path.join(workdir, 'result.json'), result)
  return result


def _costs(run, step, workdir):
  """Time and memory of the steps just taken, or else of those before."""
  taken = (step - run.first) // run.config.log_every * run.config.log_every
  path = os.path.join(workdir, 'result.json')
  if run.compiled is None and os.path.exists(path):
    with open(path, encoding='utf-8') as f:
      before = json.load(f)
    return {key: before[key] for key in ('seconds_per_step', 'peak_bytes')}
  return {
    'seconds_per_step': run.train_seconds / taken if taken else None,
    'peak_bytes': run.compiled and state_lib.peak_bytes(run.compiled),
  }
