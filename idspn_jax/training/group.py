"""Runs that differ in their seeds alone and take every step together."""

from collections.abc import Iterator, Sequence
import contextlib
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np
import tqdm

from idspn_jax import errors
from idspn_jax.training import evaluation
from idspn_jax.training import hosts
from idspn_jax.training import iterations as iterations_lib
from idspn_jax.training import parallel as parallel_lib
from idspn_jax.training import prefetch
from idspn_jax.training import run as run_lib
from idspn_jax.training import seeds as seeds_lib
from idspn_jax.training import state as state_lib
from idspn_jax.training import step as step_lib
from idspn_jax.training import stopping


class Group:
  """Training runs at the same step, advanced by one compiled program.

  Attributes:
    runs: the runs.
    config: their configuration, but for the seed.
    first: the step from which they continue.
    state: their states, stacked if there are several.
  """

  def __init__(
    self, runs: Sequence[run_lib.TrainingRun], stop: stopping.StopRequest
  ):
    """Stacks and places the runs' states.

    Args:
      runs: the runs.
      stop: ends evaluations early.
    """
    self.runs = runs
    self.config = runs[0].config
    self.first = runs[0].first
    self._task = runs[0].task
    self._vectorized = seeds_lib.VectorizedSeeds(len(runs))
    self._parallel = parallel_lib.make_parallel(
      self.config.parallel, self.config.batch_size, len(runs)
    )
    self._schedule = iterations_lib.Schedule(self.config, self._task.iterates)
    self._evaluate = evaluation.Evaluator(
      self._task,
      [run.data for run in runs],
      [run.config.seed for run in runs],
      stop,
    )
    keep_best = self._vectorized.map(state_lib.keep_best)
    self._keep_best = jax.jit(keep_best)
    self.state = self._parallel.place_state(
      self._vectorized.stack([run.state for run in runs])
    )
    self._train_seconds = 0.0
    self._timed_steps = 0
    self._compiled: dict[iterations_lib.Options, Any] = {}
    self._peak_bytes: int | None = None

  @contextlib.contextmanager
  def batches(self) -> Iterator[Iterator[Any]]:
    """Opens the placed batches from the first step on, all seeds stacked.

    One batch more than asked for is on its way to the devices.
    """
    with contextlib.ExitStack() as streams:
      opened = [
        streams.enter_context(run.data.train(self.first)) for run in self.runs
      ]
      stacked = map(self._vectorized.stack, zip(*opened, strict=True))
      yield prefetch.prefetched(stacked, self._parallel.place_batch)

  def compile(self, batch: Any) -> bool:
    """Compiles the step with most inner steps and starts.

    Args:
      batch: a placed batch.

    Returns:
      Whether it fits into the memory, of every process.
    """
    self._step_with(self._schedule.largest, batch)
    return hosts.all_of(self._peak_bytes <= seeds_lib.memory_limit())

  def _step_with(self, options, batch):
    """The compiled step of these options."""
    if options not in self._compiled:
      step = step_lib.make_train_step(
        self._task,
        self.config,
        *options,
        axis_name=self._parallel.axis_name,
        mesh=self._parallel.mesh,
      )
      compiled = self._parallel.compile(
        self._vectorized.map(step), self.state, batch
      )
      self._compiled[options] = compiled
      peak = parallel_lib.peak_bytes(compiled)
      self._peak_bytes = max(peak, self._peak_bytes or 0)
    return self._compiled[options]

  def advance(self, step: int, batch: Any) -> Any:
    """Takes training step `step`, counted from 0; returns its scalars."""
    compiled = self._step_with(self._schedule(step), batch)
    self.state, scalars = compiled(self.state, batch)
    return scalars

  def all_diverged(self, step: int, scalars: Any) -> bool:
    """Notes whose loss or gradient is not finite; true if no run is left."""
    if self.config.on_nonfinite == 'skip':
      return False
    scalars = self._parallel.take_scalars(scalars)
    finite = np.isfinite([scalars['loss'], scalars['gradient_norm']])
    finite = np.atleast_1d(np.all(finite, axis=0))
    for i, (run, good) in enumerate(zip(self.runs, finite, strict=True)):
      if not good and run.diverged_at is None:
        self._hand_back()  # States from before their bad steps.
        bad = int(run.state.skipped_at)
        run.diverge(bad + 1)
        run.write(bad + 1, 'train', self._vectorized.unstack(scalars)[i])
        with run.data.train(bad) as batches:
          batch = self._whole(next(batches))
        run.keep_reproduction(batch, *self._schedule(bad))
    return all(run.diverged_at is not None for run in self.runs)

  def _whole(self, batch):
    """A seed's batch on the host, also if every process has a share."""
    if hosts.count() == 1:
      return batch
    place = parallel_lib.JitParallel(self.config.batch_size).place_batch
    return multihost_utils.process_allgather(place(batch), tiled=True)

  def report(
    self, step: int, scalars: Any, steps: int, seconds: float, bar: tqdm.tqdm
  ) -> None:
    """Logs training scalars and how fast the last `steps` were."""
    self._train_seconds += seconds
    self._timed_steps += steps
    every = self._vectorized.unstack(self._parallel.take_scalars(scalars))
    for run, own in zip(self.runs, every, strict=True):
      if run.diverged_at is None:
        rate = steps / seconds
        run.write(step, 'train', {**own, 'steps_per_second': rate})
    losses = ' '.join(f'{float(own["loss"]):.3g}' for own in every)
    bar.set_postfix_str(f'loss={losses}', refresh=False)

  def _hand_back(self):
    """Gives every run its own state."""
    state = self._parallel.take_state(self.state)
    states = self._vectorized.unstack(state)
    for run, own in zip(self.runs, states, strict=True):
      run.state = own

  def save(self, step: int) -> None:
    """Saves every run that has not diverged."""
    self._hand_back()
    for run in self.runs:
      if run.diverged_at is None:
        run.save(step)

  def evaluate_again(self) -> None:
    """Evaluates the first step if a stop has ended its evaluation early."""
    step = self.first
    due = step > 0 and step % self.config.eval_every == 0
    if due and not all(run.evaluated for run in self.runs):
      # Saved before it is logged: what is logged is not evaluated again.
      self.validate(step, saves=True)

  def validate(self, step: int, saves: bool = False) -> None:
    """Evaluates on the way; remembers the best variables if that counts.

    Does nothing if it is asked to stop meanwhile; see `evaluate_again`.

    Args:
      step: the present one.
      saves: whether to save a new best before its metrics are logged.
    """
    selection = self._task.selection
    split = 'test' if selection is None else 'validation'
    state = self._parallel.take_state(self.state)
    try:
      metrics = self._evaluate(state.variables, split)
    except stopping.Abandoned:
      return
    going = [run.diverged_at is None for run in self.runs]
    bad = self._evaluate.nonfinite
    for run, own, batch in zip(self.runs, metrics, bad, strict=True):
      # A metric of another kind may be undefined without divergence.
      if run.diverged_at is None and not np.isfinite(own.get('loss', 0.0)):
        run.diverge(step, batch)
    if selection is not None:
      self._check_selects(metrics)
      values = [
        np.asarray(own[selection] if run.diverged_at is None else -np.inf)
        for run, own in zip(self.runs, metrics, strict=True)
      ]
      value = self._vectorized.stack(values).astype(np.float32)
      best = self._keep_best(state, value)
      self.state = self._parallel.place_state(best)
    if saves:
      self.save(step)
    for run, own, writes in zip(self.runs, metrics, going, strict=True):
      if writes:
        run.write(step, 'eval', own)

  def _check_selects(self, metrics):
    selection = self._task.selection
    if selection not in metrics[0]:
      raise errors.UserError(
        f'{type(self._task).__name__} selects by {selection!r}, but its '
        f'metrics are {", ".join(metrics[0])}.'
      )

  def test(self, step: int) -> list[dict[str, float]]:
    """Returns every run's metrics on the test data, where there are any.

    Raises:
      Abandoned: if it is asked to stop meanwhile; nothing is written.
    """
    state = self._parallel.take_state(self.state)
    metrics = self._evaluate(state.selected, 'test')
    for i, run in enumerate(self.runs):
      if run.diverged_at is None or run.has_selected:
        prefix = 'eval' if self._task.selection is None else 'test'
        run.write(step, prefix, metrics[i])
      else:
        metrics[i] = {}
    return metrics

  def costs(self) -> dict[str, Any]:
    """Time and memory of the steps just taken, of all seeds together."""
    if not self._compiled:
      return {}
    return {
      'seconds_per_step': (
        self._train_seconds / self._timed_steps if self._timed_steps else None
      ),
      'peak_bytes': self._peak_bytes,
      'vectorized_seeds': len(self.runs),
    }
