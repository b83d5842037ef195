"""Scripts for sbatch: what they ask for, and what they run."""

import os
import subprocess

import pytest

from idspn_jax import errors
from idspn_jax.studies import slurm


class TestSlurm:
  def write(self, tmp_path, trials, **changes):
    options = {'cpus': 4, 'gpus': 1, 'memory': 1.5, 'time': '12:00:00'}
    options['workdir'] = str(tmp_path / 'w')
    path = tmp_path / 'job.sh'
    slurm.write(
      str(path),
      trials,
      ['echo', 'a b', '--trial'],
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

  def test_a_little_memory_is_not_all(self, plan, tmp_path):
    text = self.write(tmp_path, plan(), memory=1e-4).read_text()
    assert '#SBATCH --mem=1M\n' in text

  def test_names_of_logs_are_taken_as_they_are(self, plan, tmp_path):
    workdir = str(tmp_path / "it's %j 100%")
    text = self.write(tmp_path, plan(), workdir=workdir).read_text()
    quoted = f"{tmp_path}/it's %%j 100%%/slurm/%A_%a.log"
    assert f'\n#SBATCH --output="{quoted}"\n' in text
    workdir = str(tmp_path / 'plain')
    text = self.write(tmp_path, plan(), workdir=workdir).read_text()
    assert f'\n#SBATCH --output={workdir}/slurm/%A_%a.log\n' in text

  @pytest.mark.parametrize(
    'changes, message',
    [
      ({'gpus': 0.5}, '--gpus=0.5: SLURM gives whole GPUs'),
      ({'time': 'long'}, '--time=long: give minutes'),
      ({'time': '0'}, '--time=0: SLURM takes 0 for no limit'),
      ({'time': '0-00:00'}, '--time=0-00:00: SLURM takes 0 for no limit'),
      ({'workdir': '/a"b'}, 'SLURM takes no path with quotes'),
      ({'workdir': '/a\nb'}, 'SLURM takes no path with quotes'),
      ({'workdir': '/a\\b'}, 'SLURM takes no path with quotes'),
    ],
  )
  def test_what_slurm_does_not_take(self, changes, message, plan, tmp_path):
    with pytest.raises(errors.UserError, match=message):
      self.write(tmp_path, plan(), **changes)
