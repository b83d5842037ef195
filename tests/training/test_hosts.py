"""Two real processes on loopback: one run, one stop, one death."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from idspn_jax import errors
from idspn_jax.training import hosts

ROOT = pathlib.Path(__file__).parents[2]
SMALL = (
  '--config=configs/random_multisets.py:n=2,d=2,T=3',
  '--config.data.num_train=64',
  '--config.data.num_test=11',
  '--config.batch_size=8',
  '--config.eval_batch_size=8',
  '--config.model.hidden_dim=8',
  '--config.model.latent_dim=8',
  '--config.log_every=1',
  '--config.checkpoint_every=5',
  '--config.eval_every=100000',
)


def free_port():
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


class Pair:
  """Two processes that train together."""

  def __init__(self, workdir, steps, *arguments, only_second=(), x64=(0, 0)):
    self.workdir = workdir
    port = free_port()
    self.processes = [
      subprocess.Popen(
        [
          sys.executable,
          '-m',
          'experiments.train',
          *SMALL,
          f'--config.steps={steps}',
          f'--workdir={workdir}',
          f'--coordinator_address=127.0.0.1:{port}',
          '--num_processes=2',
          f'--process_id={i}',
          *arguments,
          *(only_second if i else ()),
        ],
        cwd=ROOT,
        env={
          **os.environ,
          'JAX_PLATFORMS': 'cpu',
          'XLA_FLAGS': '',
          'JAX_ENABLE_X64': str(x64[i]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      for i in range(2)
    ]

  def wait_for_checkpoint(self, after):
    """Waits until one beyond a step is there; returns the newest step."""
    end = time.monotonic() + 240
    while time.monotonic() < end:
      if (steps := stored_steps(self.workdir)) and steps[-1] > after:
        return steps[-1]
      assert all(p.poll() is None for p in self.processes), self.finish()
      time.sleep(0.05)
    raise AssertionError('No checkpoint was written.')

  def finish(self, seconds=240):
    """Exit statuses, and what each has printed."""
    outputs = [p.communicate(timeout=seconds) for p in self.processes]
    return [p.returncode for p in self.processes], outputs

  def kill(self):
    for process in self.processes:
      process.kill()
      process.communicate()


@pytest.fixture
def pair():
  """Starts pairs of processes; none outlives its test."""
  started = []

  def start(*arguments, **differing):
    started.append(Pair(*arguments, **differing))
    return started[-1]

  yield start
  for one in started:
    one.kill()


def stored_steps(workdir):
  folder = workdir / 'checkpoints'
  names = os.listdir(folder) if folder.exists() else []
  return sorted(int(name) for name in names if name.isdecimal())


def logged_steps(workdir):
  lines = (workdir / 'scalars.jsonl').read_text('utf-8').splitlines()
  rows = map(json.loads, lines)
  return [row['step'] for row in rows if 'train/loss' in row]


def last_line(text):
  return text.rstrip().splitlines()[-1]


@pytest.mark.deep
@pytest.mark.timeout(1500)
def test_stopped_killed_and_continued(pair, tmp_path):
  workdir = tmp_path / 'run'
  both = pair(workdir, 1_000_000)
  both.wait_for_checkpoint(0)
  # The one that writes nothing is asked; both stop, after the same step.
  both.processes[1].send_signal(signal.SIGTERM)
  statuses, outputs = both.finish()
  assert statuses == [143, 143], outputs
  stopped = int(re.search(r'Stopped at step (\d+)', outputs[0][0])[1])
  assert stored_steps(workdir)[-1] == stopped
  assert logged_steps(workdir) == list(range(1, stopped + 1))
  assert 'Stopped' not in outputs[1][0]

  for victim in (1, 0):
    both = pair(workdir, 1_000_000)
    both.wait_for_checkpoint(stored_steps(workdir)[-1])
    both.processes[victim].kill()
    other = both.processes[1 - victim]
    since = time.monotonic()
    _, told = other.communicate(timeout=60)
    assert time.monotonic() - since < 60
    assert other.returncode not in (0, None)
    # The service of process 0 ends the others itself, if it is first.
    assert 'another process of this run has ended' in told or (
      victim == 0 and 'another task died' in told
    ), told
    assert 'Traceback' not in told
    if victim == 1:
      assert other.returncode == hosts.LEFT
      assert 'last checkpoint' in last_line(told)

  steps = stored_steps(workdir)[-1] + 3
  both = pair(workdir, steps)
  statuses, outputs = both.finish()
  assert statuses == [0, 0], outputs
  assert logged_steps(workdir) == list(range(1, steps + 1))
  result = json.loads((workdir / 'result.json').read_text('utf-8'))
  assert result['step'] == steps and result['device']['count'] == 2
  assert f'{result["metrics"]["loss"]:.4g}' in outputs[0][0]
  # One alone reads the same.
  alone = subprocess.run(
    [
      sys.executable,
      '-m',
      'experiments.train',
      *SMALL,
      f'--config.steps={steps}',
      f'--workdir={workdir}',
    ],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''},
    capture_output=True,
    text=True,
    timeout=240,
  )
  assert alone.returncode == 0, alone.stderr
  again = json.loads((workdir / 'result.json').read_text('utf-8'))
  assert again['metrics']['loss'] == pytest.approx(
    result['metrics']['loss'], rel=1e-5
  )


@pytest.mark.deep
def test_a_stop_within_an_evaluation_leaves_it_everywhere(pair, tmp_path):
  workdir = tmp_path / 'run'
  both = pair(
    workdir,
    1000,
    '--config.eval_every=5',
    '--config.checkpoint_every=4',
    # Hours, were it not left.
    '--config.data.num_test=3000000',
    '--config.eval_batch_size=2',
  )
  both.wait_for_checkpoint(0)
  while logged_steps(workdir)[-1] < 5:
    assert all(p.poll() is None for p in both.processes), both.finish()
    time.sleep(0.05)
  both.processes[1].send_signal(signal.SIGTERM)
  statuses, outputs = both.finish()
  assert statuses == [143, 143], outputs
  assert 'Stopped at step 5' in outputs[0][0]
  assert stored_steps(workdir)[-1] == 5
  assert 'eval/' not in (workdir / 'scalars.jsonl').read_text('utf-8')


@pytest.mark.deep
def test_an_error_of_one_ends_both(pair, tmp_path):
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'config.json').write_text('{')
  statuses, outputs = pair(tmp_path / 'run', 5).finish()
  assert statuses == [2, 2], outputs
  for _, told in outputs:
    assert 'config.json is damaged' in last_line(told)
    assert 'Traceback' not in told


@pytest.mark.deep
def test_other_settings_of_one_are_named_by_both(pair, tmp_path):
  both = pair(
    tmp_path / 'run',
    5,
    only_second=('--config.model.hidden_dim=9', '--config.seed=3'),
    x64=(0, 1),
  )
  statuses, outputs = both.finish()
  assert statuses == [2, 2], outputs
  for _, told in outputs:
    assert (
      'Process 1 differs from process 0: config.model.hidden_dim: 8 -> 9; '
      "config.seed: 0 -> 3; jax_enable_x64: 'False' -> 'True'."
    ) in last_line(told)
    assert 'Traceback' not in told
  assert not (tmp_path / 'run').exists()


class TestFlags:
  @pytest.mark.parametrize(
    'given, culprit',
    [
      (('host:1', None, None), 'Give all of --coordinator_address'),
      ((None, 2, 0), 'Give all of --coordinator_address'),
      (('host', 2, 0), '--coordinator_address=host'),
      (('host:1', 2, 2), '--process_id=2'),
      (('host:1', 2, -1), '--process_id=-1'),
      (('localhost:1', 0, 0), '--num_processes=0 must be at least 1'),
      (('localhost:0', 2, 0), 'localhost:0: the port must be from 1 to 65535'),
      (('localhost:65536', 2, 0), 'the port must be from 1 to 65535'),
      (('[::1]:99999', 2, 0), 'the port must be from 1 to 65535'),
      (('a..b:9', 2, 1), 'there is no host a..b'),
    ],
  )
  def test_that_do_not_fit(self, given, culprit):
    with pytest.raises(errors.UserError, match=culprit):
      with hosts.session(*given):
        raise AssertionError('It must not start.')

  def test_an_unknown_host(self, monkeypatch):
    def unknown(host, port):
      raise socket.gaierror(-2, f'No address of {host}')

    monkeypatch.setattr(socket, 'getaddrinfo', unknown)
    told = r'there is no host far \(No address of far\); give the name'
    with pytest.raises(errors.UserError, match=told):
      with hosts.session('far:9', 2, 1):
        raise AssertionError('It must not start.')

  @pytest.mark.parametrize(
    'environment, together',
    [
      ({}, False),
      ({'SLURM_JOB_ID': '1', 'SLURM_NTASKS': '4'}, False),  # Not by srun.
      (
        {
          'SLURM_JOB_ID': '1',
          'SLURM_STEP_NODELIST': 'a[1-2]',
          'SLURM_PROCID': '0',
          'SLURM_NTASKS': '2',
        },
        True,
      ),
      (
        {
          'SLURM_JOB_ID': '1',
          'SLURM_STEP_NODELIST': 'a',
          'SLURM_PROCID': '0',
          'SLURM_NTASKS': '1',
        },
        False,
      ),
      ({'OMPI_COMM_WORLD_SIZE': '2'}, True),
      ({'TPU_WORKER_HOSTNAMES': 'a'}, False),
      ({'TPU_WORKER_HOSTNAMES': 'a,b'}, True),
      ({'MEGASCALE_COORDINATOR_ADDRESS': 'a'}, True),
    ],
  )
  def test_launchers_are_known(self, environment, together, monkeypatch):
    for name in os.environ:
      if name.startswith(('SLURM', 'OMPI', 'TPU', 'MEGASCALE')):
        monkeypatch.delenv(name)
    for name, value in environment.items():
      monkeypatch.setenv(name, value)
    assert hosts.launched_together() is together


def test_a_single_process_needs_no_session():
  with hosts.session():
    assert hosts.count() == 1 and hosts.is_writer()
    marker = object()
    assert hosts.from_writer(lambda: marker) is marker
    assert hosts.all_of(True) and not hosts.all_of(False)
    # Also alone, one call later.
    largest = hosts.Largest()
    assert [largest(n) for n in (0, 15, 0, 2)] == [0, 0, 15, 0]
