"""Trains an experiment of `configs/`, or continues it.

    python -m experiments.train --config=configs/random_multisets.py:n=4,d=4 \
      --workdir=runs/n4_d4 [--config.KEY=VALUE ...]

Running the same command again resumes at the last checkpoint; Ctrl-C saves
one first. The directory may be on shared storage, like gs://bucket/run.

On several hosts the same command runs on each. Under SLURM's srun, Open MPI,
GKE and on TPU pods the processes find each other; elsewhere give every one
--coordinator_address=HOST:PORT (of the first), --num_processes and its
--process_id. The first one reads and writes the directory.
"""

import shlex

from absl import flags

from experiments import command_line
from experiments import config_flag
from idspn_jax import errors

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the run.')
_COORDINATOR = flags.DEFINE_string(
  'coordinator_address', None, 'Several processes: HOST:PORT of process 0.'
)
_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'Several processes: how many.'
)
_PROCESS = flags.DEFINE_integer(
  'process_id', None, 'Several processes: the number of this one, from 0.'
)


def _report(result):
  """Prints the final metrics; returns the exit status."""
  if result['diverged']:
    print(
      f'Diverged: the loss at step {result["step"]} is not finite; see '
      f'{_WORKDIR.value}/scalars.jsonl.'
    )
    if 'evaluation_batch' in result:
      print(
        f'It is that of batch {result["evaluation_batch"]} of the evaluation '
        'after this step, counted from 0.'
      )
    if 'reproduction' in result:
      print(
        f'Batch {result["batch"]}, counted from 0, and the state before it are '
        f'kept: python -m experiments.replay {shlex.quote(_WORKDIR.value)}'
      )
  if result.get('skipped_steps'):
    print(f'Steps left out, not finite: {result["skipped_steps"]}')
  if result.get('selected', {}).get('step') is not None:
    print(f'Test of step {result["selected"]["step"]}, the best in validation:')
  for name, value in result['metrics'].items():
    print(f'{name}: {value:.4g}')
  print(f'Saved in {_WORKDIR.value}/result.json')
  return 1 if result['diverged'] else 0


def main(argv):
  """Trains and prints the final metrics."""
  del argv
  # Here, so that --help and wrong flags answer at once.
  from idspn_jax.training import hosts
  from idspn_jax.training import loop

  if _CONFIG.value is None:
    raise errors.UserError(
      'Give a config, for example --config=configs/random_multisets.py:n=4,d=4'
    )
  if not _WORKDIR.value:
    raise errors.UserError('Give the run a directory: --workdir=DIR.')
  with hosts.session(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value):
    command_line.check_accelerator()
    writes = hosts.is_writer()
    try:
      result = loop.train_and_evaluate(_CONFIG.value, _WORKDIR.value)
    except loop.Interrupted as e:
      if writes:
        print(
          f'Stopped at step {e.step}; the same command continues from there.'
        )
      return e.exit_code
    if writes:
      return _report(result)
    return 1 if result['diverged'] else 0


main.joins_processes = True

if __name__ == '__main__':
  command_line.run(main)
