"""Several processes, on one host or many, that train one run together.

Every process has its share of the devices and of each batch; all take the same
steps. Process 0 alone reads and writes the run's directory: what it finds there
is sent to the others, which need not see the directory at all.
"""

from collections.abc import Callable, Iterator
import contextlib
import json
import os
import re
import sys
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

from idspn_jax import errors
from idspn_jax.training import meeting

# Seconds without a sign of life after which a process counts as lost.
_LOST_AFTER = 30
# Exit status of a process that was left by another one.
LEFT = 75
# How runtimes say that another process is gone.
_LOST = re.compile(
  'gloo|nccl|socket|connection|coordination|heartbeat|unavailable|'
  'deadline.exceeded|another task|halted',
  re.IGNORECASE,
)


def launched_together() -> bool:
  """Whether the launcher says that there are several processes.

  SLURM's srun, Open MPI's mpirun, and TPU pods on GKE or with queued resources
  say so in the environment.
  """
  env = os.environ
  steps = ('SLURM_JOB_ID', 'SLURM_STEP_NODELIST', 'SLURM_PROCID')
  if all(name in env for name in steps):
    return env.get('SLURM_NTASKS', '1') != '1'
  return (
    env.get('OMPI_COMM_WORLD_SIZE', '1') != '1'
    or ',' in env.get('TPU_WORKER_HOSTNAMES', '')
    or ',' in env.get('TPU_PROCESS_ADDRESSES', '')
    or 'MEGASCALE_COORDINATOR_ADDRESS' in env
  )


@contextlib.contextmanager
def session(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> Iterator[None]:
  """Joins the processes of a run; does nothing for a single one.

  Enter it before JAX has been used. If something is raised inside, all that
  this process holds is dropped and it ends at once, with a line on standard
  error: the others then learn of it instead of waiting.

  Args:
    coordinator_address: host and port of process 0; None takes what SLURM, Open
      MPI or a TPU pod says.
    num_processes: how many there are; likewise.
    process_id: the number of this one; likewise.

  Raises:
    UserError: if only some arguments are given, or the processes do not meet.
  """
  given = (coordinator_address, num_processes, process_id)
  alone = all(value is None for value in given)
  if alone and not launched_together():
    yield
    return
  if not alone:
    meeting.check(*given)
  meeting.meet(*given, lost_after=_LOST_AFTER)
  try:
    yield
    jax.distributed.shutdown()
  except BaseException as e:
    # Not by raising it: leaving Python would wait for the other processes.
    _leave(e)


def _leave(e):
  """Ends this process with one line; what is not ours keeps its traceback."""
  status = 1
  if isinstance(e, SystemExit):
    status = e.code if isinstance(e.code, int) else 1
  elif isinstance(e, errors.UserError):
    status, line = 2, f'error: {_one_line(e)}'
  elif errors.interrupted(e):
    status, line = 130, 'interrupted'
  elif lost(e):
    status = LEFT
    line = (
      'error: another process of this run has ended '
      f'({_one_line(e)[:150]}). Start all of them again: the run continues '
      'from its last checkpoint.'
    )
  else:
    sys.excepthook(type(e), e, e.__traceback__)
    line = f'error: {type(e).__name__}'
  if not isinstance(e, SystemExit):
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    sys.stderr.write(f'{name}: process {jax.process_index()}: {line}\n')
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)


def lost(e: BaseException) -> bool:
  """Whether an error says that another process is gone."""
  kind = isinstance(e, RuntimeError | ValueError | OSError)
  return kind and count() > 1 and bool(_LOST.search(str(e)))


def _one_line(e):
  return ' '.join(str(e).split())


def count() -> int:
  """How many processes train together."""
  return jax.process_count()


def is_writer() -> bool:
  """Whether this process reads and writes the run's directory."""
  return jax.process_index() == 0


def from_writer(function: Callable[[], Any]) -> Any:
  """Calls a function in process 0 and returns its result in all.

  Args:
    function: its result can be written as JSON if there are several processes.

  Returns:
    The result; in a single process the very object.

  Raises:
    UserError: in all processes, if the function raises it.
  """
  if count() == 1:
    return function()
  answer = {'value': None, 'error': None}
  if is_writer():
    try:
      answer['value'] = function()
    except errors.UserError as e:
      answer['error'] = str(e)
  answer = json.loads(_send_text(json.dumps(answer)))
  if answer['error'] is not None:
    raise errors.UserError(answer['error'])
  return answer['value']


def _send_text(text):
  """Process 0's text, in all processes."""
  data = np.frombuffer(text.encode(), np.uint8) if is_writer() else None
  size = np.int32(0 if data is None else len(data))
  size = int(multihost_utils.broadcast_one_to_all(size))
  data = np.zeros(size, np.uint8) if data is None else data
  return bytes(np.asarray(multihost_utils.broadcast_one_to_all(data))).decode()


def gather(text: str) -> list[str]:
  """The texts of all processes, in all, in the order of their numbers."""
  if count() == 1:
    return [text]
  data = np.frombuffer(text.encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(len(data)))
  padded = np.zeros(np.max(sizes), np.uint8)
  padded[: len(data)] = data
  rows = multihost_utils.process_allgather(padded)
  return [
    bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)
  ]


def send_arrays(tree: Any) -> Any:
  """Process 0's arrays, in all processes, on the host.

  Args:
    tree: of the same structure, shapes and types in all.
  """
  tree = jax.tree.map(np.asarray, tree)
  found = multihost_utils.broadcast_one_to_all(tree)
  return jax.tree.map(
    lambda new, old: np.asarray(new).astype(old.dtype), found, tree
  )


def all_of(flag: bool) -> bool:
  """Whether a flag is true in all processes."""
  if count() == 1:
    return flag
  return bool(np.all(multihost_utils.process_allgather(np.int32(flag))))


class Largest:
  """The largest of the processes' numbers, one call later.

  So no step waits for it: the devices compute it beside the steps.
  """

  def __init__(self):
    """Prepares the maximum over all devices."""
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ('devices',))
    spec = jax.sharding.PartitionSpec
    self._by_device = jax.sharding.NamedSharding(mesh, spec('devices'))
    everywhere = jax.sharding.NamedSharding(mesh, spec())
    self._largest = jax.jit(lambda x: x.max(), out_shardings=everywhere)
    self._asked: jax.Array | None = None

  def __call__(self, number: int) -> int:
    """Gives this process's number, not negative.

    All processes call it equally often.

    Returns:
      The largest number that a process gave in the call before; 0 at first.
    """
    before = self._asked
    numbers = jax.make_array_from_callback(
      (jax.device_count(),), self._by_device, lambda _: np.int32([number])
    )
    self._asked = self._largest(numbers)
    return 0 if before is None else int(before)
