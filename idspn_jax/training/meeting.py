"""How the processes of a run find each other, and what ends those that wait."""

from collections.abc import Iterator
import contextlib
import os
import re
import signal
import socket
import sys
import threading

import jax

from idspn_jax import errors

# Seconds that processes wait for each other.
_MEET_WITHIN = 120
# JAX would end a process that has waited too long by an abort.
_JAX_WAITS = 2 * _MEET_WITHIN
# Exit status of a process whose error the user can mend.
_STATUS = 2


def check(address: str | None, processes: int | None, process: int | None):
  """Refuses flags that name no group of processes.

  Args:
    address: host and port of process 0.
    processes: how many there are.
    process: the number of this one.

  Raises:
    UserError: naming the flag.
  """
  if not (address and processes is not None and process is not None):
    raise errors.UserError(
      'Give all of --coordinator_address=HOST:PORT (of process 0), '
      '--num_processes and --process_id, or none of them where SLURM, Open '
      'MPI, GKE or a TPU pod starts the processes.'
    )
  if processes < 1:
    raise errors.UserError(f'--num_processes={processes} must be at least 1.')
  if not 0 <= process < processes:
    raise errors.UserError(
      f'--process_id={process} must be from 0 to {processes - 1}, '
      f'--num_processes={processes} less one.'
    )
  found = re.fullmatch(r'(.+):(\d+)', address)
  if not found:
    raise errors.UserError(
      f'--coordinator_address={address}: give HOST:PORT of process 0.'
    )
  host, port = found.groups()
  if not 1 <= int(port) <= 65535:
    raise errors.UserError(
      f'--coordinator_address={address}: the port must be from 1 to 65535.'
    )
  try:
    socket.getaddrinfo(host.removeprefix('[').removesuffix(']'), int(port))
  except (OSError, UnicodeError) as e:
    raise errors.UserError(
      f'--coordinator_address={address}: there is no host {host} '
      f'({getattr(e, "strerror", None) or e}); give the name or address of '
      'the host of process 0.'
    ) from e


def meet(*given: str | int | None, lost_after: int) -> None:
  """Waits for the other processes of a run.

  Ends this process at once on SIGINT, or with one line on standard error if the
  others do not come in time: JAX's waiting cannot be left otherwise.

  Args:
    *given: of `check`; each is None where the launcher says it.
    lost_after: seconds without a sign of life after which one counts as lost.

  Raises:
    UserError: if JAX says that they do not meet.
  """
  with _ending(_MEET_WITHIN):
    try:
      jax.distributed.initialize(
        *given,
        heartbeat_timeout_seconds=lost_after,
        initialization_timeout=_JAX_WAITS,
      )
    except (RuntimeError, ValueError) as e:
      raise errors.UserError(_not_met(' '.join(str(e).split()))) from e


def _not_met(why):
  return (
    f'The processes of this run did not meet: {why} Start all of them, with '
    'the same --coordinator_address and --num_processes and each with a '
    '--process_id of its own.'
  )


@contextlib.contextmanager
def _ending(seconds) -> Iterator[None]:
  """Ends this process if the block takes longer, or on SIGINT."""

  def end():
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    why = f'the others have not come within {seconds} seconds.'
    sys.stderr.write(f'{name}: error: {_not_met(why)}\n')
    sys.stderr.flush()
    os._exit(_STATUS)

  late = threading.Timer(seconds, end)
  late.daemon = True
  before = signal.getsignal(signal.SIGINT)
  in_main = threading.current_thread() is threading.main_thread()
  changes = in_main and callable(before)
  if changes:
    # Python's handler would run only after the wait.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
  late.start()
  try:
    yield
  finally:
    late.cancel()
    if changes:
      signal.signal(signal.SIGINT, before)
