"""Orbax without its own log of errors, and in one of several processes."""

import asyncio
import contextlib
import logging as logging_lib
import os
import threading
import time

from absl import logging
import jax
import orbax.checkpoint as ocp


class _DrainingLoop(asyncio.SelectorEventLoop):
  """Waits for all reads and writes of arrays before it closes.

  After one that fails, Orbax closes its event loop while the others go on, and
  each of them then prints a traceback.
  """

  def __init__(self):
    super().__init__()
    # The first error is raised; the others are of the same cause.
    self.set_exception_handler(lambda loop, context: None)

  def close(self):
    if not self.is_closed():
      pending = asyncio.all_tasks(self)
      if pending:
        self.run_until_complete(
          asyncio.gather(*pending, return_exceptions=True)
        )
    super().close()


class _DrainingPolicy(asyncio.DefaultEventLoopPolicy):
  def new_event_loop(self):
    return _DrainingLoop()


class _NotOrbax(logging_lib.Filter):
  def filter(self, record):
    return os.path.join('orbax', 'checkpoint') not in record.pathname


class QuietOrbax:
  """A context in which Orbax raises errors without printing them as well.

  It logs every failed thread with its traceback. May be entered by several
  threads, and again inside.
  """

  _lock = threading.Lock()
  _users = 0
  _filter = _NotOrbax()
  _before: asyncio.AbstractEventLoopPolicy | None = None

  def __enter__(self):
    with QuietOrbax._lock:
      QuietOrbax._users += 1
      if QuietOrbax._users == 1:
        QuietOrbax._before = asyncio.get_event_loop_policy()
        asyncio.set_event_loop_policy(_DrainingPolicy())
        logging.get_absl_logger().addFilter(self._filter)

  def __exit__(self, *_):
    with QuietOrbax._lock:
      QuietOrbax._users -= 1
      if QuietOrbax._users == 0:
        asyncio.set_event_loop_policy(QuietOrbax._before)
        logging.get_absl_logger().removeFilter(self._filter)


def alone():
  """Of several processes only the one that calls Orbax takes part."""
  own = jax.process_index()
  if jax.process_count() == 1:
    return ocp.options.MultiprocessingOptions()
  return ocp.options.MultiprocessingOptions(
    primary_host=own,
    active_processes={own},
    barrier_sync_key_prefix=f'process_{own}',
  )


def join_threads(seconds=10.0):
  """Waits for threads of a failed save, which write for a while longer."""
  end = time.monotonic() + seconds
  for thread in threading.enumerate():
    if type(thread).__module__.startswith('orbax.'):
      with contextlib.suppress(Exception):  # Joining raises its error again.
        thread.join(max(0.0, end - time.monotonic()))
