"""Scripts for sbatch: what they ask for, and what they run."""

import os
import subprocess

import pytest

from idspn_jax import errors
from idspn_jax.studies import slurm


class TestSlurm:
  def write(self, tmp_path, trials, **changes):
    options = {'cpus': 4, 'gpus': 1, 'memory': 1.5, 'time': '12:00:00'}
    path = tmp_path / 'job.sh'
    slurm.write(
      str(path),
      trials,
      ['echo', 'a b', '--trial'],
      str(tmp_path / 'w'),
      **{**options, **changes},
    )
    return path

  def test_the_script_runs_its_trial(self, plan, tmp_path):
    path = self.write(tmp_path, plan(("it's", 'b')))
    for task, name in (('0', "it's"), ('1', 'b')):
      done = subprocess.run(
        ['bash', path],
        env={**os.environ, 'SLURM_ARRAY_TASK_ID': task},
        capture_output=True,
        text=True,
      )
      assert done.stdout == f'a b --trial {name}/seed0..1\n', done.stderr

  def test_asks_for_what_is_needed(self, plan, tmp_path):
    lines = self.write(tmp_path, plan()).read_text().splitlines()
    assert lines[0] == '#!/bin/bash'
    for option in (
      '--array=0-1',
      '--cpus-per-task=4',
      '--gres=gpu:1',
      '--mem=1536M',
      '--time=12:00:00',
      '--signal=B:TERM@120',
    ):
      assert f'#SBATCH {option}' in lines
    assert (tmp_path / 'w' / 'slurm').is_dir()  # SLURM does not make it.

  @pytest.mark.parametrize(
    'changes, message',
    [
      ({'gpus': 0.5}, '--gpus=0.5: SLURM gives whole GPUs'),
      ({'time': 'long'}, '--time=long: give minutes'),
    ],
  )
  def test_what_slurm_does_not_take(self, changes, message, plan, tmp_path):
    with pytest.raises(errors.UserError, match=message):
      self.write(tmp_path, plan(), **changes)
