"""The command that prepares CLEVR."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def prepare(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.prepare_clevr', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


def test_prepares_and_caches(clevr_tree_path, tmp_path):
  for package in ('tensorflow_datasets', 'array_record', 'grain'):
    pytest.importorskip(package, reason="needs pip install 'idspn-jax[data]'")
  done = prepare(
    f'--source={clevr_tree_path}', f'--data_dir={tmp_path}', '--image_size=8'
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines() == [
    f'Prepared {tmp_path}/clevr/3.1.0',
    '7 pictures of train',
    '5 pictures of test',
    f'Cached in {tmp_path}/pictures_tfds_8',
  ]
  assert '100%' in done.stderr  # Progress bars.


@pytest.mark.parametrize(
  'arguments, culprits',
  [
    ([], ['--source=CLEVR_v1.0.zip']),
    # Where the extra `data` is missing, that is what it says first.
    (['--source=absent', '--data_dir=x'], ['absent', 'idspn-jax[data]']),
    (['--image_size=0'], ['image_size']),
  ],
)
def test_exits_2_with_one_line(arguments, culprits):
  done = prepare(*arguments)
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert line.startswith('prepare_clevr: error: ')
  assert any(culprit in line for culprit in culprits), line
  assert done.stdout == ''
