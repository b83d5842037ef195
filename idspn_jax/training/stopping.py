"""Stopping a run from outside: the first signal saves, the second ends."""

import signal

from idspn_jax.training import hosts


class Interrupted(Exception):
  """The run was asked to stop; its state is saved."""

  def __init__(self, step: int, signal_number: int):
    """Remembers where and why."""
    super().__init__(f'interrupted at step {step}')
    self.step = step
    self.exit_code = 128 + signal_number


class Abandoned(Exception):
  """An evaluation was left before its end: the run was asked to stop."""


class StopRequest:
  """Turns the first SIGINT or SIGTERM into a flag; the second acts as usual.

  Usable as a context manager; outside it, signals act as before. Of several
  processes (see `hosts`) one that gets a signal stops all, after the same step.

  Attributes:
    received: the signal's number, or None; the same in all processes.
  """

  _SIGNALS = (signal.SIGINT, signal.SIGTERM)

  def __enter__(self):
    self.received = None
    self._own = 0
    self._largest = hosts.Largest() if hosts.count() > 1 else None
    self._before = {}
    for number in self._SIGNALS:
      try:
        self._before[number] = signal.signal(number, self._receive)
      except ValueError:  # Not in the main thread: signals go elsewhere.
        break
    return self

  def _receive(self, number, frame):
    del frame
    self._own = number
    if self._largest is None:
      self.received = number
    signal.signal(number, self._before[number] or signal.SIG_DFL)

  def agree(self) -> None:
    """Asks the other processes; all call it equally often, as per step."""
    if self._largest is not None and self.received is None:
      self.received = self._largest(self._own) or None

  def __exit__(self, *_):
    for number, handler in self._before.items():
      signal.signal(number, handler)
