"""A run from the command line: stopped, continued, evaluated."""

import json
import re
import signal
import time

import pytest


def wait_for(path, process, seconds=240):
  """Waits until a file has content."""
  end = time.monotonic() + seconds
  while time.monotonic() < end and process.poll() is None:
    if path.exists() and path.stat().st_size:
      return
    time.sleep(0.05)
  process.kill()
  pytest.fail(f'{path} did not appear:\n{process.communicate()[1]}')


def is_png(path):
  return path.read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'


@pytest.fixture(scope='module')
def continued(run, start, tiny, tmp_path_factory):
  """A run that was interrupted (step and process) and then finished."""
  workdir = tmp_path_factory.mktemp('run') / 'deep' / 'er'
  arguments = (*tiny, f'--workdir={workdir}')
  first = start('train', *arguments, '--config.steps=1000000')
  wait_for(workdir / 'scalars.jsonl', first)
  first.send_signal(signal.SIGINT)
  output, errors = first.communicate(timeout=240)
  assert first.returncode == 130, errors
  stopped = int(re.fullmatch(r'Stopped at step (\d+); .*\n', output)[1])
  assert (workdir / 'checkpoints' / str(stopped)).is_dir()
  assert 'Traceback' not in errors
  second = run('train', *arguments, f'--config.steps={stopped + 3}')
  assert second.returncode == 0, second.stderr
  return workdir, stopped, second.stdout


def test_an_interrupted_run_is_continued(continued):
  workdir, stopped, output = continued
  result = json.loads((workdir / 'result.json').read_text())
  assert result['step'] == stopped + 3 and result['diverged'] is False
  assert f'loss: {result["metrics"]["loss"]:.4g}' in output
  assert f'Saved in {workdir}/result.json' in output
  rows = (workdir / 'scalars.jsonl').read_text().splitlines()
  steps = [row['step'] for row in map(json.loads, rows) if 'train/loss' in row]
  assert steps == list(range(1, stopped + 4))


def test_a_run_is_evaluated_at_other_numbers_of_steps(continued, run):
  workdir, stopped, _ = continued
  done = run('evaluate', f'--workdir={workdir}', '--iterations=3,2')
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  table = json.loads((workdir / 'evaluation' / 'table.json').read_text())
  assert [row['iterations'] for row in table['rows']] == [2, 3]
  assert table['step'] == stopped + 3
  result = json.loads((workdir / 'result.json').read_text())
  assert table['rows'][1]['loss'] == pytest.approx(
    result['metrics']['loss'], rel=1e-5
  )
  assert {'device', 'versions', 'config', 'task'} <= set(table)
  header, two, three, *saved = done.stdout.splitlines()
  assert header.split() == ['T', 'loss']
  assert two.split()[0] == '2' and three.split()[0] == '3*'
  files = [line.removeprefix('Saved ') for line in saved]
  assert [name.rsplit('/', 1)[1] for name in files] == [
    'table.json',
    'sets.png',
    'inner_optimisation.png',
    'learning_curve.png',
  ]
  for name in files[1:]:
    assert is_png(workdir / 'evaluation' / name.rsplit('/', 1)[1])


@pytest.mark.parametrize(
  'arguments, culprit',
  [
    (['--step=999999999'], '999999999'),
    (['--iterations=2,many'], 'many'),
    pytest.param(['--iterations=0'], '--iterations', marks=pytest.mark.deep),
  ],
)
def test_evaluation_errors(arguments, culprit, continued, run):
  done = run('evaluate', f'--workdir={continued[0]}', *arguments)
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  (line,) = done.stderr.splitlines()
  assert line.startswith('evaluate: error: ') and culprit in line


def test_other_settings_for_the_same_run(continued, run, tiny):
  done = run('train', *tiny, '--config.seed=5', f'--workdir={continued[0]}')
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert 'seed: 0 -> 5' in line
