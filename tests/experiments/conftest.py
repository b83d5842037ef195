"""Runs the binaries as a user does."""

import subprocess
import sys

import pytest

from tests.experiments import forking

# Small enough that a run takes seconds, most of them to start.
TINY = (
  '--config.model.hidden_dim=8',
  '--config.model.latent_dim=8',
  '--config.batch_size=8',
  '--config.eval_batch_size=8',
)
TINY_MULTISETS = (
  '--config=configs/random_multisets.py:n=2,d=2,T=3',
  '--config.data.num_train=16',
  '--config.data.num_test=8',
  '--config.log_every=1',
  *TINY,
)


@pytest.fixture(scope='session')
def tiny():
  """Arguments of a tiny training on random multisets."""
  return TINY_MULTISETS


@pytest.fixture(scope='session')
def run():
  """Runs `python -m experiments.NAME` in the root and waits for it."""
  with forking.Commands() as commands:
    yield commands.run


@pytest.fixture(scope='session')
def start():
  """Starts `python -m experiments.NAME` in the root."""

  def call(name, *arguments):
    return subprocess.Popen(
      [sys.executable, '-m', f'experiments.{name}', *map(str, arguments)],
      cwd=forking.ROOT,
      env=forking.environment(),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  return call
