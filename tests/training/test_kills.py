"""A hundred trainings that are killed, resumed, and end as if they had not."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

PROGRAM = pathlib.Path(__file__).with_name('kills.py')
ROOT = pathlib.Path(__file__).parents[2]
# A hundred in all.
KILLS = {
  'multisets': 30,
  'numbering': 10,
  'averaged': 50,
  'cached': 5,
  'rendered': 5,
}


@pytest.mark.deep
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('task, count', KILLS.items())
def test_killed_runs_end_as_unbroken_ones(
  task, count, tmp_path, write_clevr_tree, record_property
):
  tree = write_clevr_tree(tmp_path / 'clevr', 8, 4, 3)
  os.symlink(tree, tmp_path / 'in')
  done = subprocess.run(
    [sys.executable, str(PROGRAM), task, str(count), str(tmp_path)],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  found = json.loads(done.stdout)
  print(done.stdout)
  record_property('found', found)
  assert found['killed'] == count
  # At many places, not always before the first checkpoint.
  checkpoints, batches = found['newest_checkpoints'], found['last_batches']
  places = set(zip(checkpoints, batches, strict=True))
  assert len(places) > min(3, count // 2), places
  assert max(checkpoints) > 0


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_full_disks_lose_nothing(tmp_path, record_property):
  disk = tmp_path / 'disk'
  disk.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(disk)]
  if shutil.which('mount') is None or subprocess.run(mount).returncode:
    pytest.skip('A file system can be mounted by the superuser only.')
  try:
    program = PROGRAM.with_name('full_disk.py')
    done = subprocess.run(
      [sys.executable, str(program), '20', str(tmp_path), str(disk)],
      cwd=ROOT,
      env={**os.environ, 'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
      capture_output=True,
      text=True,
    )
  finally:
    subprocess.run(['umount', str(disk)], check=True)
  assert done.returncode == 0, done.stderr[-3000:]
  print(done.stdout)
  found = json.loads(done.stdout)
  record_property('found', found)
  assert found['fills'] == 20
