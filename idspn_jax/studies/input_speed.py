"""How fast pictures arrive, beside how fast a training step uses them up."""

from collections.abc import Sequence
import statistics
import time
from typing import Any

import jax
import ml_collections

from idspn_jax.studies import benchmarks
from idspn_jax.tasks import clevr_pictures
from idspn_jax.tasks import clevr_sources


def pictures_per_second(
  config: ml_collections.ConfigDict,
  batch_size: int,
  workers: int,
  repeats: int = 10,
) -> float:
  """Reads training batches and puts them on the device.

  Args:
    config: the part `data` of a config of CLEVR pictures.
    batch_size: pictures per batch.
    workers: processes that load; of no effect with a cache.
    repeats: counted batches.

  Returns:
    Pictures a second, over all counted batches; starting workers, the first
    batches and those that were loaded ahead with them are not counted.

  Raises:
    UserError: if the data cannot be read.
  """
  source = clevr_sources.open_split(config, 'train')
  batches = clevr_pictures.TrainingBatches(
    source, config.image_size, min(batch_size, len(source)), seed=0
  )
  with batches.stream(0, workers) as stream:
    for _ in range(2 + 3 * workers):
      jax.block_until_ready(jax.device_put(next(stream)))
    start = time.perf_counter()
    for _ in range(repeats):
      jax.block_until_ready(jax.device_put(next(stream)))
    seconds = time.perf_counter() - start
  return repeats * batches.batch_size / seconds


def step_seconds(config: ml_collections.ConfigDict, repeats: int) -> float:
  """Median time of a training step; see `benchmarks.CompiledStep`."""
  step = benchmarks.CompiledStep(config)
  step.seconds()
  return statistics.median(step.seconds() for _ in range(repeats))


def input_rows(
  config: ml_collections.ConfigDict,
  batch_size: int,
  workers: Sequence[int],
  repeats: int,
) -> list[dict[str, Any]]:
  """Measures every way to read: without cache by number of workers, and cached.

  Args:
    config: the part `data` of a config of CLEVR pictures; `cache` and `workers`
      are replaced. Its cache is made if it is missing.
    batch_size: pictures per batch.
    workers: numbers of worker processes.
    repeats: counted batches.

  Returns:
    Rows with `source`, `workers` (None for the cache) and
    `pictures_per_second`.
  """
  ways = [(config.source, count) for count in workers] + [('cache', None)]
  rows = []
  for name, count in ways:
    one = ml_collections.ConfigDict(config.to_dict())
    one.cache = count is None
    # The cache is read many times as fast.
    counted = repeats if count is not None else 10 * repeats
    speed = pictures_per_second(one, batch_size, count or 0, counted)
    rows.append(
      {'source': name, 'workers': count, 'pictures_per_second': speed}
    )
  return rows
