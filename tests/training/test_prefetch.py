"""Batches are placed ahead, in order, and errors keep their place."""

import pytest

from idspn_jax.training import prefetch


@pytest.mark.parametrize('ahead', [0, 1, 3])
def test_order_and_how_far_ahead(ahead):
  placed = []

  def place(batch):
    placed.append(batch)
    return -batch

  found = []
  for batch in prefetch.prefetched(range(6), place, ahead):
    found.append(batch)
    assert len(placed) == min(len(found) + ahead, 6)
  assert found == [0, -1, -2, -3, -4, -5]


def test_no_batches():
  assert list(prefetch.prefetched([], str)) == []


def test_an_error_comes_after_the_batches_before_it():
  def batches():
    yield 1
    yield 2
    raise OSError('the disk')

  stream = prefetch.prefetched(batches(), str, 5)
  assert [next(stream), next(stream)] == ['1', '2']
  with pytest.raises(OSError, match='the disk'):
    next(stream)


def test_closing_it_reads_no_further():
  read = []

  def batches():
    for i in range(9):
      read.append(i)
      yield i

  stream = prefetch.prefetched(batches(), str, 1)
  next(stream)
  stream.close()
  assert read == [0, 1]
