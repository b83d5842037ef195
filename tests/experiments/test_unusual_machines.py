"""Full disks, and accelerators that are not there."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def command(name, *arguments):
  return [sys.executable, '-m', f'experiments.{name}', *map(str, arguments)]


def call(arguments, **options):
  return subprocess.run(
    arguments, cwd=ROOT, capture_output=True, text=True, timeout=300, **options
  )


@pytest.mark.parametrize(
  'name, arguments',
  [
    ('train', ['--config=configs/random_multisets.py', '--workdir=DIR']),
    ('parity', ['tests/parity/golden/idspn_mean.npz']),
  ],
)
def test_an_absent_accelerator_is_told_in_one_line(name, arguments, tmp_path):
  arguments = [a.replace('DIR', str(tmp_path / 'run')) for a in arguments]
  done = call(
    command(name, *arguments),
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cuda',
      # Also where there is one.
      'CUDA_VISIBLE_DEVICES': '',
    },
  )
  assert done.returncode == 2 and done.stdout == ''
  line = done.stderr.splitlines()[-1]
  assert 'JAX_PLATFORMS=cuda' in line and 'JAX_PLATFORMS=cpu' in line
  assert 'Traceback' not in done.stderr, done.stderr
  assert not (tmp_path / 'run').exists()


def test_a_full_disk_ends_a_training_in_one_line(tiny, tmp_path):
  """A limit on the size of files does what a full disk does."""
  arguments = command(
    'train', *tiny, f'--workdir={tmp_path}', '--config.checkpoint_every=2'
  )
  # In blocks of 512 or 1,024 bytes, as the shell has it.
  limited = ['sh', '-c', 'ulimit -f 8 && exec "$0" "$@"', *arguments]
  done = call([*limited, '--config.steps=6'])
  assert done.returncode == 2, done.stderr
  assert 'Traceback' not in done.stderr, done.stderr
  # After the progress bar.
  line = done.stderr.splitlines()[-1]
  assert line.startswith('train: error: Cannot write a checkpoint')
  assert 'File too large' in line
  assert list((tmp_path / 'checkpoints').iterdir()) == []
  done = call([*arguments, '--config.steps=6'])
  assert done.returncode == 0, done.stderr
  assert (tmp_path / 'checkpoints' / '6').is_dir()
