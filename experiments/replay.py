"""Takes the step again at which a training found a loss that is not finite.

    python -m experiments.replay runs/n4_d4

The run's directory, also on shared storage, holds in its folder `reproduction`
what `experiments.train` saved when the run diverged. Prints the loss and the
gradient's norm, and which parameters, rows of the batch and gradients are not
finite; status 0 if the step is not finite here either.
"""

from experiments import command_line
from idspn_jax import errors

_SHOWN = 20


def _listed(culprits):
  for culprit in culprits[:_SHOWN]:
    rows = '' if culprit.rows is None else f', rows {_numbers(culprit.rows)}'
    yield f'  {culprit.name}: {culprit.count} of {culprit.size}{rows}'
  if len(culprits) > _SHOWN:
    yield f'  and {len(culprits) - _SHOWN} more arrays'


def _numbers(rows):
  shown = ', '.join(map(str, rows[:_SHOWN]))
  return shown + (', …' if len(rows) > _SHOWN else '')


def _lines(found):
  """What to print of `reproduction.Findings`."""
  yield f'Batch {found.batch}, counted from 0.'
  yield f'Loss: {found.loss:.6g}'
  yield f'Norm of the gradient: {found.gradient_norm:.6g}'
  for name, culprits in (
    ('Parameters before the step', found.parameters),
    ('Inputs', found.inputs),
    ('Gradients', found.gradients),
  ):
    yield f'{name} that are not finite: {"" if culprits else "none"}'.rstrip()
    yield from _listed(culprits)
  rows = _numbers(found.rows) if found.rows else 'none'
  yield f'Rows whose loss alone is not finite: {rows}'
  if found.finite:
    yield (
      'The step is finite here: another device, or versions other than those '
      'in about.json, rounded otherwise.'
    )


def main(argv):
  """Replays the step and prints what is not finite."""
  if len(argv) != 2:
    raise errors.UserError(
      'Give one folder: python -m experiments.replay WORKDIR'
    )
  # Here, so that --help and wrong flags answer at once.
  import jax

  from idspn_jax.training import reproduction

  with reproduction.opened(argv[1]) as folder:
    if reproduction.read_about(folder)['x64']:
      jax.config.update('jax_enable_x64', True)
    found = reproduction.replay(folder)
  print('\n'.join(_lines(found)))
  return 1 if found.finite else 0


main.takes_arguments = True

if __name__ == '__main__':
  command_line.run(main)
