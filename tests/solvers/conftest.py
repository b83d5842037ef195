"""An inner problem with a known answer, in float64."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.solvers import energy as energy_lib


class Problem(NamedTuple):
  """An energy and what it depends on."""

  energy: Callable
  inputs: energy_lib.Inputs


def _distance(inputs, y):
  goal = inputs.z.reshape(y.shape)
  return 0.5 * jnp.sum(jnp.square(y - goal), axis=(-2, -1))


@pytest.fixture
def toward_z(x64):
  """`½ ‖y - z‖²` for two sets: the minimiser is z, or the projection of z."""
  rng = np.random.default_rng(7)
  inputs = energy_lib.Inputs(
    params={},
    z=jnp.asarray(rng.normal(size=(2, 6))),
    initial_set=jnp.asarray(rng.normal(size=(2, 3, 2))),
  )
  return Problem(_distance, inputs)
