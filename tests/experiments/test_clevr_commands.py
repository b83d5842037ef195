"""The commands of runs on CLEVR pictures, right and wrong."""

import pathlib

import numpy as np
from PIL import Image
import pytest

from idspn_jax.training import loop
from tests.tasks.test_clevr_task import small_config

ROOT = pathlib.Path(__file__).parents[2]
OLD = ROOT / 'tests' / 'runs' / 'old'
MULTISETS = f'--workdir={OLD / "multisets"}'
RUN = 'runs/slot_mlp/seed0'
# Command lines, where RUN is a run on pictures of up to 4 objects, and parts of
# the line that answers.
WRONG = {
  'evaluate RUN --clevr_source=TMP/absent': ['absent', 'no such file'],
  'evaluate RUN --clevr_source=TMP': ['no folder `images`', 'CLEVR_v1.0'],
  'evaluate RUN --clevr_source=': ['--clevr_source is empty'],
  'evaluate RUN --clevr_source=TMP/other --data=x': ['either', '--data'],
  'evaluate RUN --num_objects=3-6': ['--num_objects=3-6', '3..6'],
  'evaluate RUN --num_objects=6..3': ['--num_objects=6..3', 'smaller'],
  'evaluate RUN --num_objects=3..9': ['--num_objects=3..9', 'at most 4'],
  'evaluate RUN --json=TMP': ['--json=', 'is a directory'],
  'evaluate RUN --json=/dev/null/a.json': ['--json', '/dev/null'],
  'evaluate RUN --json=gs://b/a.json': ['--json', 'remote'],
  'evaluate RUN --iterations=3': ['no inner steps'],
  'evaluate RUN --clevr_source=TMP/other': ['--num_objects=1..4'],
  f'evaluate {MULTISETS} --clevr_source=TMP/other': [
    '--clevr_source',
    'task random_multisets',
  ],
  f'evaluate {MULTISETS} --num_objects=3': ['--num_objects', 'task clevr'],
  'predict RUN --output=TMP/o.json': ['--inputs=FILE', '--images=FILES'],
  'predict RUN --output=TMP/o.json --images=a --inputs=b': ['either'],
  'predict RUN --output=TMP/o.json --images=TMP/a.png': ['no such file'],
  'predict RUN --output=TMP/o.json --images=TMP/runs': ['holds no .png'],
  'predict RUN --output=TMP/o.json --images=TMP/bad': ['bad.png', 'decoded'],
  'predict RUN --output=TMP/o.json --inputs=TMP/a.npz': ['--images=FILES'],
  f'predict {MULTISETS} --output=TMP/o.json --images=TMP/good.gif': [
    'from no pictures',
    '--inputs',
  ],
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory, write_clevr_tree):
  """A run of a slot model, and other pictures."""
  folder = tmp_path_factory.mktemp('clevr')
  config = small_config(write_clevr_tree(folder / 'own'), 'model=slot_mlp')
  config.steps = 2
  loop.train_and_evaluate(config, str(folder / RUN))
  write_clevr_tree(folder / 'other', num_val=8, most=6)
  (folder / 'bad').mkdir()
  (folder / 'bad' / 'bad.png').write_text('no picture')
  Image.new('RGB', (4, 4)).save(folder / 'good.gif')
  return folder


@pytest.fixture(scope='module')
def answers(folder, run):
  """What the wrong command lines leave."""
  found = {}
  for line in WRONG:
    words = line.replace('RUN', f'--workdir={folder / RUN}')
    found[line] = run(*words.replace('TMP', str(folder)).split())
  return found


@pytest.mark.parametrize('line', WRONG)
def test_is_answered_in_one_line(line, answers, folder):
  done = answers[line]
  assert done.returncode == 2, done.stderr[-2000:]
  assert done.stdout == ''
  (answer,) = done.stderr.splitlines()
  assert ': error: ' in answer
  for part in WRONG[line]:
    assert part in answer
  assert not list(folder.glob('*.json'))


def test_evaluate_another_archive(folder, run, read_json):
  done = run(
    'evaluate',
    f'--workdir={folder / RUN}',
    f'--clevr_source={folder / "other"}',
    '--num_objects=2..3',
    f'--json={folder / "deep" / "scores.json"}',
  )
  assert done.returncode == 0, done.stderr
  assert 'Average precision over all objects' in done.stdout
  assert 'Only scenes of 2 to 3 objects.' in done.stdout
  found = read_json(folder / 'deep' / 'scores.json')
  (row,) = found['rows']
  assert row['iterations'] is None and row['restarts'] == 1
  assert row['images'] == found['images'] == 3
  assert set(row['dataset_ap']) == set(row['per_image_ap_low'])
  assert found['num_objects'] == [2, 3] and found['source'] == 'other'
  assert {'device', 'versions', 'date', 'config', 'step'} <= set(found)
  place = folder / RUN / 'evaluation_other_2to3_objects'
  assert {path.name for path in place.iterdir()} >= {
    'table.json',
    'predictions.png',
  }


def test_predict(folder, run):
  done = run(
    'predict',
    f'--workdir={folder / RUN}',
    f'--images={folder / "good.gif"},{folder / "other/CLEVR_v1.0/images/val"}',
    f'--out={folder / "out.npz"}',
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('9 predictions with sets, coordinates, ')
  with np.load(folder / 'out.npz') as found:
    assert found['names'][0] == 'good.gif'
    assert found['names'][8] == 'CLEVR_val_000007.png'
    assert found['color'].shape == (9, 4)


def test_reproduce_reads_runs(folder, run, read_json):
  done = run(
    'reproduce',
    '--table=3',
    '--setting=reduced',
    f'--workdir={folder / "runs"}',
    f'--output={folder / "tables"}',
  )
  assert done.returncode == 0, done.stderr
  assert 'not comparable' in done.stdout and '| missing ' in done.stdout
  text = (folder / 'tables' / 'table3.md').read_text('utf-8')
  assert text in done.stdout
  found = read_json(folder / 'tables' / 'table3.json')
  (cell,) = (one for one in found['cells'] if one['runs'])
  assert cell['cell'] == 'slot_mlp' and cell['runs'][0]['step'] == 2
  assert cell['runs'][0]['rows'][0]['images'] == 5
