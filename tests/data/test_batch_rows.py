"""Batches of a step: permutations by epoch, shares of processes."""

import numpy as np
import pytest

from idspn_jax.data import batch_rows


def epoch(count, size, seed, number):
  per_epoch = count // size
  steps = range(number * per_epoch, (number + 1) * per_epoch)
  rows = [batch_rows.batch_rows(count, size, seed, step) for step in steps]
  return np.concatenate(rows)


def test_an_epoch_visits_no_example_twice():
  first, second = epoch(11, 3, 0, 0), epoch(11, 3, 0, 1)
  assert len(set(first)) == len(set(second)) == 9
  assert list(first) != list(second)
  assert set(epoch(9, 3, 0, 4)) == set(range(9))


def test_seeds_and_streams_have_orders_of_their_own():
  orders = {
    tuple(batch_rows.batch_rows(50, 50, seed, 0, number))
    for seed in (0, 1)
    for number in (batch_rows.COLLIDING_STREAMS, batch_rows.STREAMS)
  }
  assert len(orders) == 4


def test_any_step_is_found_directly():
  rows = batch_rows.batch_rows(100, 7, 3, 10**6)
  np.testing.assert_array_equal(rows, batch_rows.batch_rows(100, 7, 3, 10**6))
  assert rows.shape == (7,) and 0 <= rows.min() <= rows.max() < 100


@pytest.mark.parametrize('size', [0, 5])
def test_batches_that_cannot_be_filled(size):
  with pytest.raises(ValueError, match=f'Batches of {size}.*got 4'):
    batch_rows.batch_rows(4, size, 0, 0)


def test_shares_make_up_the_batch():
  rows = np.arange(12) * 3
  shares = [batch_rows.share(rows, i, 4) for i in range(4)]
  np.testing.assert_array_equal(np.concatenate(shares), rows)
  with pytest.raises(ValueError, match='12 does not divide among 5'):
    batch_rows.share(rows, 0, 5)
