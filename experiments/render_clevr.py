"""Renders CLEVR scenes: a data set, given scenes, or beside real pictures.

    python -m experiments.render_clevr --num_train=100 --num_val=10 \
      --num_test=10 --size=480x320 --seed=0 --out=DIR --num_objects=3..10

writes DIR/CLEVR_v1.0 in the archive's form; with --cache=DIR instead of --out
it writes uint8 arrays for training. Both go on where they were interrupted.

    python -m experiments.render_clevr --scenes=SCENES.json \
      --facts=render_facts.json --size=480x320 --out=DIR

renders the scenes of a scene file, with recorded cameras and lamps.

    python -m experiments.render_clevr --compare=CLEVR_v1.0 \
      --facts=render_facts.json --split=val --size=128x128 --figure=FILE.png \
      --results=FILE.json

renders the scenes of real pictures and prints by how much they differ; the
figure and the file of numbers are optional.
"""

import os
import re

from absl import flags

from experiments import command_line
from idspn_jax import errors

_NUM_TRAIN = flags.DEFINE_integer('num_train', 0, 'Pictures.', lower_bound=0)
_NUM_VAL = flags.DEFINE_integer('num_val', 0, 'Pictures.', lower_bound=0)
_NUM_TEST = flags.DEFINE_integer('num_test', 0, 'Pictures.', lower_bound=0)
_SIZE = flags.DEFINE_string(
  'size', None, 'Width x height; 480x320, and 128x128 for --cache, --compare.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the random scenes.', lower_bound=0)
_NUM_OBJECTS = flags.DEFINE_string('num_objects', '3..10', 'Of every scene.')
_PROCESSES = flags.DEFINE_integer(
  'processes', 1, 'Processes that render.', lower_bound=1
)
_OUT = flags.DEFINE_string('out', None, 'Directory to write pictures to.')
_CACHE = flags.DEFINE_string('cache', None, 'Directory to write arrays to.')
_SCENES = flags.DEFINE_string('scenes', None, 'Scene file to render.')
_FACTS = flags.DEFINE_string('facts', None, 'Recorded cameras and lamps.')
_COMPARE = flags.DEFINE_string('compare', None, 'CLEVR_v1.0 of real pictures.')
_SPLIT = flags.DEFINE_enum('split', 'val', ['train', 'val'], 'For --compare.')
_FIGURE = flags.DEFINE_string('figure', None, 'File for --compare to draw to.')
_RESULTS = flags.DEFINE_string(
  'results', None, 'File for --compare to write its numbers to, as JSON.'
)
_SHOWN = 6  # Pictures of the figure.


def _size(default):
  text = _SIZE.value or default
  found = re.fullmatch(r'(\d{1,4})x(\d{1,4})', text)
  if not found or not 8 <= min(map(int, found.groups())):
    raise errors.UserError(
      f'--size={text}: write width x height, each 8 to 9999, like 480x320.'
    )
  return int(found[1]), int(found[2])


def _num_objects():
  found = re.fullmatch(r'(\d{1,2})(?:\.\.(\d{1,2}))?', _NUM_OBJECTS.value)
  low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
  if not 1 <= low <= high <= 10:
    raise errors.UserError(
      f'--num_objects={_NUM_OBJECTS.value}: write a number or a range within '
      '1 to 10, like 3..6.'
    )
  return low, high


def _descriptions(default_size):
  from idspn_jax.render import rendered_pictures

  (width, height), (low, high) = _size(default_size), _num_objects()
  counts = (_NUM_TRAIN.value, _NUM_VAL.value, _NUM_TEST.value)
  return [
    rendered_pictures.Description(
      split, count, width, height, _SEED.value, low, high
    )
    for split, count in zip(rendered_pictures.SPLITS, counts, strict=True)
    if count
  ]


def _save_numbers(found):
  """Writes the numbers of a comparison, and where they come from."""
  from idspn_jax.runs import files
  from idspn_jax.runs import provenance

  height, width = found.real.shape[1:3]
  content = {
    'pictures': len(found.names),
    'split': _SPLIT.value,
    'width': width,
    'height': height,
    'unit': 'grey levels (0 to 255), mean absolute difference',
    'error': found.error,
    'object_error': found.object_error,
    'median_error': found.median_error,
    'median_object_error': found.median_object_error,
    'projection_error_pixels': found.projection_error,
    **provenance.provenance(),
  }
  path = files.local_path(_RESULTS.value, '--results')
  files.write_json(path, content)
  print(f'Wrote {path}')


def _compare():
  from idspn_jax.figures import renders
  from idspn_jax.figures import save
  from idspn_jax.studies import render_errors

  if not _FACTS.value:
    raise errors.UserError(
      '--compare needs --facts=FILE: where camera and lamps stood.'
    )
  found = render_errors.compare(
    _COMPARE.value, _FACTS.value, _SPLIT.value, _size('128x128')
  )
  print(render_errors.report(found))
  if _RESULTS.value:
    _save_numbers(found)
  if _FIGURE.value:
    figure = renders.draw_renders(
      found.real[:_SHOWN], found.rendered[:_SHOWN], found.names[:_SHOWN]
    )
    try:
      print(f'Saved {save.save_figure(figure, _FIGURE.value)}')
    except (OSError, ValueError) as e:
      raise errors.UserError(f'--figure: {e}') from e


def _render():
  from idspn_jax.render import jobs
  from idspn_jax.render import rendered_pictures
  from idspn_jax.runs import files
  from idspn_jax.studies import rendered_clevr

  if _SCENES.value:
    out = files.local_path(_OUT.value, '--out')
    paths = rendered_clevr.write_given(
      out, _SCENES.value, _FACTS.value, _size('480x320')
    )
    print(f'Wrote {len(paths)} pictures to {out}')
  elif _CACHE.value:
    jobs.use_one_thread()
    descriptions = _descriptions('128x128')
    if not descriptions:
      raise errors.UserError(
        'There is nothing to render; set --num_train, --num_val or --num_test.'
      )
    for description in descriptions:
      place = files.local_path(_CACHE.value, '--cache')
      place = os.path.join(place, description.split)
      files.make_directory(place, '--cache')
      try:
        rendered_pictures.make(place, description, _PROCESSES.value)
      except ValueError as e:
        raise errors.UserError(str(e)) from e
      print(f'Wrote {description.count} pictures to {place}')
  else:
    out = files.local_path(_OUT.value, '--out')
    root = rendered_clevr.write_tree(
      out, _descriptions('480x320'), _PROCESSES.value
    )
    print(f'Wrote {root}')


def main(argv):
  """Does what the flags ask for."""
  del argv
  asked = [f for f in (_COMPARE, _OUT, _CACHE) if f.value]
  if len(asked) != 1:
    raise errors.UserError(
      'Say what to do by one of --out=DIR (pictures), --cache=DIR (arrays) and '
      '--compare=CLEVR_v1.0 (beside real pictures).'
    )
  if _RESULTS.value and not _COMPARE.value:
    raise errors.UserError('--results needs --compare=CLEVR_v1.0.')
  if _SCENES.value and not _OUT.value:
    raise errors.UserError('--scenes needs --out=DIR.')
  if _COMPARE.value:
    _compare()
  else:
    _render()
  return 0


if __name__ == '__main__':
  command_line.run(main)
