"""Whether a set's optimum is one at which an exact gradient means anything."""

import numpy as np

# What may be wrong with a set, in the order in which it is asked.
EXACT = 'exact'
STATUSES = (
  'not finite',
  'at a kink',
  'not converged',
  'singular',
  'indefinite',
  'no gradient',
  EXACT,
)
# Largest residual of a converged set, and its largest Newton step, relative to
# the set's size (the residual also to the Hessian's largest eigenvalue).
CONVERGED = 1e-9
SETTLED = 1e-6
# A smaller set has no size but rounding errors: it starts and ends at zero. Its
# residual and Newton step are compared with another size.
ZERO = 1e-12
SIZE_OF_ZERO = 1e-6
# Smallest eigenvalue of a regular Hessian, relative to the largest.
REGULAR = 1e-10
# How close a set is to the kink that holds it, relative to its size: one that
# has not converged, and one that has.
NEAR = 1e-5
TOUCHING = 1e-9


def judge(
  residual: np.ndarray,
  newton: np.ndarray,
  size: np.ndarray,
  kink: np.ndarray,
  eigenvalues: np.ndarray,
  norm: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Ranks, and what is wrong with every set, if anything.

  Args:
    residual: norm of the energy's gradient `g` at the optimum, `(B,)`.
    newton: norm of `H⁻¹ g` in the directions in which `H` is regular, `(B,)`.
    size: of the set: the norm of the optimum or its distance to the initial
      set, whichever is larger, `(B,)`.
    kink: distance to the nearest kink, `(B,)`.
    eigenvalues: of the Hessian, ascending, `(B, N·D)`.
    norm: of the loss's gradient, `(B,)`.

  Returns:
    Ranks, `(B,)`, and statuses, `(B,)` of `STATUSES`.
  """
  regular = is_regular(eigenvalues)
  rank = np.sum(regular, axis=-1)
  largest = np.max(np.abs(eigenvalues), axis=-1)
  unit = np.where(size < ZERO, SIZE_OF_ZERO, size)
  with np.errstate(all='ignore'):  # Sets that have diverged.
    unsolved = residual > CONVERGED * largest * unit
    unsolved |= newton > SETTLED * unit
  finite = np.isfinite(residual) & np.all(np.isfinite(eigenvalues), axis=-1)
  near = np.where(unsolved, NEAR, TOUCHING)
  status = np.select(
    [
      ~(finite & np.isfinite(norm)),
      kink <= near * size,
      unsolved,
      rank < eigenvalues.shape[-1],
      eigenvalues[:, 0] < 0,
      norm == 0,
    ],
    STATUSES[:-1],
    EXACT,
  )
  return rank, status


def is_regular(eigenvalues: np.ndarray) -> np.ndarray:
  """Which eigenvalues are not zero, `(B, N·D)`, beside each set's largest."""
  magnitude = np.abs(eigenvalues)
  return magnitude > REGULAR * np.max(magnitude, axis=-1, keepdims=True)
