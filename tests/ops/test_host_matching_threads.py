"""Matching on the host while JAX's CPU client has no free thread."""

import os
import subprocess
import sys

# The costs are computed when the callback's program is queued.
_PENDING = """
import jax
import numpy as np
from idspn_jax.ops import assignment

compute = jax.jit(lambda x: x + 1)
match = jax.jit(lambda cost: assignment.match(cost, method='scipy').columns)
costs = jax.numpy.asarray(np.random.default_rng(0).random((2000, 6, 6)))
for _ in range(20):
  np.asarray(match(compute(costs)))
both = jax.jit(jax.vmap(match))
for _ in range(20):
  np.asarray(both(compute(costs).reshape(4, 500, 6, 6)))
"""


def test_one_thread():
  environment = {**os.environ, 'NPROC': '1'}
  subprocess.run(
    [sys.executable, '-c', _PENDING], env=environment, timeout=120, check=True
  )
