"""Predicts sets from new inputs, or from pictures, with a trained run.

    python -m experiments.predict --workdir=runs/own --inputs=FILE \
      --output=sets.npz

FILE is what the run's task reads: for own_sets an `.npz` with `sets` and
`sizes` or a CLEVR scenes `.json`, each of whose sets is encoded and decoded;
for class numbering an `.npz` with integer `classes`, (count, N). Writes `.npz`
or `.json` by the suffix: the predictions in the units of the input, and the
inner problem's energy and residual of every one.

    python -m experiments.predict --workdir=runs/clevr --images=FILES \
      --output=scenes.json --restarts=4

FILES are image files of any size, folders and patterns like 'val/*.png', with
commas between, for a run on CLEVR pictures or on one's own images. JSON lists
the objects of every picture in the words of CLEVR's scene files, or of the
run's file of sets. `margin`, of every picture and object, is the smallest
distance between the two largest scores of an attribute: the smaller, the less
sure. With several starts there are the energies of all of them, and their
standard deviation `energy_spread`: the smaller, the more the starts agree.
--pretrained=NAME in place of --workdir takes a model that comes with the
package.
"""

from absl import flags
import numpy as np

from experiments import command_line
from experiments import model_flags
from idspn_jax import errors

_INPUTS = flags.DEFINE_string('inputs', None, 'File of new inputs.')
_IMAGES = flags.DEFINE_list(
  'images',
  None,
  'clevr, own_images: pictures, folders of pictures, or patterns.',
)
_OUTPUT = flags.DEFINE_string('output', None, 'File to write: .npz or .json.')
flags.DEFINE_alias('out', 'output')
_ITERATIONS = flags.DEFINE_integer(
  'iterations',
  None,
  'Inner steps; default: as trained.',
  lower_bound=1,
  upper_bound=1_000_000,
)
_RESTARTS = flags.DEFINE_integer(
  'restarts',
  None,
  'Starts of every set, of which the one of least energy is kept; default: as '
  'trained.',
  lower_bound=1,
  upper_bound=1_000,
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 128, 'Inputs per compiled call.', lower_bound=1
)
_DATA = flags.DEFINE_string(
  'data', None, 'own_sets: where the data file of the run is now.'
)


def _check_flags():
  model_flags.check('predicts')
  if bool(_INPUTS.value) == bool(_IMAGES.value):
    raise errors.UserError(
      'Give either a file of inputs, --inputs=FILE, or pictures, '
      '--images=FILES.'
    )
  if not _OUTPUT.value:
    raise errors.UserError(
      'Give a file to write: --output=FILE.npz or FILE.json.'
    )


def main(argv):
  """Reads, predicts, writes."""
  del argv
  _check_flags()
  # Here, so that --help and wrong flags answer at once.
  from idspn_jax.data import picture_files
  from idspn_jax.runs import files
  from idspn_jax.studies import predictions

  output = files.local_path(_OUTPUT.value, '--output')
  predictions.check_output(output)
  paths = picture_files.find(_IMAGES.value) if _IMAGES.value else None
  run = model_flags.load(_DATA.value)
  if paths is None:
    inputs = run.data.read_inputs(files.local_path(_INPUTS.value, '--inputs'))
  else:
    inputs = run.data.read_images(paths)
  found = predictions.predict(
    run,
    inputs,
    batch_size=_BATCH_SIZE.value,
    iterations=_ITERATIONS.value,
    restarts=_RESTARTS.value,
  )
  if paths is not None:
    found['names'] = np.asarray(picture_files.names(paths))
  predictions.save(run, found, output)
  count = len(next(iter(found.values())))
  print(f'{count} predictions with {", ".join(found)}')
  print(f'Saved {output}')
  return 0


if __name__ == '__main__':
  command_line.run(main)
