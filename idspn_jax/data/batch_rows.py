"""Which examples make up a training batch: a function of seed and step.

Every reader of data takes its rows from here, so that the batches of a step are
the same from memory, from a cache and from worker processes, at any step.
"""

import functools

import numpy as np

from idspn_jax.data import streams

# Random stream of the order of training examples, see `streams`.
_SHUFFLE = 2
# How `config.random_streams` numbers the ways to derive that stream. The first
# one, of runs from before the setting existed, coincides in epoch 0 with the
# stream of class numbering's test labels.
COLLIDING_STREAMS, STREAMS = 1, 2


# Several seeds may train together, and batches are read ahead.
@functools.lru_cache(maxsize=32)
def _epoch(count, seed, epoch, random_streams):
  if random_streams == COLLIDING_STREAMS:
    rng = np.random.default_rng([seed, _SHUFFLE, epoch])
  else:
    rng = streams.stream(seed, _SHUFFLE, epoch)
  order = rng.permutation(count)
  order.flags.writeable = False
  return order


def batch_rows(
  count: int,
  batch_size: int,
  seed: int,
  step: int,
  random_streams: int = STREAMS,
) -> np.ndarray:
  """The examples of a training batch; every epoch has another order.

  Args:
    count: number of examples.
    batch_size: rows per batch, at most `count`; an epoch's remainder is
      dropped.
    seed: together with the epoch it determines the order.
    step: which batch, from 0.
    random_streams: how the order follows from seed and epoch.

  Returns:
    Indices below `count`, `(batch_size,)`.

  Raises:
    ValueError: if the examples do not fill one batch.
  """
  if not 1 <= batch_size <= count:
    raise ValueError(
      f'Batches of {batch_size} need at least as many examples; got {count}.'
    )
  epoch, batch = divmod(step, count // batch_size)
  order = _epoch(count, seed, epoch, random_streams)
  return order[batch * batch_size : (batch + 1) * batch_size]


def share(rows: np.ndarray, process: int, processes: int) -> np.ndarray:
  """One process's part of a batch; all parts in order make the batch.

  Args:
    rows: of the whole batch, `(B,)`.
    process: index of this process.
    processes: number of processes.

  Raises:
    ValueError: if the batch does not divide.
  """
  if len(rows) % processes:
    raise ValueError(
      f'A batch of {len(rows)} does not divide among {processes} processes; '
      f'use a multiple of {processes}.'
    )
  return np.split(rows, processes)[process]
