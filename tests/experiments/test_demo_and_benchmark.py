"""The demonstration and the benchmark finish and leave what they promise."""

import json
import re

import pytest


def test_demo(run, tmp_path):
  done = run('demo', '--steps=5', f'--workdir={tmp_path}')
  assert done.returncode == 0, done.stderr
  assert 'Traceback' not in done.stderr
  for label in ('iDSPN + momentum', 'iDSPN', 'DSPN'):
    (line,) = (
      line for line in done.stdout.splitlines() if line.startswith(f'{label}  ')
    )
    assert line.endswith('MiB') and 'nan' not in line
  for name in ('sets.png', 'learning_curves.png'):
    assert (tmp_path / name).read_bytes()[:4] == b'\x89PNG'
  for name in ('idspn_momentum', 'idspn', 'dspn'):
    result = json.loads((tmp_path / name / 'result.json').read_text())
    assert result['step'] == 5


@pytest.fixture
def sizes():
  """Flags of a tiny step."""
  return ('--set_size=2', '--set_dim=2', '--batch_size=4', '--hidden_dim=8')


def test_train_step(run, sizes, tmp_path):
  path = tmp_path / 'bench.json'
  done = run(
    'benchmark',
    '--suite=train_step',
    *sizes,
    '--iterations=3',
    '--repeats=4',
    f'--json={path}',
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(path.read_text())
  assert {'suite', 'config', 'seconds', 'device', 'versions'} <= set(found)
  assert found['suite'] == 'train_step'
  for name in ('seconds', 'sort_autodiff_seconds'):
    assert len(found[name]) == 4 and min(found[name]) > 0
  assert found['config']['model']['iterations'] == 3
  assert found['config']['data']['set_size'] == 2
  assert 'times faster' in done.stdout and str(path) in done.stdout


@pytest.mark.deep
def test_train_step_of_numbering(run, tmp_path):
  path = tmp_path / 'bench.json'
  done = run(
    'benchmark',
    '--task=numbering',
    '--set_size=4',
    '--num_classes=2',
    '--batch_size=4',
    '--hidden_dim=8',
    '--iterations=3',
    '--gradient=unrolled',
    '--momentum=0',
    '--repeats=2',
    f'--json={path}',
  )
  assert done.returncode == 0, done.stderr
  config = json.loads(path.read_text())['config']
  assert config['task'] == 'class_numbering' and config['model_name'] == 'dspn'
  assert config['data']['set_size'] == 4 and config['model']['hidden_dim'] == 8
  assert config['model']['projection'] == 'simplex'
  assert config['model']['momentum'] == 0 and not config['model']['grad_clip']


@pytest.mark.deep
def test_memory(run, sizes, tmp_path):
  path = tmp_path / 'memory.json'
  done = run('benchmark', '--suite=memory', *sizes, f'--json={path}')
  assert done.returncode == 0, done.stderr
  rows = json.loads(path.read_text())['rows']
  peak = {
    (row['gradient'], row['iterations']): row['peak_bytes'] for row in rows
  }
  assert peak['jacobian_free', 10] == peak['jacobian_free', 160]
  assert peak['unrolled', 160] > 2 * peak['unrolled', 10]


def test_input(run, clevr_tree_path, tmp_path):
  path = tmp_path / 'input.json'
  done = run(
    'benchmark',
    '--suite=input',
    '--source=tree',
    f'--data_dir={clevr_tree_path}',
    '--setting=reduced',
    '--image_size=64',
    '--batch_size=4',
    '--step_ms=50',
    '--repeats=1',
    f'--json={path}',
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(path.read_text())
  assert [row['source'] for row in found['rows']] == ['tree', 'cache']
  assert all(row['pictures_per_second'] > 0 for row in found['rows'])
  pictures = int(re.search(r'of (\d+) pictures', done.stdout)[1])
  assert 1 <= pictures <= 4
  needed = pictures / found['step_seconds']
  assert found['pictures_per_second_needed'] == pytest.approx(needed)
  assert 'the given training step, of' in done.stdout
  assert 'cache' in done.stdout


@pytest.mark.deep
def test_input_beside_a_training_step(run, clevr_tree_path):
  done = run(
    'benchmark',
    '--suite=input',
    '--source=tree',
    f'--data_dir={clevr_tree_path}',
    '--setting=reduced',
    '--image_size=64',
    '--batch_size=2',
    '--repeats=1',
  )
  assert done.returncode == 0, done.stderr
  assert 'training step of configs/clevr.py, reduced, of 2' in done.stdout


def test_input_of_nowhere(run):
  done = run('benchmark', '--suite=input')
  assert done.returncode == 2 and '--data_dir=DIR' in done.stderr
