"""Trains a task, evaluates it, and can be stopped and resumed at any time.

Runs that differ in their seeds alone can train in lockstep: one compiled
program advances them all, while each keeps its own records and checkpoints, as
if it had been alone (up to rounding, which long trainings amplify).
"""

from collections.abc import Sequence
import contextlib
import itertools
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
from idspn_jax.training import evaluation
from idspn_jax.training import lockstep as lockstep_lib
from idspn_jax.training import run as run_lib
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


class _Crew:
  """Runs that stand at the same step and advance in lockstep."""

  def __init__(self, runs):
    self.runs = runs
    self.config = runs[0].config
    self.first = runs[0].first
    self.lockstep = lockstep_lib.Lockstep(len(runs))
    self.parallel = state_lib.DataParallel(self.config.batch_size, len(runs))
    self.evaluate = evaluation.Evaluator(*(run.task for run in runs))
    self.keep_best = jax.jit(
      self.lockstep.map(state_lib.keep_best),
      out_shardings=self.parallel.everywhere,
    )
    states = self.lockstep.stack([run.state for run in runs])
    self.state = self.parallel.replicate(states)
    self.train_seconds = 0.0
    self.timed_steps = 0
    self.compiled = None

  def batches(self):
    """Yields placed batches, those of all seeds stacked."""
    batches = (run.task.train_batches(self.first) for run in self.runs)
    for batch in zip(*batches, strict=True):
      yield self.parallel.shard(self.lockstep.stack(batch))

  def compile(self):
    """Compiles the step; returns whether it fits into the memory."""
    step = state_lib.make_train_step(self.runs[0].task, self.config)
    self.compiled = self.parallel.compile(
      self.lockstep.map(step), self.state, next(self.batches())
    )
    peak = state_lib.peak_bytes(self.compiled)
    return peak <= lockstep_lib.memory_limit()

  def all_diverged(self, step, scalars):
    """Notes whose loss or gradient is not finite; true if no run is left."""
    found = jax.device_get([scalars['loss'], scalars['gradient_norm']])
    finite = np.atleast_1d(np.all(np.isfinite(found), axis=0))
    for run, good in zip(self.runs, finite, strict=True):
      if not good and run.diverged_at is None:
        run.diverge(step)
        own = jax.device_get(self.lockstep.unstack(scalars))
        run.write(step, 'train', own[self.runs.index(run)])
    return all(run.diverged_at is not None for run in self.runs)

  def report(self, step, scalars, steps, seconds, bar):
    """Logs training scalars and how fast the last `steps` were."""
    self.train_seconds += seconds
    self.timed_steps += steps
    scalars = self.lockstep.unstack(jax.device_get(scalars))
    for run, own in zip(self.runs, scalars, strict=True):
      if run.diverged_at is None:
        rate = steps / seconds
        run.write(step, 'train', {**own, 'steps_per_second': rate})
    losses = ' '.join(f'{float(own["loss"]):.3g}' for own in scalars)
    bar.set_postfix_str(f'loss={losses}', refresh=False)

  def hand_back(self):
    """Gives every run its own state."""
    states = self.lockstep.unstack(self.state)
    for run, state in zip(self.runs, states, strict=True):
      run.state = state

  def save(self, step):
    """Saves every run that has not diverged."""
    self.hand_back()
    for run in self.runs:
      if run.diverged_at is None:
        run.save(step)

  def validate(self, step):
    """Evaluates on the way; remembers the best parameters if that counts."""
    selection = self.runs[0].task.selection
    split = 'test' if selection is None else 'validation'
    metrics = self.evaluate(self.state.params, split)
    for run, own in zip(self.runs, metrics, strict=True):
      if run.diverged_at is None:
        run.write(step, 'eval', own)
        if not np.isfinite(own['loss']):
          run.diverge(step)
    if selection is not None:
      values = [
        np.asarray(own[selection] if run.diverged_at is None else -np.inf)
        for run, own in zip(self.runs, metrics, strict=True)
      ]
      value = self.lockstep.stack(values).astype(np.float32)
      self.state = self.keep_best(self.state, value)

  def test(self, step):
    """Returns every run's metrics on the test data, where there are any."""
    metrics = self.evaluate(self.state.selected, 'test')
    for i, run in enumerate(self.runs):
      if run.diverged_at is None or run.has_selected:
        prefix = 'eval' if run.task.selection is None else 'test'
        run.write(step, prefix, metrics[i])
      else:
        metrics[i] = {}
    return metrics

  def costs(self):
    """Time and memory of the steps just taken, of all seeds together."""
    if self.compiled is None:
      return {}
    return {
      'seconds_per_step': (
        self.train_seconds / self.timed_steps if self.timed_steps else None
      ),
      'peak_bytes': state_lib.peak_bytes(self.compiled),
      'seeds_in_lockstep': len(self.runs),
    }


def _advance(crew, stop):
  """Steps until done, asked to stop, or all diverged; returns the step."""
  config = crew.config
  step, reported, scalars = crew.first, crew.first, None
  on_cpu = jax.default_backend() == 'cpu'
  selects = crew.runs[0].task.selection is not None
  with _progress(crew.first, config.steps) as bar:
    since = time.perf_counter()
    for batch in crew.batches():
      if step >= config.steps or stop.received:
        break
      crew.state, scalars = crew.compiled(crew.state, batch)
      if on_cpu:
        # Host callbacks and queued steps share the CPU's threads.
        jax.block_until_ready(scalars)
      step += 1
      bar.update()
      if step % config.log_every == 0:
        jax.block_until_ready(scalars)
        seconds = time.perf_counter() - since
        if crew.all_diverged(step, scalars):
          return step
        crew.report(step, scalars, step - reported, seconds, bar)
        reported, since = step, time.perf_counter()
      # The last step is evaluated and saved outside, in this order too: a
      # checkpoint knows of its own validation, and of every best before it.
      last = step == config.steps
      evaluates = step % config.eval_every == 0 and not last
      saves = step % config.checkpoint_every == 0 and not last
      saves = saves or (evaluates and selects)
      if evaluates or saves:
        pause = time.perf_counter()
        if crew.all_diverged(step, scalars):
          return step
        if evaluates:
          crew.validate(step)
        if saves:
          crew.save(step)
        since += time.perf_counter() - pause
  if scalars is not None:
    crew.all_diverged(step, scalars)
  return step


def _train(runs, stop):
  """Trains as many runs in lockstep as fit into the memory."""
  crew = _Crew(runs)
  if crew.first < crew.config.steps and not crew.compile() and len(runs) > 1:
    del crew
    half = (len(runs) + 1) // 2
    logging.warning(
      '%d seeds in one program need more than the memory; halving.', len(runs)
    )
    return [*_train(runs[:half], stop), *_train(runs[half:], stop)]
  step = _advance(crew, stop)
  finished = step == crew.config.steps
  selects = runs[0].task.selection is not None
  if finished and selects:
    # Also if a run was stopped right here, before its validation.
    crew.validate(step)
  crew.save(step)
  if stop.received and not all(run.diverged_at is not None for run in runs):
    raise Interrupted(step, stop.received)
  metrics = crew.test(step)
  return [
    run.finish(step, own, crew.costs())
    for run, own in zip(runs, metrics, strict=True)
  ]


def train_in_lockstep(
  configs: Sequence[ml_collections.ConfigDict], workdirs: Sequence[str]
) -> list[dict[str, Any]]:
  """Runs an experiment for several seeds; continues runs that exist.

  Each run leaves in its directory what it would have left alone, up to
  rounding; see `train_and_evaluate`. Runs that stand at different steps, and
  runs that do not fit into the memory together, train one group after another.

  Args:
    configs: configurations that differ in their seeds alone.
    workdirs: one directory per configuration.

  Returns:
    The content of every run's `result.json`.

  Raises:
    UserError: if the configs differ elsewhere, or a config, a file or a
      checkpoint does not fit.
    Interrupted: if a signal asked to stop; the states are saved.
  """
  for config in configs:
    first, other = (json.loads(c.to_json()) for c in (configs[0], config))
    first['seed'] = config.seed
    if changed := run_config.differences(first, other, free=()):
      raise errors.UserError(
        'Runs in lockstep may differ in their seeds alone, not in '
        f'{"; ".join(changed)}.'
      )
  if len(set(map(os.path.abspath, workdirs))) < len(configs):
    raise errors.UserError(
      f'Runs in lockstep need a directory each; got {", ".join(workdirs)}.'
    )
  with contextlib.ExitStack() as resources:
    runs = [
      run_lib.Run(config, workdir, resources)
      for config, workdir in zip(configs, workdirs, strict=True)
    ]
    results = {}
    with _StopRequest() as stop:
      runs.sort(key=lambda run: run.first)
      for first_step, group in itertools.groupby(runs, lambda r: r.first):
        if stop.received:
          raise Interrupted(first_step, stop.received)
        crew = list(group)
        found = _train(crew, stop)
        names = [run.workdir for run in crew]
        results.update(zip(names, found, strict=True))
      if stop.received:  # While testing: all is written, but go no further.
        raise Interrupted(runs[-1].config.steps, stop.received)
  return [results[workdir] for workdir in workdirs]


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
    The content of `result.json`: metrics on the test data (of the parameters
    with the best validation metric if the task selects, else of the last
    step), whether training diverged, timings, memory, config and versions.

  Raises:
    UserError: if the config, a file or a checkpoint does not fit.
    Interrupted: if a signal asked to stop; the state is saved.
  """
  (result,) = train_in_lockstep([config], [workdir])
  return result
