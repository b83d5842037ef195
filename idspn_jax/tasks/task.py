"""What the training loop knows about an experiment."""

import abc
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

Batch = dict[str, np.ndarray]
Params = Any


class Task(abc.ABC):
  """Data, model, loss and metrics of one experiment.

  The methods that take `params` are pure functions: `loss` and `metrics` run
  inside `jax.jit`, with `iterations` static.

  Attributes:
    config: the experiment's configuration.
    headline: the metric to quote, a key of what `metrics` returns.
    selection: the metric whose highest value on the split 'validation' picks
      the parameters to test; None tests the last ones.
    iterates: whether the model takes inner steps, so that their number may be
      changed.
  """

  headline = 'loss'
  selection: str | None = None
  iterates: bool = True

  def __init__(self, config: ml_collections.ConfigDict):
    """Prepares data and model.

    Args:
      config: a configuration of `configs/`.

    Raises:
      UserError: if a value is impossible or a file does not fit.
    """
    self.config = config

  @abc.abstractmethod
  def init(self, key: jax.Array) -> Params:
    """Returns fresh parameters."""

  @abc.abstractmethod
  def train_batches(self, first_step: int) -> Iterator[Batch]:
    """Yields the batches of steps `first_step`, `first_step + 1`, … for ever.

    The same step always gets the same batch, so that a resumed run continues
    as if it had never stopped.
    """

  @abc.abstractmethod
  def eval_batches(
    self, split: str = 'test'
  ) -> Iterator[tuple[Batch, np.ndarray]]:
    """Yields held-out data once: batches of one size, and weights `(B,)`.

    Weight 0 marks examples that only fill up the last batch.

    Args:
      split: 'test', or 'validation' if the task selects.
    """

  @abc.abstractmethod
  def loss(
    self, params: Params, batch: Batch, key: jax.Array
  ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
    """Returns the training loss and further scalars to log."""

  @abc.abstractmethod
  def metrics(
    self,
    params: Params,
    batch: Batch,
    key: jax.Array,
    iterations: int | None = None,
  ) -> Mapping[str, jax.Array]:
    """Returns metrics per example, `(B,)` each.

    Args:
      params: parameters.
      batch: evaluation batch.
      key: for a sampled initial set.
      iterations: inner steps, or None for the configured number.
    """

  @abc.abstractmethod
  def draw(
    self,
    params: Params,
    key: jax.Array,
    iterations: Sequence[int | None],
    directory: str,
  ) -> list[str]:
    """Draws evaluation examples at several step counts; returns the files."""


def shuffled_batches(
  arrays: Batch, batch_size: int, seed: int, first_step: int
) -> Iterator[Batch]:
  """Yields batches of in-memory arrays, reshuffled every epoch.

  Args:
    arrays: arrays with one row per example.
    batch_size: rows per batch; a remainder of an epoch is dropped.
    seed: together with the epoch it determines the order.
    first_step: where to begin.

  Yields:
    Batches, for ever.
  """
  count = len(next(iter(arrays.values())))
  per_epoch = count // batch_size
  step = first_step
  while True:
    epoch, offset = divmod(step, per_epoch)
    order = np.random.default_rng([seed, 2, epoch]).permutation(count)
    for i in range(offset, per_epoch):
      rows = order[i * batch_size : (i + 1) * batch_size]
      yield {name: array[rows] for name, array in arrays.items()}
      step += 1


def padded_batches(
  arrays: Batch, batch_size: int
) -> Iterator[tuple[Batch, np.ndarray]]:
  """Yields all rows in order, the last batch filled up with weight-0 rows."""
  count = len(next(iter(arrays.values())))
  for start in range(0, count, batch_size):
    rows = np.arange(start, start + batch_size)
    weight = (rows < count).astype(np.float32)
    rows = np.minimum(rows, count - 1)
    yield {name: array[rows] for name, array in arrays.items()}, weight
