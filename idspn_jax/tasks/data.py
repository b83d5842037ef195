"""The data of an experiment: streams of training and evaluation batches."""

import abc
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import itertools
from typing import Any

import numpy as np

from idspn_jax import errors
from idspn_jax.data import batch_rows

Batch = Mapping[str, Any]


class Data(abc.ABC):
  """The data of one seed."""

  @abc.abstractmethod
  def train(
    self, first_step: int
  ) -> contextlib.AbstractContextManager[Iterator[Batch]]:
    """Opens the batches of steps `first_step`, `first_step + 1`, … without end.

    The same step always gets the same batch, so that a resumed run continues
    as if it had never stopped. Leaving the context frees workers and files.
    """

  @abc.abstractmethod
  def evaluate(self, split: str = 'test') -> Iterator[Batch]:
    """Yields held-out data once, in batches of one size.

    Args:
      split: 'test', or 'validation' if the task selects.

    Yields:
      Batches whose `mask`, `(B,)` booleans, is false for rows that only fill
      up the last one.
    """

  def read_inputs(self, path: str) -> Batch:
    """Reads a file of new inputs to predict from.

    Raises:
      UserError: if the task predicts from no file, or the file does not fit.
    """
    raise errors.UserError(f'This task cannot predict from a file ({path}).')

  def read_images(self, paths: Sequence[str]) -> Batch:
    """Reads picture files to predict from.

    Args:
      paths: of the files.

    Raises:
      UserError: if the task's model reads no pictures, or one is damaged.
    """
    del paths
    raise errors.UserError(
      'This task predicts from no pictures; give a file of inputs: '
      '--inputs=FILE.'
    )

  def to_units(self, predictions: dict[str, np.ndarray]) -> dict[str, Any]:
    """Turns predictions into the units of the input file."""
    return predictions

  def to_json(self, predictions: dict[str, np.ndarray]) -> dict[str, Any]:
    """What a JSON file says of predictions in the units of the input file."""
    return {'predictions': predictions}


def no_predictions(task: str) -> errors.UserError:
  """The error of a task that has no `predict`."""
  return errors.UserError(f'Task {task} has no predictions from a file.')


def shuffled_batches(
  arrays: Batch,
  batch_size: int,
  seed: int,
  first_step: int,
  random_streams: int = batch_rows.STREAMS,
) -> Iterator[Batch]:
  """Yields batches of in-memory arrays, reshuffled every epoch.

  Args:
    arrays: arrays with one row per example.
    batch_size: rows per batch; a remainder of an epoch is dropped.
    seed: together with the epoch it determines the order.
    first_step: where to begin.
    random_streams: how the order follows from seed and epoch.

  Yields:
    Batches, without end.
  """
  count = len(next(iter(arrays.values())))
  for step in itertools.count(first_step):
    rows = batch_rows.batch_rows(count, batch_size, seed, step, random_streams)
    yield {name: array[rows] for name, array in arrays.items()}


def padded_batches(arrays: Batch, batch_size: int) -> Iterator[Batch]:
  """Yields all rows in order; the last batch is filled up by its last row.

  Args:
    arrays: arrays with one row per example.
    batch_size: rows per batch; at most as many as there are examples are used.

  Yields:
    Batches with a `mask`, see `Data.evaluate`.
  """
  count = len(next(iter(arrays.values())))
  batch_size = min(batch_size, count)
  for start in range(0, count, batch_size):
    rows = np.arange(start, start + batch_size)
    mask = rows < count
    rows = np.minimum(rows, count - 1)
    batch = {name: array[rows] for name, array in arrays.items()}
    yield {**batch, 'mask': mask}


class ArrayData(Data):
  """Data held in memory, one dictionary of arrays per split."""

  def __init__(
    self,
    splits: Mapping[str, Batch],
    batch_size: int,
    eval_batch_size: int,
    seed: int,
    random_streams: int = batch_rows.STREAMS,
  ):
    """Remembers the arrays.

    Args:
      splits: for 'train', 'test' and further splits, arrays with one row per
        example.
      batch_size: rows of a training batch.
      eval_batch_size: rows of an evaluation batch.
      seed: of the order of the training batches.
      random_streams: see `shuffled_batches`.
    """
    self.splits = splits
    self.batch_size = batch_size
    self.eval_batch_size = eval_batch_size
    self.seed = seed
    self.random_streams = random_streams

  def train(self, first_step):
    batches = shuffled_batches(
      self.splits['train'],
      self.batch_size,
      self.seed,
      first_step,
      self.random_streams,
    )
    return contextlib.closing(batches)

  def evaluate(self, split='test'):
    return padded_batches(self.splits[split], self.eval_batch_size)

  def examples(self, count: int, split: str = 'test') -> dict[str, np.ndarray]:
    """The first rows of a split."""
    return {name: a[:count] for name, a in self.splits[split].items()}


def check_batch_size(batch_size: int, count: int, remedy: str) -> None:
  """Refuses batches of more rows than there are examples.

  Raises:
    UserError: naming both numbers and the remedy.
  """
  if batch_size > count:
    raise errors.UserError(
      f'batch_size is {batch_size} but there are only {count} sets to train '
      f'on; {remedy}.'
    )
