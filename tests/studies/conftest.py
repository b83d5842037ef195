"""Trials of sweeps."""

import collections

import pytest

from idspn_jax.studies import sweep_trials

Cell = collections.namedtuple('Cell', 'name')


@pytest.fixture
def plan(small, tmp_path):
  def make(names=('a', 'b'), seeds=(0, 1), together=True):
    return sweep_trials.plan(
      [Cell(name) for name in names],
      lambda cell: lambda seed: small(seed=seed),
      seeds,
      str(tmp_path / 'sweep'),
      together,
    )

  return make
