"""A sweep as a job array of SLURM."""

from collections.abc import Sequence
import math
import os
import re
import shlex

from idspn_jax import errors
from idspn_jax.runs import files
from idspn_jax.studies import sweep_trials

# Seconds before the end of a job's time at which it is asked to save.
_WARNING = 120
# Of the sweep's directory, for the jobs' logs.
FOLDER = 'slurm'
_TIME = re.compile(r'(\d+-)?\d+(:\d+){0,2}')
# What a quoted value of a script's option cannot hold, or SLURM changes in it.
_UNQUOTABLE = re.compile(r'["\\\x00-\x1f]')


def write(
  path: str,
  trials: Sequence[sweep_trials.Trial],
  command: Sequence[str],
  workdir: str,
  cpus: int,
  gpus: float,
  memory: float | None,
  time: str | None,
) -> None:
  """Writes a script for `sbatch`, an array with one job per trial.

  A job that is asked to stop, at the end of its time or when it is preempted,
  saves; the same script then goes on.

  Args:
    path: of the script.
    trials: the trials.
    command: runs a trial, whose name comes last.
    workdir: of the sweep; logs go there.
    cpus: processors per trial.
    gpus: GPUs per trial.
    memory: gigabytes per trial; the cluster's default if None.
    time: a trial's time, like `12:00:00`; the cluster's default if None.

  Raises:
    UserError: if a value does not fit SLURM, or the file cannot be written.
  """
  if gpus != int(gpus):
    raise errors.UserError(
      f'--gpus={gpus:g}: SLURM gives whole GPUs; give an integer.'
    )
  if time is not None and not _TIME.fullmatch(time):
    raise errors.UserError(
      f'--time={time}: give minutes, or a time like 12:00:00 or 2-12:00:00.'
    )
  if time is not None and not re.search('[1-9]', time):
    raise errors.UserError(
      f'--time={time}: SLURM takes 0 for no limit; give a time like 12:00:00, '
      "or leave --time out for the cluster's default."
    )
  options = [
    '--job-name=idspn-sweep',
    f'--array=0-{len(trials) - 1}',
    f'--cpus-per-task={cpus}',
    '--requeue',
    f'--signal=B:TERM@{_WARNING}',
    '--open-mode=append',
    f'--output={_log_pattern(workdir)}',
  ]
  if gpus:
    options.append(f'--gres=gpu:{int(gpus)}')
  if memory is not None:
    # 0 would be all of the node's.
    options.append(f'--mem={max(1, math.ceil(memory * 1024))}M')
  if time:
    options.append(f'--time={time}')
  names = '\n'.join(f'  {shlex.quote(trial.name)}' for trial in trials)
  lines = [
    '#!/bin/bash',
    *(f'#SBATCH {option}' for option in options),
    '',
    '# One trial per task of the array. Submit it again to continue.',
    f'cd {shlex.quote(os.getcwd())} || exit 1',
    f'trials=(\n{names}\n)',
    # Replaced, so that the signals reach Python.
    f'exec {shlex.join(command)} "${{trials[$SLURM_ARRAY_TASK_ID]}}"',
    '',
  ]
  files.make_directory(os.path.join(workdir, FOLDER), '--workdir')
  files.write_atomically(path, '\n'.join(lines))


def _log_pattern(workdir):
  """The value of --output, for a log per task of the array.

  Raises:
    UserError: if the directory's name does not fit into it.
  """
  if _UNQUOTABLE.search(workdir):
    raise errors.UserError(
      f'--workdir={workdir!r}: SLURM takes no path with quotes, backslashes or '
      'line breaks for its logs; use another directory.'
    )
  # A percent sign begins a pattern such as %j.
  path = os.path.join(workdir.replace('%', '%%'), FOLDER, '%A_%a.log')
  return path if shlex.quote(path) == path else f'"{path}"'
