"""Which examples a step sees: a function of the seed and the step alone."""

import itertools

import chex
import numpy as np
import pytest

from idspn_jax.data import batch_rows
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import registry


def take(batches, count):
  return list(itertools.islice(batches, count))


def ids(batches):
  return [batch['id'].tolist() for batch in batches]


ARRAYS = {'id': np.arange(10), 'double': 2 * np.arange(10)}


class TestShuffledBatches:
  @pytest.mark.parametrize('batch_size', [1, 3, 5, 10])
  def test_every_start_is_a_tail_of_the_whole(self, batch_size):
    whole = ids(take(data_lib.shuffled_batches(ARRAYS, batch_size, 7, 0), 25))
    for first in (1, 2, 3, 10, 11, 17):
      tail = data_lib.shuffled_batches(ARRAYS, batch_size, 7, first)
      assert ids(take(tail, 25 - first)) == whole[first:]

  @pytest.mark.parametrize('batch_size', [1, 2, 5])
  def test_every_example_once_an_epoch(self, batch_size):
    per_epoch = 10 // batch_size
    batches = ids(
      take(data_lib.shuffled_batches(ARRAYS, batch_size, 0, 0), 3 * per_epoch)
    )
    epochs = [
      sum(batches[i : i + per_epoch], [])
      for i in range(0, len(batches), per_epoch)
    ]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]

  def test_a_remainder_is_dropped(self):
    batches = ids(take(data_lib.shuffled_batches(ARRAYS, 4, 0, 0), 2))
    assert [len(batch) for batch in batches] == [4, 4]
    assert len(set(sum(batches, []))) == 8

  def test_arrays_stay_together(self):
    for batch in take(data_lib.shuffled_batches(ARRAYS, 3, 0, 2), 5):
      np.testing.assert_array_equal(batch['double'], 2 * batch['id'])

  def test_seed_changes_the_order(self):
    orders = [
      ids(take(data_lib.shuffled_batches(ARRAYS, 5, seed, 0), 2))
      for seed in (0, 1)
    ]
    assert orders[0] != orders[1]


class TestRandomStreams:
  def test_the_first_one_is_kept_for_older_runs(self):
    """Epoch 1 of seed 7 as it has always been."""
    order = np.random.default_rng([7, 2, 1]).permutation(10)
    batches = data_lib.shuffled_batches(
      ARRAYS, 5, 7, 2, batch_rows.COLLIDING_STREAMS
    )
    assert sum(ids(take(batches, 2)), []) == order.tolist()

  def test_the_present_one_is_another(self):
    old, new = (
      ids(take(data_lib.shuffled_batches(ARRAYS, 10, 7, 0, number), 1))
      for number in (batch_rows.COLLIDING_STREAMS, batch_rows.STREAMS)
    )
    assert old != new


class TestPaddedBatches:
  @pytest.mark.parametrize('batch_size', [1, 3, 4, 5, 10, 12])
  def test_every_row_once_and_in_order(self, batch_size):
    seen = []
    # Never more rows than there are.
    rows = min(batch_size, 10)
    for batch in data_lib.padded_batches(ARRAYS, batch_size):
      mask = batch['mask']
      assert batch['id'].shape == mask.shape == (rows,) and mask.dtype == bool
      seen += batch['id'][mask].tolist()
    assert seen == list(range(10))

  def test_only_the_last_batch_is_filled_up(self):
    batches = list(data_lib.padded_batches(ARRAYS, 4))
    assert [b['mask'].sum() for b in batches] == [4, 4, 2]
    assert batches[-1]['id'].tolist() == [8, 9, 9, 9]


@pytest.mark.parametrize('which', ['multisets', 'npz', 'clevr'])
def test_tasks_resume_their_batches(which, request):
  config = request.getfixturevalue(f'{which}_config')

  def batches(first_step, count):
    data = registry.build(config).data(config.seed)
    with data.train(first_step) as stream:
      return take(stream, count)

  whole = batches(0, 9)
  chex.assert_trees_all_equal(batches(4, 5), whole[4:])
  chex.assert_trees_all_equal(batches(0, 9), whole)
  assert len(whole[0]['input']) == config.batch_size
  held_out = registry.build(config).data(config.seed).evaluate()
  assert len({batch['input'].shape for batch in held_out}) == 1


def test_all_seeds_share_one_source(npz_config):
  """The file is read and split once; the order of batches differs."""
  experiment = registry.build(npz_config)
  first, second = experiment.data(0), experiment.data(1)
  assert experiment.data(0) is first
  np.testing.assert_array_equal(
    first.splits['test']['input'], second.splits['test']['input']
  )
  with first.train(0) as a, second.train(0) as b:
    assert np.any(next(a)['input'] != next(b)['input'])


def test_leaving_the_context_ends_the_batches(multisets_config):
  data = registry.build(multisets_config).data(0)
  with data.train(0) as batches:
    next(batches)
  assert next(batches, None) is None
