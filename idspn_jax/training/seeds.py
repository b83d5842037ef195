"""Several seeds of one experiment, vectorised in one compiled program.

Trees of several seeds are stacked along a first axis, over which functions are
mapped by `jax.vmap`; a single seed has no such axis and is not mapped.
"""

from collections.abc import Callable, Sequence
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_CONTAINER = '/sys/fs/cgroup/memory.max'


def _stack(*leaves):
  on_host = isinstance(leaves[0], np.ndarray)
  return np.stack(leaves) if on_host else jnp.stack(leaves)


class VectorizedSeeds:
  """A number of seeds that take every step together."""

  def __init__(self, count: int):
    """Remembers how many there are."""
    self.count = count

  def map(self, function: Callable) -> Callable:
    """Turns a function of one seed's arrays into one of all seeds'."""
    return function if self.count == 1 else jax.vmap(function)

  def stack(self, trees: Sequence[Any]) -> Any:
    """Joins one tree per seed, host arrays on the host."""
    return trees[0] if self.count == 1 else jax.tree.map(_stack, *trees)

  def unstack(self, tree: Any) -> list[Any]:
    """Takes a joined tree apart again, one tree per seed."""
    if self.count == 1:
      return [tree]
    return [
      jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(self.count)
    ]


def memory_limit() -> int:
  """Bytes that a program may use: of the accelerator, else of the machine.

  A container may have less than its machine.
  """
  stats = jax.local_devices()[0].memory_stats() or {}
  if 'bytes_limit' in stats:
    return stats['bytes_limit']
  limit = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  try:
    with open(_CONTAINER, encoding='ascii') as f:
      return min(limit, int(f.read()))
  except (OSError, ValueError):  # No container, or one without a limit.
    return limit
