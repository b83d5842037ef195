"""Which examples a step sees: a function of the seed and the step alone."""

import itertools

import chex
import numpy as np
import pytest

from idspn_jax.tasks import registry
from idspn_jax.tasks import task as task_lib


def take(batches, count):
  return list(itertools.islice(batches, count))


def ids(batches):
  return [batch['id'].tolist() for batch in batches]


ARRAYS = {'id': np.arange(10), 'double': 2 * np.arange(10)}


class TestShuffledBatches:
  @pytest.mark.parametrize('batch_size', [1, 3, 5, 10])
  def test_every_start_is_a_tail_of_the_whole(self, batch_size):
    whole = ids(take(task_lib.shuffled_batches(ARRAYS, batch_size, 7, 0), 25))
    for first in (1, 2, 3, 10, 11, 17):
      tail = task_lib.shuffled_batches(ARRAYS, batch_size, 7, first)
      assert ids(take(tail, 25 - first)) == whole[first:]

  @pytest.mark.parametrize('batch_size', [1, 2, 5])
  def test_every_example_once_an_epoch(self, batch_size):
    per_epoch = 10 // batch_size
    batches = ids(
      take(task_lib.shuffled_batches(ARRAYS, batch_size, 0, 0), 3 * per_epoch)
    )
    epochs = [
      sum(batches[i : i + per_epoch], [])
      for i in range(0, len(batches), per_epoch)
    ]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]

  def test_a_remainder_is_dropped(self):
    batches = ids(take(task_lib.shuffled_batches(ARRAYS, 4, 0, 0), 2))
    assert [len(batch) for batch in batches] == [4, 4]
    assert len(set(sum(batches, []))) == 8

  def test_arrays_stay_together(self):
    for batch in take(task_lib.shuffled_batches(ARRAYS, 3, 0, 2), 5):
      np.testing.assert_array_equal(batch['double'], 2 * batch['id'])

  def test_seed_changes_the_order(self):
    orders = [
      ids(take(task_lib.shuffled_batches(ARRAYS, 5, seed, 0), 2))
      for seed in (0, 1)
    ]
    assert orders[0] != orders[1]


class TestPaddedBatches:
  @pytest.mark.parametrize('batch_size', [1, 3, 4, 5, 10, 12])
  def test_every_row_once_and_in_order(self, batch_size):
    seen, total = [], 0.0
    for batch, weight in task_lib.padded_batches(ARRAYS, batch_size):
      assert batch['id'].shape == weight.shape == (batch_size,)
      assert set(weight) <= {0.0, 1.0}
      seen += batch['id'][weight > 0].tolist()
      total += weight.sum()
    assert seen == list(range(10)) and total == 10

  def test_only_the_last_batch_is_filled_up(self):
    weights = [w.sum() for _, w in task_lib.padded_batches(ARRAYS, 4)]
    assert weights == [4, 4, 2]


@pytest.mark.parametrize('which', ['multisets', 'npz', 'clevr'])
def test_tasks_resume_their_batches(which, request):
  config = request.getfixturevalue(f'{which}_config')
  task = registry.build(config)
  whole = take(task.train_batches(0), 9)
  chex.assert_trees_all_equal(take(task.train_batches(4), 5), whole[4:])
  chex.assert_trees_all_equal(
    take(registry.build(config).train_batches(0), 9), whole
  )
  assert len(whole[0]['input']) == config.batch_size
  shapes = {b['input'].shape for b, _ in task.eval_batches()}
  assert len(shapes) == 1
