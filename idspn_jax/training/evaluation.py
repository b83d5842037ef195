"""Evaluation of variables on held-out data, split over all devices."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax import errors
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import task as task_lib
from idspn_jax.training import hosts
from idspn_jax.training import parallel
from idspn_jax.training import seeds as seeds_lib
from idspn_jax.training import stopping

# Evaluation draws its own noise, the same at every step and for every model.
_STREAM = 3


def _padded(batch, multiple):
  """Repeats the last row until the rows divide; the mask is false there."""
  rows = len(batch['mask'])
  missing = -rows % multiple
  if not missing:
    return batch
  index = np.minimum(np.arange(rows + missing), rows - 1)
  out = {name: np.asarray(array)[index] for name, array in batch.items()}
  out['mask'] = np.concatenate([batch['mask'], np.zeros(missing, bool)])
  return out


def _first_nonfinite(rows, masks):
  """The first batch with a value that is not finite; of the loss if any."""
  for i, (own, mask) in enumerate(zip(rows, masks, strict=True)):
    values = own.get('loss', own)
    for value in jax.tree.leaves(values):
      if jnp.issubdtype(value.dtype, jnp.inexact):
        if not np.isfinite(value[mask]).all():
          return i
  return None


class Evaluator:
  """Evaluates on whole splits; compiles once per set of decoder options.

  Several seeds of one experiment are evaluated in one program.

  Attributes:
    nonfinite: of every seed in the last call, the number of the first batch
      with a loss that is not finite, from 0; None if there is none. Of tasks
      without a loss per example, with any such metric.
  """

  def __init__(
    self,
    task: task_lib.Task,
    data: Sequence[data_lib.Data],
    seeds: Sequence[int],
    stop: stopping.StopRequest | None = None,
  ):
    """Prepares the compiled metrics.

    Args:
      task: the task.
      data: the data of every seed.
      seeds: the seeds, for the noise of each.
      stop: looked at before every batch.
    """
    self.nonfinite: list[int | None] = [None] * len(seeds)
    self._task = task
    self._stop = stop
    self._data = data
    self._vectorized = seeds_lib.VectorizedSeeds(len(seeds))
    self._seeds = [np.uint32(seed) for seed in seeds]
    mesh = parallel.device_mesh()
    self._devices = mesh.size
    spec = jax.sharding.PartitionSpec
    everywhere = jax.sharding.NamedSharding(mesh, spec())
    axes = (parallel.BATCH_AXIS,)
    self._axis = 0 if len(seeds) == 1 else 1
    rows = spec(*axes) if len(seeds) == 1 else spec(None, *axes)
    self._by_row = jax.sharding.NamedSharding(mesh, rows)
    self._everywhere = everywhere

    def rows_of(variables, batch, seed, number, options):
      def one(variables, batch, seed):
        key = jax.random.fold_in(jax.random.key(seed), _STREAM)
        key = jax.random.fold_in(key, number)
        return task.evaluate(variables, batch, key, **dict(options))

      return self._vectorized.map(one)(variables, batch, seed)

    # Every process summarises all rows.
    out = {} if hosts.count() == 1 else {'out_shardings': everywhere}
    self._rows = jax.jit(rows_of, static_argnames='options', **out)

  def __call__(
    self, variables: Any, split: str = 'test', **decode_options: Any
  ) -> list[dict[str, float]]:
    """Evaluates once over all data of a split.

    Args:
      variables: of the model; those of several seeds stacked.
      split: which data, see `Data.evaluate`.
      **decode_options: hashable options of the decoder, such as `iterations`.

    Returns:
      What `Task.summarize` makes of all examples, for every seed.

    Raises:
      UserError: if there are no examples.
      Abandoned: if it was asked to stop.
    """
    options = tuple(sorted(decode_options.items()))
    variables = parallel.put_everywhere(variables, self._everywhere)
    rows: list[list[Any]] = [[] for _ in self._seeds]
    masks: list[list[np.ndarray]] = [[] for _ in self._seeds]
    streams = zip(*(data.evaluate(split) for data in self._data), strict=True)
    for i, batches in enumerate(streams):
      self._check_stop()
      batches = [_padded(batch, self._devices) for batch in batches]
      batch = self._vectorized.stack(batches)
      count = len(batches[0]['mask'])
      found = self._rows(
        variables,
        parallel.put_rows(batch, self._by_row, count, self._axis),
        self._vectorized.stack([np.asarray(seed) for seed in self._seeds]),
        np.int32(i),
        options=options,
      )
      found = self._vectorized.unstack(jax.device_get(found))
      for k, own in enumerate(found):
        rows[k].append(own)
        masks[k].append(np.asarray(batches[k]['mask'], bool))
    if not rows[0]:
      raise errors.UserError(f'There are no examples in the split {split!r}.')
    self.nonfinite = [*map(_first_nonfinite, rows, masks)]
    return [
      self._task.summarize(task_lib.stack_rows(own, mask))
      for own, mask in zip(rows, masks, strict=True)
    ]

  def _check_stop(self):
    if self._stop is not None:
      self._stop.agree()
      if self._stop.received:
        raise stopping.Abandoned
