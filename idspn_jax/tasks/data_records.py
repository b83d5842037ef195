"""What tasks on a user's file share: its split, and what a run stores of it."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

import numpy as np

from idspn_jax import errors
from idspn_jax.data import local_paths
from idspn_jax.data import set_files
from idspn_jax.data import standardization

Split = tuple[np.ndarray, np.ndarray]


def exists(path: str) -> bool:
  """Whether there is something at a path.

  Raises:
    UserError: if it is the address of remote storage.
  """
  try:
    return os.path.exists(local_paths.local_path(path))
  except ValueError as e:
    raise errors.UserError(str(e)) from e


def split(count: int, fraction: float, seed: int, path: str) -> Split:
  """Indices of training and test examples; see `set_files.split`.

  Args:
    count: of the examples.
    fraction: of them that is tested on.
    seed: of the division.
    path: of the file, for the error.

  Raises:
    UserError: if no example is left on one side.
  """
  try:
    return set_files.split(count, fraction, seed)
  except ValueError as e:
    raise errors.UserError(f'{path}: {e}') from e


def stored_split(now: Split, test: Sequence[int], count: int) -> Split:
  """The split of a run that has stored its test examples.

  Args:
    now: the split as it is computed today.
    test: the stored indices.
    count: of the examples.
  """
  before = np.asarray(test)
  if np.array_equal(np.sort(before), np.sort(now[1])):
    return now
  # Another version of NumPy: the test examples stay those of the run.
  return np.setdiff1d(np.arange(count), before), before


def stored_scaling(
  record: Mapping[str, Any],
) -> standardization.Standardization:
  """The `mean` and `std` that a run has stored."""
  return standardization.Standardization(
    np.asarray(record['mean'], np.float64),
    np.asarray(record['std'], np.float64),
  )


def no_such_file(path: str) -> str:
  """What to say of a run's file that is gone."""
  return (
    f'{path}: no such file; check --config.data.path, or, to evaluate, say '
    "where the run's file is now with --data=FILE."
  )
