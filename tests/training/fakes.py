"""Training data that is broken, interrupts, or counts how it is opened."""

import contextlib
import os

import numpy as np

from idspn_jax.tasks import data as data_lib


class Streams:
  """Counts of streams of training batches.

  Attributes:
    opened: how many.
    closed: how many of them were left.
  """

  def __init__(self):
    """Starts at zero."""
    self.opened = self.closed = 0


def change_batches(monkeypatch, change, of=data_lib.ArrayData) -> Streams:
  """Passes training batches through `change(data, step, batch)`."""
  train = of.train
  streams = Streams()

  @contextlib.contextmanager
  def changed(self, first_step):
    streams.opened += 1
    try:
      with train(self, first_step) as batches:
        yield (
          change(self, step, batch)
          for step, batch in enumerate(batches, first_step)
        )
    finally:
      streams.closed += 1

  monkeypatch.setattr(of, 'train', changed)
  return streams


def poison(monkeypatch, first_bad, seeds=(0,)) -> Streams:
  """Makes inputs NaN from a step on."""

  def change(data, step, batch):
    if data.seed in seeds and step >= first_bad:
      return {**batch, 'input': np.full_like(batch['input'], np.nan)}
    return batch

  return change_batches(monkeypatch, change)


def interrupt(monkeypatch, number, at) -> Streams:
  """Sends this process a signal before a step's batch."""

  def change(data, step, batch):
    if step == at:
      os.kill(os.getpid(), number)
    return batch

  return change_batches(monkeypatch, change)
