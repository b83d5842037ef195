"""Trials as tasks of Ray; no other module imports it."""

from collections.abc import Mapping
import contextlib
import os
import re
import socket
from typing import Any

from idspn_jax import errors
from idspn_jax.studies import sweep_trials

# What workers must see as the sweep does.
_INHERITED = ('JAX_PLATFORMS', 'XLA_FLAGS', 'JAX_COMPILATION_CACHE_DIR')


_ADDRESS = re.compile(r'(?:ray://)?(\[[^]]+\]|[^:/]+):(\d+)')
_PATIENCE = 5.0  # Seconds for a connection.


def check_reachable(address: str) -> None:
  """Refuses a cluster's address at which nothing listens; Ray would go on.

  Args:
    address: like `HOST:6379`; others are left to Ray.

  Raises:
    UserError: naming the address and the reason.
  """
  found = _ADDRESS.fullmatch(address)
  if not found:
    return
  host, port = found[1].strip('[]'), int(found[2])
  try:
    socket.create_connection((host, port), _PATIENCE).close()
  except (OSError, OverflowError, UnicodeError) as e:
    raise errors.UserError(
      f'--address={address}: no Ray cluster answers there ({e}); check the '
      'address, or start one: ray start --head --port=6379.'
    ) from e


def _ray():
  # Sends no statistics.
  os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
  # Processors for JAX are chosen by JAX_PLATFORMS.
  os.environ.setdefault('RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO', '0')
  try:
    import ray
  except ImportError as e:
    raise errors.UserError(
      "--engine=ray needs Ray: pip install 'idspn-jax[sweep]'."
    ) from e
  return ray


class RayEngine:
  """Hands all trials to Ray, which starts them where there is room.

  Every trial gets a process of its own. All hosts must see the checkout and
  the sweep's directory at the same paths.
  """

  def __init__(
    self,
    address: str | None = None,
    cpus: int = 1,
    gpus: float = 0,
    memory: float | None = None,
  ):
    """Connects to a cluster, or starts one on this machine.

    Args:
      address: of a cluster, like `auto` or `HOST:6379`; None starts one.
      cpus: processors per trial.
      gpus: GPUs per trial; a share like 0.5 lets trials share one.
      memory: gigabytes per trial that Ray sets aside; None for any.

    Raises:
      UserError: if Ray is missing, the cluster does not answer, or no host has
        what a trial needs.
    """
    self._ray = _ray()
    if address:
      check_reachable(address)
    environment = {k: os.environ[k] for k in _INHERITED if k in os.environ}
    if not gpus:
      environment['NPROC'] = str(cpus)
    paths = [os.getcwd(), os.environ.get('PYTHONPATH', '')]
    environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    try:
      self._ray.init(
        address=address or 'local',
        # The local cluster inherits the environment.
        runtime_env={'env_vars': environment} if address else None,
        include_dashboard=None if address else False,
        log_to_driver=False,
        logging_level='ERROR',
      )
    except (ConnectionError, ValueError, RuntimeError, OSError) as e:
      raise errors.UserError(
        f'--address={address or "local"}: {" ".join(str(e).split())[:300]}'
      ) from e
    needs = {'CPU': cpus, 'GPU': gpus, 'memory': (memory or 0) * 2**30}
    try:
      self._check(needs)
    except errors.UserError:
      self.close()
      raise
    options = {'num_cpus': cpus, 'num_gpus': gpus}
    if memory:
      options['memory'] = int(needs['memory'])
    # A process per trial; the sweep itself tries again.
    options |= {'max_calls': 1, 'max_retries': 0}
    self._task = self._ray.remote(**options)(_work)
    self._environment = {'NPROC': environment.get('NPROC')}
    self._running: dict[Any, sweep_trials.Trial] = {}

  def _check(self, needs: Mapping[str, float]) -> None:
    nodes = [n['Resources'] for n in self._ray.nodes() if n['Alive']]
    for node in nodes:
      if all(node.get(name, 0) >= need for name, need in needs.items()):
        return
    most = {n: max(r.get(n, 0) for r in nodes) for n in needs}
    raise errors.UserError(
      f'No host has --cpus={needs["CPU"]}, --gpus={needs["GPU"]:g} and '
      f'{needs["memory"] / 2**30:g} GB for a trial; the largest have '
      f'{most["CPU"]:g} CPUs, {most["GPU"]:g} GPUs and '
      f'{most["memory"] / 2**30:.0f} GB.'
    )

  def has_room(self) -> bool:
    """Always: Ray keeps trials until there is room."""
    return True

  def submit(self, trial: sweep_trials.Trial) -> None:
    """Hands a trial to Ray."""
    task = self._task.remote(trial, os.getcwd(), self._environment)
    self._running[task] = trial

  def wait(
    self, seconds: float
  ) -> list[tuple[sweep_trials.Trial, sweep_trials.Outcome]]:
    """Returns the trials that have ended, at the latest after `seconds`."""
    ended, _ = self._ray.wait([*self._running], timeout=seconds)
    return [(self._running.pop(task), self._outcome(task)) for task in ended]

  def _outcome(self, task):
    exceptions = self._ray.exceptions
    try:
      return sweep_trials.Outcome(*self._ray.get(task))
    except (exceptions.TaskCancelledError, KeyboardInterrupt):
      return sweep_trials.Outcome(sweep_trials.STOPPED)
    except exceptions.OutOfMemoryError as e:
      return sweep_trials.Outcome(sweep_trials.MEMORY, _line(e))
    except exceptions.RayTaskError as e:
      return sweep_trials.Outcome(sweep_trials.FAILED, _line(e.cause or e))
    except exceptions.RayError as e:
      return sweep_trials.Outcome(sweep_trials.CRASHED, _line(e))

  def stop(self) -> None:
    """Asks all trials to save and end."""
    for task in self._running:
      with contextlib.suppress(self._ray.exceptions.RayError):
        self._ray.cancel(task)  # SIGINT, which saves.

  def close(self) -> None:
    """Disconnects; ends the cluster if it was started here."""
    self._ray.shutdown()


def _work(trial, directory, environment):
  """The task: trains in the directory that the sweep was started in."""
  os.chdir(directory)
  os.environ.update({k: v for k, v in environment.items() if v is not None})
  sweep_trials.start_log(trial)
  return tuple(sweep_trials.run(trial))


def _line(e):
  return ' '.join(str(e).split())[:300]
