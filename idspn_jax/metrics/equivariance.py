"""Measures how far a function is from the paper's two equivariances.

Definitions 1 and 2 of Section 2.2 quantify over all permutations. Here f takes
a batch of multisets, `(B, N, D)` to `(B, N, E)`, set by set, and the caller
says which permutations to try: all of a small multiset, or a sample.
"""

from collections.abc import Callable
import itertools
from typing import Any

import numpy as np

from idspn_jax.ops import assignment

Function = Callable[[np.ndarray], Any]


def all_permutations(size: int) -> np.ndarray:
  """All permutations P of a set, as index arrays: `P X = X[p]`; `(N!, N)`."""
  return np.array(list(itertools.permutations(range(size))))


def random_permutations(size: int, count: int, seed: int = 0) -> np.ndarray:
  """The identity and `count` random permutations, `(count + 1, N)`."""
  rng = np.random.default_rng(seed)
  identity = np.arange(size)[None]
  return np.concatenate(
    [identity, rng.permuted(np.repeat(identity, count, axis=0), axis=1)]
  )


def _outputs(function, x, permutations):
  """`f(X)` and `f(P X)` for every P."""
  identity = np.arange(len(x))[None]
  outputs = np.asarray(function(x[np.concatenate([identity, permutations])]))
  return outputs[0], outputs[1:]


def set_equivariance_error(
  function: Function, x: np.ndarray, permutations: np.ndarray
) -> float:
  """`max over P of max|f(P X) - P f(X)|`: zero by Definition 1 (Equation 2).

  Args:
    function: f.
    x: the multiset X, `(N, D)`.
    permutations: those to try, `(P, N)`.

  Returns:
    The largest difference of any number; infinite if an output is not finite.
  """
  output, outputs = _outputs(function, x, permutations)
  with np.errstate(invalid='ignore', over='ignore'):
    return _largest(outputs - output[permutations])


def multiset_equivariance_error(
  function: Function, x: np.ndarray, permutations: np.ndarray
) -> float:
  """Zero by Definition 2 (Equation 5): equal elements may swap their outputs.

  For every P1 it takes a P2 with `P1 X = P2 X`, which rearranges equal elements
  only, to bring `P2 f(X)` close to `f(P1 X)`. That P2 is a matching of the two
  outputs within groups of equal elements.

  Args:
    function: f.
    x: the multiset X, `(N, D)`.
    permutations: the P1 to try, `(P, N)`.

  Returns:
    `max|f(P1 X) - P2 f(X)|` over all P1, P2 chosen to make the sum over
    elements of each one's largest difference least; infinite if an output or a
    difference is not finite.
  """
  output, outputs = _outputs(function, x, permutations)
  if not np.all(np.isfinite(output)) or not np.all(np.isfinite(outputs)):
    return float('inf')
  _, kinds = np.unique(x, axis=0, return_inverse=True)
  kinds = kinds.reshape(-1)
  with np.errstate(over='ignore'):
    difference = outputs[:, :, None] - output[None, None]
  equal = kinds[permutations][:, :, None] == kinds
  cost = np.where(equal, np.max(np.abs(difference), axis=-1), 0.0)
  greatest = np.max(cost, initial=0.0)
  if not np.isfinite(greatest):
    return float('inf')
  # The matching may compute in float32. A power of two keeps the digits.
  cost = np.ldexp(cost, -np.frexp(greatest)[1])
  matching = assignment.match(
    cost,
    row_groups=kinds[permutations],
    column_groups=np.broadcast_to(kinds, permutations.shape),
    method='scipy',
  )
  return _largest(outputs - output[np.asarray(matching.columns)])


def _largest(difference):
  largest = float(np.max(np.abs(difference), initial=0.0))
  return largest if np.isfinite(largest) else float('inf')
