"""Trials in processes of their own on this machine."""

from collections.abc import Callable, Sequence
import os
import signal
import subprocess
import threading
import time

from idspn_jax.studies import sweep_trials

_POLL = 0.1


class ProcessEngine:
  """Runs so many trials at once, each in a process.

  A process that crashes takes no other trial with it. A process saves and ends
  when its standard input closes: when the sweep stops, or has been killed.
  """

  def __init__(
    self,
    command: Callable[[sweep_trials.Trial], Sequence[str]],
    jobs: int = 1,
    cpus: int | None = None,
  ):
    """Starts nothing yet.

    Args:
      command: a command that calls `run_attached` with this trial.
      jobs: how many at once.
      cpus: how many threads each computes with; None for as many as there are.
    """
    self._command = command
    self._jobs = jobs
    self._environment = {**os.environ}
    if cpus is not None:
      self._environment['NPROC'] = str(cpus)
    self._running: dict[str, tuple[sweep_trials.Trial, subprocess.Popen]] = {}
    self._stopping = False

  def has_room(self) -> bool:
    """Whether another trial can be started."""
    return len(self._running) < self._jobs

  def submit(self, trial: sweep_trials.Trial) -> None:
    """Starts a trial."""
    # A session of its own: Ctrl-C in the terminal reaches the sweep alone.
    process = subprocess.Popen(
      [*self._command(trial)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env=self._environment,
      start_new_session=True,
      text=True,
    )
    self._running[trial.name] = trial, process

  def wait(
    self, seconds: float
  ) -> list[tuple[sweep_trials.Trial, sweep_trials.Outcome]]:
    """Returns the trials that have ended, at the latest after `seconds`."""
    end = time.monotonic() + seconds
    while True:
      ended = [
        (trial, process)
        for trial, process in self._running.values()
        if process.poll() is not None
      ]
      if ended or time.monotonic() > end:
        break
      time.sleep(_POLL)
    found = []
    for trial, process in ended:
      del self._running[trial.name]
      with process:  # Closes its pipes.
        output = process.stdout.read()
      found.append((trial, self._outcome(trial, output, process.returncode)))
    return found

  def _outcome(self, trial, output, status):
    lines = output.splitlines()
    told = sweep_trials.outcome_of(lines[-1]) if lines else None
    if told is not None:
      return told
    if self._stopping:
      return sweep_trials.Outcome(sweep_trials.STOPPED)
    if status < 0:
      reason = f'ended by {signal.Signals(-status).name}'
    else:
      reason = f'ended with status {status}'
    return sweep_trials.Outcome(
      sweep_trials.CRASHED, f'{reason}; see {trial.log}'
    )

  def stop(self) -> None:
    """Asks all trials to save and end."""
    self._stopping = True
    for _, process in self._running.values():
      process.stdin.close()

  def close(self) -> None:
    """Ends trials that are still running, without saving."""
    for _, process in self._running.values():
      with process:  # Closes its pipes, and waits.
        process.kill()
    self._running.clear()


def run_attached(trial: sweep_trials.Trial) -> None:
  """Runs a trial for a `ProcessEngine` and tells it the outcome.

  Args:
    trial: the trial.
  """
  answer = os.dup(1)
  sweep_trials.start_log(trial)
  threading.Thread(target=_stop_at_end_of_input, daemon=True).start()
  outcome = sweep_trials.run(trial)
  os.write(answer, outcome.line().encode() + b'\n')


def _stop_at_end_of_input():
  while os.read(0, 4096):
    pass
  os.kill(os.getpid(), signal.SIGTERM)
