"""Stopping a run from outside: the first signal saves, the second ends."""

import signal


class Interrupted(Exception):
  """The run was asked to stop; its state is saved."""

  def __init__(self, step: int, signal_number: int):
    """Remembers where and why."""
    super().__init__(f'interrupted at step {step}')
    self.step = step
    self.exit_code = 128 + signal_number


class StopRequest:
  """Turns the first SIGINT or SIGTERM into a flag; the second acts as usual.

  Usable as a context manager; outside it, signals act as before.

  Attributes:
    received: the signal's number, or None.
  """

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
