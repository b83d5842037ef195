"""The sweep's command: a grid and a table, trained, stopped and read."""

import json
import os
import signal
import time

import pytest

from idspn_jax.runs import directory

TINY = tuple(
  f'--override={text}'
  for text in (
    'data.num_train=32',
    'data.num_test=16',
    'model.hidden_dim=8',
    'model.latent_dim=8',
    'batch_size=8',
    'eval_batch_size=8',
  )
)
GRID = (
  '--config=configs/random_multisets.py:n=2,d=2',
  '--grid=:T=1,2;learning_rate=1e-3;seed=0..1',
  '--steps=4',
  *TINY,
)
CONFIG = '--config=configs/random_multisets.py'
STEPS = '--steps=4'


@pytest.fixture(scope='module')
def swept(run, tmp_path_factory):
  """A grid of two cells, and what each of two calls printed."""
  workdir = tmp_path_factory.mktemp('grid')
  return workdir, [run('sweep', *GRID, f'--workdir={workdir}') for _ in '12']


class TestGrid:
  CELLS = ('T=1,learning_rate=1e-3', 'T=2,learning_rate=1e-3')

  def test_every_cell_is_trained_once(self, swept):
    workdir, (first, second) = swept
    for done in (first, second):
      assert done.returncode == 0, done.stderr
    for name in self.CELLS:
      assert f'{name}/seed0..1: done, step 4 of 4' in first.stdout
      assert f'| {name} | ' in second.stdout
      assert {path.name for path in (workdir / name).iterdir()} == {
        'seed0',
        'seed1',
        'seed0..1.log',
      }
    assert 'running' not in second.stdout
    content = json.loads((workdir / 'sweep.json').read_text())
    assert [t['state'] for t in content['trials']] == ['done', 'done']
    assert [len(t['attempts']) for t in content['trials']] == [1, 1]
    for cell, inner in zip(content['cells'], (1, 2), strict=True):
      assert [run['seed'] for run in cell['runs']] == [0, 1]
      for one in cell['runs']:
        assert one['result']['config']['model']['iterations'] == inner
        assert one['result']['vectorized_seeds'] == 2
      values = [one['result']['metrics']['loss'] for one in cell['runs']]
      assert cell['here']['loss']['values'] == values

  def test_a_job_script_of_nothing(self, swept, run, tmp_path):
    workdir, _ = swept
    slurm = f'--slurm={tmp_path}/job.sh'
    done = run('sweep', *GRID, f'--workdir={workdir}', slurm)
    assert done.returncode == 2 and 'there is no job' in done.stderr

  def test_status_beside_a_running_sweep(self, swept, run):
    workdir, _ = swept
    before = (workdir / 'sweep.json').stat().st_ino
    arguments = ('sweep', *GRID, f'--workdir={workdir}', '--status')
    with directory.locked(str(workdir)):
      done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('2 trials: 2 done')
    assert (workdir / 'sweep.json').stat().st_ino == before
    assert run(*arguments).stdout == done.stdout
    assert (workdir / 'sweep.json').stat().st_ino != before

  def test_status_of_no_sweep(self, run, tmp_path):
    workdir = tmp_path / 'typo'
    for _ in range(2):
      done = run('sweep', *GRID, f'--workdir={workdir}', '--status')
      assert done.returncode == 2 and 'typo holds no sweep' in done.stderr
      assert not workdir.exists() or not any(workdir.iterdir())
      workdir.mkdir(exist_ok=True)

  def test_reproduce_names_the_difference(self, swept, run):
    workdir, _ = swept
    done = run('reproduce', f'--results={workdir}/sweep.json')
    assert done.returncode == 2
    assert 'is of a grid, not of a table' in done.stderr

  def test_a_trial_alone(self, run, tmp_path):
    trial = f'--trial={self.CELLS[0]}/seed0..1'
    done = run('sweep', *GRID, f'--workdir={tmp_path}', trial)
    assert done.returncode == 0, done.stderr
    assert f'{self.CELLS[0]}/seed0..1: done' in done.stdout
    assert (tmp_path / self.CELLS[0] / 'seed1' / 'result.json').exists()


@pytest.mark.deep
def test_ctrl_c_leaves_all_resumable(start, run, tmp_path):
  workdir = tmp_path / 'sweep'
  grid = (
    *GRID[:1],
    '--grid=:T=1,2',
    '--override=log_every=1',
    '--override=checkpoint_every=100000',
    *TINY,
  )
  where = f'--workdir={workdir}'
  process = start('sweep', *grid, where, '--steps=100000')
  scalars = workdir / 'T=1' / 'seed0' / 'scalars.jsonl'
  deadline = time.monotonic() + 120
  while not (scalars.exists() and scalars.read_text().count('\n') > 5):
    assert time.monotonic() < deadline and process.poll() is None
    time.sleep(0.1)
  os.kill(process.pid, signal.SIGINT)
  output, error = process.communicate(timeout=120)
  assert process.returncode == 130, error
  assert 'T=1/seed0: stopped' in output and 'Stopped; the same' in output
  (step,) = os.listdir(workdir / 'T=1' / 'seed0' / 'checkpoints')
  assert int(step) > 5
  assert not (workdir / 'T=2').exists()
  steps = f'--steps={int(step) + 3}'
  done = run('sweep', *grid, where, steps)
  assert done.returncode == 0, done.stderr
  rows = [json.loads(line) for line in scalars.read_text().splitlines()]
  logged = [row['step'] for row in rows if 'train/loss' in row]
  assert logged == [*range(1, int(step) + 4)]


@pytest.mark.deep
def test_reproduce_reads_a_table(run, tmp_path):
  arguments = ('--cells=2x2/10/idspn*', '--steps=2', *TINY)
  done = run('sweep', '--table=5', f'--workdir={tmp_path}', *arguments)
  assert done.returncode == 0, done.stderr
  results = f'--results={tmp_path}/sweep.json'
  assert f'reproduce {results}' in done.stdout
  done = run('reproduce', results, '--restarts=1,2', '--cells=2x2/10/*')
  assert done.returncode == 0, done.stderr
  lines = [line for line in done.stdout.splitlines() if '| 2 × 2' in line]
  assert len(lines) == 3
  numbers = {line.split('|')[3].strip(): line for line in lines}
  assert numbers['DSPN'].count('–') > 5 and 'e' in numbers['iDSPN']
  assert (tmp_path / 'table5.json').exists()
  done = run('reproduce', results, '--seeds=2')
  assert done.returncode == 2 and '--seeds does not go with' in done.stderr


@pytest.mark.parametrize(
  'arguments, message',
  [
    ((), '--workdir=DIR'),
    (('--workdir=x',), 'Say what to sweep'),
    (('--workdir=x', *GRID[:1]), 'Give the grid'),
    (('--workdir=x', *GRID[:1], '--grid=a=1'), "'a' is no key of the config"),
    (
      ('--workdir=x', *GRID[:1], '--grid=:q=1'),
      "Unknown config argument 'q=1'",
    ),
    (
      ('--workdir=x', *GRID[:1], '--grid=batch_size=x'),
      'needs a value like 128',
    ),
    (('--workdir=x', *GRID, '--seeds=2'), 'give one of them'),
    (
      ('--workdir=x', *GRID[:1], '--grid=:seed=0,1,2'),
      "':seed=0,1,2' would train one seed in every cell; write seed=0,1,2",
    ),
    (
      ('--workdir=x', f'{GRID[0]},seed=3', '--grid=seed=0,1'),
      'd=2,seed=3: give one of them',
    ),
    (
      ('--workdir=x', f'{GRID[0]},seed=3', '--grid=:T=1', '--seeds=2'),
      '--seeds and seed in --config=',
    ),
    (
      ('--workdir=x', *GRID[:1], '--grid=steps=10,20', '--steps=15'),
      '--steps and steps of --grid: give one of them',
    ),
    (
      ('--workdir=x', *GRID[:1], '--grid=:T=1', '--override=steps=3', STEPS),
      '--steps and --override=steps: give one of them',
    ),
    (
      ('--workdir=x', *GRID, '--override=learning_rate=0.1'),
      '--override=learning_rate and learning_rate of --grid: give one of them',
    ),
    (
      ('--workdir=x', *GRID, '--override=batch_size=4'),
      'batch_size is given twice',
    ),
    (
      ('--workdir=x', *GRID[:1], '--grid=learning_rate=0.01,1e-2'),
      'the cells learning_rate=0.01 and learning_rate=1e-2 have the same',
    ),
    (
      ('--workdir=x', *GRID[:1], '--grid=:n=2,4', '--override=data.set_size=3'),
      'Config argument n is given twice',
    ),
    (
      ('--workdir=x', CONFIG, '--grid=:n=2,4', '--override=data.set_size=3'),
      'the cells n=2 and n=4 have the same config',
    ),
    (('--workdir=x', *GRID, '--cells=a'), '--cells is for --table'),
    (('--workdir=x', *GRID, '--table=5'), '--config does not go with --table'),
    (('--workdir=x', *GRID, '--trial=y'), '--trial=y is no trial'),
    (('--workdir=x', *GRID, '--gpus=1'), '--gpus is for --engine=ray'),
    (('--workdir=x', *GRID, '--retries=-1'), '--retries=-1'),
    (('--workdir=x', '--gpus=nan'), '--gpus=nan: give a number from 0'),
    (('--workdir=x', '--gpus=inf'), '--gpus=inf: give a number from 0'),
    (('--workdir=x', '--memory=nan'), '--memory=nan: give gigabytes above 0'),
    (('--workdir=x', '--memory=inf'), '--memory=inf: give gigabytes above 0'),
    (('--workdir=x', '--memory=0'), '--memory=0: give gigabytes above 0'),
  ],
)
def test_wrong_commands(arguments, message, tmp_path, run):
  arguments = [text.replace('=x', f'={tmp_path}/x', 1) for text in arguments]
  if arguments and arguments[-1].startswith('--grid=batch_size'):
    arguments[-1] = '--grid=batch_size=x'
  done = run('sweep', *arguments)
  assert done.returncode == 2, done.stderr
  assert message in done.stderr and 'Traceback' not in done.stderr
  assert len(done.stderr.splitlines()) == 1
