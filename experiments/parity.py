"""Compares the library with golden numbers of the official PyTorch code.

    python -m experiments.parity tests/parity/golden/*.npz

Each file describes one configuration of the set autoencoder, its parameters
under PyTorch names, and float64 outputs, losses and gradients of the official
code; or predicted and true CLEVR objects and their average precisions, over the
data set and per image. Prints every file's largest relative error, max|a - b| /
max|b| per array, and exits with 1 if one exceeds --tolerance.
"""

from absl import flags

from experiments import command_line
from idspn_jax import errors

_TOLERANCE = flags.DEFINE_float(
  'tolerance', 1e-8, 'Largest relative error to accept.', lower_bound=0.0
)
_VERBOSE = flags.DEFINE_bool('verbose', False, 'Print every array.')


def main(argv):
  """Compares all files; returns 1 if one exceeds the tolerance."""
  import jax

  jax.config.update('jax_enable_x64', True)
  from idspn_jax.interop import golden
  from idspn_jax.runs import files

  paths = [files.local_path(path, 'parity') for path in argv[1:]]
  if not paths:
    raise errors.UserError('Give one or more golden .npz files.')
  width = max(map(len, paths))
  failed = 0
  for path in paths:
    found, remarks = golden.compare(path)
    worst = max(found, key=found.get)
    ok = found[worst] <= _TOLERANCE.value
    failed += not ok
    print(
      f'{path:{width}}  {found[worst]:.1e}  {"ok    " if ok else "FAILED"}  '
      f'worst of {len(found)} arrays: {worst}'
      + ''.join(f' ({remark})' for remark in remarks),
      flush=True,
    )
    if _VERBOSE.value:
      for name, error in found.items():
        print(f'    {error:.1e}  {name}')
  print(
    f'{len(paths) - failed} of {len(paths)} files within '
    f'{_TOLERANCE.value:g} (jax {jax.__version__}, float64)'
  )
  return 1 if failed else 0


main.takes_arguments = True

if __name__ == '__main__':
  command_line.run(main)
