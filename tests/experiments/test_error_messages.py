"""What the user gets wrong is told in one line, with a status that is not 0."""

import json
import pathlib

import numpy as np
import pytest

SCENES = pathlib.Path(__file__).parents[1] / 'data/clevr_scenes_small.json'
MULTISETS = '--config=configs/random_multisets.py'
OWN_SETS = '--config=configs/own_sets.py'


def error_line(done):
  """The single line of standard error."""
  assert done.returncode not in (0, None)
  assert 'Traceback' not in done.stderr
  (line,) = done.stderr.splitlines()
  assert ': error: ' in line
  assert done.stdout == ''
  return line


@pytest.mark.parametrize(
  'arguments, culprits',
  [
    ([], ['--config']),
    ([MULTISETS], ['--workdir']),
    ([MULTISETS, '--config.stepz=3'], ['stepz', "'steps'"]),
    ([MULTISETS, '--config.steps=0'], ['config.steps', '0']),
    (
      [MULTISETS, '--config.model.gradient_options.term=3'],
      ['--config.model.gradient_options.term', "'term'", "'terms'"],
    ),
    ([MULTISETS, '--config.model.gradient_options.terms=x'], ['terms', 'x']),
    (
      [MULTISETS, '--config.model.gradient_options.terms=3'],
      ['gradient_options.terms', "'jacobian_free'"],
    ),
    ([MULTISETS, '--config.optimizer.schedule=exp'], ['schedule', 'cosine']),
    ([MULTISETS, '--config.iterations_schedule=5,6'], ["'5,6'", '@0.5']),
    ([MULTISETS, '--config.learning_rate=nan'], ['learning_rate', 'nan']),
    (['--config=README.md'], ['README.md', 'configs/']),
    ([MULTISETS, '--config.steps=abc'], ['abc']),
    ([MULTISETS, '--config.model.pool=foo'], ['model.pool', 'foo', 'rnfs']),
    ([f'{MULTISETS}:q=3'], ['q=3', 'model']),
    ([f'{MULTISETS}:n=four'], ['four']),
    (['--config=configs/absent.py'], ['absent.py']),
    ([MULTISETS, '--steps=3'], ['steps']),
    ([MULTISETS, 'steps=3'], ['steps=3']),
    ([OWN_SETS], ['--config.data.path=FILE']),
  ],
  ids=lambda value: ' '.join(value) if isinstance(value, list) else None,
)
def test_train(arguments, culprits, run, tmp_path, request):
  workdir = [f'--workdir={tmp_path / "run"}']
  if arguments in ([], [MULTISETS]):
    workdir = []
  line = error_line(run('train', *arguments, *workdir))
  for culprit in culprits:
    assert culprit in line
  assert '\\n' not in line and "\\'" not in line
  assert not (tmp_path / 'run' / 'config.json').exists()


def _rename_key(scenes):
  thing = scenes['scenes'][1]['objects'][0]
  thing['colour'] = thing.pop('color')


def _unknown_color(scenes):
  scenes['scenes'][1]['objects'][0]['color'] = 'pink'


def _eleven_objects(scenes):
  objects = scenes['scenes'][1]['objects']
  scenes['scenes'][1]['objects'] = (objects * 11)[:11]


@pytest.mark.parametrize(
  'change, culprits',
  [
    (_rename_key, ["'color' is missing", 'scene 1', 'object 0']),
    (_unknown_color, ['pink', 'cyan', 'scene 1']),
    (_eleven_objects, ['11 objects', 'scene 1', '10']),
  ],
)
def test_scenes(change, culprits, run, tmp_path):
  scenes = json.loads(SCENES.read_text('utf-8'))
  change(scenes)
  path = tmp_path / 'scenes.json'
  path.write_text(json.dumps(scenes), 'utf-8')
  line = error_line(
    run(
      'train',
      OWN_SETS,
      f'--config.data.path={path}',
      f'--workdir={tmp_path / "run"}',
    )
  )
  for culprit in ['scenes.json', *culprits]:
    assert culprit in line


def test_bad_numbers_in_a_set_file(run, tmp_path):
  sets = np.ones((4, 3, 2))
  sets[2, 1, 0] = np.nan
  np.savez(tmp_path / 'sets.npz', sets=sets, sizes=[3, 3, 3, 3])
  line = error_line(
    run(
      'train',
      OWN_SETS,
      f'--config.data.path={tmp_path / "sets.npz"}',
      f'--workdir={tmp_path / "run"}',
    )
  )
  assert 'set 2, element 1, feature 0 is nan' in line


@pytest.mark.parametrize(
  'name, arguments, culprit',
  [
    ('evaluate', [], '--workdir'),
    ('evaluate', ['--workdir=/nonexistent'], '/nonexistent'),
    ('evaluate', ['--step=-1'], 'step'),
    ('benchmark', ['--suite=speed'], 'speed'),
    ('benchmark', ['--repeats=0'], 'repeats'),
    ('benchmark', ['--gradient=magic'], 'magic'),
    ('demo', ['--steps=0'], 'steps'),
    ('demo', ['--speed=1'], 'speed'),
    ('benchmark', ['--task=numbering', '--set_dim=3'], '--set_dim'),
    ('benchmark', ['--num_classes=3'], '--num_classes'),
    ('benchmark', ['--json=/dev/null/x.json'], '--json=/dev/null'),
  ],
)
def test_other_binaries(name, arguments, culprit, run):
  assert culprit in error_line(run(name, *arguments))


@pytest.mark.parametrize(
  'name',
  [
    'train',
    'evaluate',
    'benchmark',
    'demo',
    'parity',
    'prepare_clevr',
    'reproduce',
  ],
)
@pytest.mark.deep
def test_help_shows_how_it_is_called(name, run):
  done = run(name, '--help')
  assert f'python -m experiments.{name}' in done.stdout
  assert 'Traceback' not in done.stderr
