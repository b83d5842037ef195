"""Runs the trials of a sweep on an engine, again where they crash."""

import collections
from collections.abc import Sequence
import os
import time
from typing import Protocol

from idspn_jax.studies import sweep_board
from idspn_jax.studies import sweep_results
from idspn_jax.studies import sweep_trials
from idspn_jax.training import stopping

_TICK = 0.5  # Seconds between looks.


class Engine(Protocol):
  """Where trials run; see `sweep_processes` and `ray_engine`."""

  def has_room(self) -> bool:
    """Whether another trial can be handed over."""

  def submit(self, trial: sweep_trials.Trial) -> None:
    """Takes a trial over."""

  def wait(
    self, seconds: float
  ) -> list[tuple[sweep_trials.Trial, sweep_trials.Outcome]]:
    """Returns the trials that have ended, at the latest after `seconds`."""

  def stop(self) -> None:
    """Asks all trials to save and end."""

  def close(self) -> None:
    """Frees what the engine holds."""


class Sweep:
  """Trials, what has become of them, and what is running."""

  def __init__(
    self,
    trials: Sequence[sweep_trials.Trial],
    results: sweep_results.ResultsFile,
    board: sweep_board.Board,
    retries: int = 2,
  ):
    """Runs nothing yet.

    Args:
      trials: the trials.
      results: where outcomes go.
      board: where progress is shown.
      retries: how often a trial that crashes is tried again by this call.
    """
    self._trials = trials
    self._results = results
    self._board = board
    self._retries = retries
    self._tried: collections.Counter[str] = collections.Counter()
    self._started: dict[str, float] = {}

  def run(self, engine: Engine) -> int:
    """Runs what has not finished.

    Args:
      engine: where; closed by the caller.

    Returns:
      0 if all trials have finished, 1 if some have not; after a signal, which
      lets the running trials save first, 128 plus its number.

    Raises:
      UserError: if the results cannot be written.
    """
    waiting = collections.deque(
      trial for trial in self._trials if not self._results.is_done(trial)
    )
    self._results.write()
    stopped = False
    with stopping.StopRequest() as stop:
      while waiting or self._started:
        if stop.received and not stopped:
          stopped = True
          waiting.clear()
          engine.stop()
        while waiting and engine.has_room():
          self._submit(engine, waiting.popleft())
        for trial, outcome in engine.wait(_TICK):
          if self._note(trial, outcome, bool(stop.received)):
            waiting.append(trial)
        self._board.draw(self.rows())
      received = stop.received
    self._board.draw(self.rows())
    if received:
      return 128 + received
    return int(not all(map(self._results.is_done, self._trials)))

  def _submit(self, engine, trial):
    self._tried[trial.name] += 1
    self._started[trial.name] = time.time()
    engine.submit(trial)

  def _note(self, trial, outcome, asked):
    """Notes how an attempt ended; returns whether to try again.

    Args:
      trial: the trial.
      outcome: of the attempt.
      asked: whether the sweep was asked to stop.
    """
    ran = self._is_running(trial)
    seconds = time.time() - self._started.pop(trial.name)
    if ran or outcome.kind != sweep_trials.STOPPED:
      self._results.add(trial, outcome, seconds)
      self._results.write()
    return (
      not asked
      # One that stops by itself got a signal of its own.
      and outcome.kind in (*sweep_trials.AGAIN, sweep_trials.STOPPED)
      and self._tried[trial.name] <= self._retries
    )

  def rows(self, look: bool = False) -> list[sweep_board.Row]:
    """A line for every trial.

    Args:
      look: whether to look for other processes that train trials, or did.
    """
    return [self._row(trial, look) for trial in self._trials]

  def _row(self, trial, look):
    attempts = len(self._results.attempts.get(trial.name, []))
    outcome = self._results.state(trial)
    step, steps = trial.progress()
    if trial.name in self._started:
      running = self._is_running(trial)
      outcome = sweep_trials.Outcome('running' if running else 'waiting')
      attempts += running
    elif look and not self._results.is_done(trial):
      if trial.in_use():
        outcome = sweep_trials.Outcome('running')
      elif outcome.kind == 'waiting' and trial.is_begun():
        text = 'no process trains it now; its log says why'
        outcome = sweep_trials.Outcome('unfinished', text)
    return sweep_board.Row(
      trial.name, outcome.kind, step, steps, attempts, outcome.text
    )

  def _is_running(self, trial):
    """Whether a trial that was handed over has started: it begins its log."""
    try:
      return os.path.getmtime(trial.log) >= self._started[trial.name] - 1
    except OSError:
      return False
