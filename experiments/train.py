"""Trains an experiment of `configs/`, or continues it.

    python -m experiments.train --config=configs/random_multisets.py:n=4,d=4 \
      --workdir=runs/n4_d4 [--config.KEY=VALUE ...]

Running the same command again resumes at the last checkpoint; Ctrl-C saves
one first.
"""

from absl import flags

from experiments import command_line
from experiments import config_flag
from idspn_jax import errors

_CONFIG = config_flag.define()
_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the run.')


def main(argv):
  """Trains and prints the final metrics."""
  del argv
  # Here, so that --help and wrong flags answer at once.
  from idspn_jax.training import loop

  if _CONFIG.value is None:
    raise errors.UserError(
      'Give a config, for example --config=configs/random_multisets.py:n=4,d=4'
    )
  if not _WORKDIR.value:
    raise errors.UserError('Give the run a directory: --workdir=DIR.')
  try:
    result = loop.train_and_evaluate(_CONFIG.value, _WORKDIR.value)
  except loop.Interrupted as e:
    print(f'Stopped at step {e.step}; the same command continues from there.')
    return e.exit_code
  if result['diverged']:
    print(
      f'Diverged: the loss at step {result["step"]} is not finite; see '
      f'{_WORKDIR.value}/scalars.jsonl.'
    )
  if result.get('selected', {}).get('step') is not None:
    print(f'Test of step {result["selected"]["step"]}, the best in validation:')
  for name, value in result['metrics'].items():
    print(f'{name}: {value:.4g}')
  print(f'Saved in {_WORKDIR.value}/result.json')
  return 1 if result['diverged'] else 0


if __name__ == '__main__':
  command_line.run(main)
