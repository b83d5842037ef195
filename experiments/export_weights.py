"""Writes a run's trained variables as one small file, without pickle.

    python -m experiments.export_weights --workdir=runs/n4_d4 --output=n4_d4.npz

Kernels are rounded to float16. Files in `idspn_jax/runs/weights` come with the
package and are loaded by name: `--pretrained=NAME` of experiments.evaluate and
experiments.predict, `idspn_jax.load_pretrained(NAME)`.
"""

import os

from absl import flags

from experiments import command_line
from idspn_jax import errors

_WORKDIR = flags.DEFINE_string('workdir', None, 'Directory of the run.')
_STEP = flags.DEFINE_integer(
  'step', None, 'Which checkpoint; default: the newest.', lower_bound=0
)
_OUTPUT = flags.DEFINE_string('output', None, 'File to write: NAME.npz.')


def main(argv):
  """Loads the run and writes the file."""
  del argv
  if not _WORKDIR.value:
    raise errors.UserError('Say which run to export: --workdir=DIR.')
  if not _OUTPUT.value:
    raise errors.UserError('Give a file to write: --output=NAME.npz.')
  # Here, so that --help and wrong flags answer at once.
  from idspn_jax.runs import files
  from idspn_jax.runs import loading
  from idspn_jax.runs import pretrained

  path = files.local_path(_OUTPUT.value, '--output')
  run = loading.load_run(_WORKDIR.value, _STEP.value)
  pretrained.export(run, path)
  print(f'Saved {path}, {os.path.getsize(path) / 1e6:.2f} MB')
  return 0


if __name__ == '__main__':
  command_line.run(main)
