"""Trains iDSPN with and without momentum and DSPN on small random multisets.

    python -m experiments.demo --workdir=runs/demo

Prints their losses side by side with time per step and peak memory, and draws
what they predict. Takes a few minutes on two CPU cores; running it again
continues or shows what is there.
"""

import os

from absl import flags

from experiments import command_line
from idspn_jax import errors

_WORKDIR = flags.DEFINE_string('workdir', 'runs/demo', 'Where to put it all.')
_STEPS = flags.DEFINE_integer(
  'steps', None, 'Training steps instead of the config.', lower_bound=1
)
_LABELS = {
  'idspn_momentum': 'iDSPN + momentum',
  'idspn': 'iDSPN',
  'dspn': 'DSPN',
}


def _train(name, workdir, loop, demo_config):
  config = demo_config.get_config(f'model={name}')
  if _STEPS.value:
    config.steps = _STEPS.value
    config.eval_every = min(config.eval_every, _STEPS.value)
    config.log_every = min(config.log_every, _STEPS.value)
  print(f'Training {_LABELS[name]} for {config.steps} steps …', flush=True)
  return loop.train_and_evaluate(config, os.path.join(workdir, name))


def _print_table(results):
  print(f'\n{"":18}{"test loss":>12}{"ms per step":>14}{"peak memory":>16}')
  for name, result in results.items():
    loss = result['metrics'].get('loss', float('nan'))
    seconds, peak = result['seconds_per_step'], result['peak_bytes']
    print(
      f'{_LABELS[name]:18}{loss:12.2e}'
      + (f'{1e3 * seconds:14.1f}' if seconds else f'{"–":>14}')
      + (f'{peak / 2**20:12.1f} MiB' if peak else f'{"–":>16}')
    )
  print()


def main(argv):
  """Trains the three models, prints the table, draws the figures."""
  del argv
  # Here, so that --help and wrong flags answer at once.
  from configs import demo as demo_config
  from idspn_jax.runs import files
  from idspn_jax.studies import comparison
  from idspn_jax.training import loop

  if not _WORKDIR.value:
    raise errors.UserError('Say where to put it all: --workdir=DIR.')
  workdir = files.local_path(_WORKDIR.value, '--workdir')
  files.make_directory(workdir, '--workdir')
  results = {}
  for name in _LABELS:
    try:
      results[name] = _train(name, workdir, loop, demo_config)
    except loop.Interrupted as e:
      print(f'Stopped at step {e.step}; the same command continues from there.')
      return e.exit_code
  _print_table(results)
  workdirs = {
    label: os.path.join(workdir, name) for name, label in _LABELS.items()
  }
  for path in comparison.draw(workdirs, workdir):
    print(f'Saved {path}')
  return 0


if __name__ == '__main__':
  command_line.run(main)
