"""Cells of a table of results: one experiment under several seeds."""

from collections.abc import Callable, Sequence
import json
import math
import os
from typing import Any

import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.runs import config as config_lib
from idspn_jax.runs import directory as directory_lib
from idspn_jax.training import loop


def seed_directory(directory: str, seed: int) -> str:
  """Where a cell's run with this seed lives."""
  return os.path.join(directory, f'seed{seed}')


def _finished(config, workdir):
  """The result of a run that needs no further step, or None.

  A diverged run would only diverge again.
  """
  result = directory_lib.read_result(workdir)
  if result is None:
    return None
  config = config_lib.inherit(config, result['config'])
  directory_lib.check_same(result['config'], config, workdir)
  diverged = result['diverged'] and result['config']['steps'] == config.steps
  return result if diverged or result['step'] == config.steps else None


def finished(
  config_of: Callable[[int], ml_collections.ConfigDict],
  seeds: Sequence[int],
  directory: str,
) -> dict[int, dict[str, Any]]:
  """Reads the results of those seeds of a cell that need no training.

  Args and errors are those of `train`.
  """
  found = {
    seed: _finished(config_of(seed), seed_directory(directory, seed))
    for seed in seeds
  }
  return {seed: result for seed, result in found.items() if result is not None}


def check(
  config_of: Callable[[int], ml_collections.ConfigDict],
  seeds: Sequence[int],
  directory: str,
) -> None:
  """Refuses what `train` would refuse in the seeds' directories.

  Args are those of `train`.

  Raises:
    UserError: if a config is impossible, or a run there has another one.
  """
  for seed in seeds:
    config = config_of(seed)
    config_lib.check(config)
    workdir = seed_directory(directory, seed)
    directory_lib.check(config, workdir)
    _finished(config, workdir)


def check_recorded(
  config_of: Callable[[int], ml_collections.ConfigDict],
  entry: dict[str, Any],
  path: str,
) -> None:
  """Refuses a recorded cell that was trained with other settings.

  Args:
    config_of: the configuration for a seed.
    entry: of `tables.read_entries`.
    path: the table's file, for the message.

  Raises:
    UserError: naming the settings that differ.
  """
  stored = entry['config']
  config = config_lib.inherit(config_of(stored['seed']), stored)
  old, new = config_lib.complete(stored), json.loads(config.to_json())
  changed = config_lib.differences(old, new)
  if old['steps'] != new['steps'] and not changed:
    changed = [f'steps: {old["steps"]} -> {new["steps"]}']
  if changed:
    raise errors.UserError(
      f'{path} has {entry["cell"]} with other settings '
      f'({"; ".join(changed)}); ask for the same ones, or leave the cell out.'
    )


def train(
  config_of: Callable[[int], ml_collections.ConfigDict],
  seeds: Sequence[int],
  directory: str,
  together: bool = True,
) -> dict[int, dict[str, Any]]:
  """Trains a cell's seeds; runs that have finished are only read.

  Args:
    config_of: the configuration for a seed.
    seeds: the seeds.
    directory: of the cell; each seed gets a directory inside.
    together: advance all seeds in one compiled program, as many as fit into
      the memory; else one after another.

  Returns:
    Every seed's `result.json`.

  Raises:
    UserError: if a run there has another config, or a config does not fit.
    Interrupted: if a signal asked to stop; the states are saved.
  """
  configs = {seed: config_of(seed) for seed in seeds}
  results = finished(config_of, seeds, directory)
  left = [seed for seed in configs if seed not in results]
  groups = [left] if together else [[seed] for seed in left]
  for group in filter(None, groups):
    found = loop.train_seeds(
      [configs[seed] for seed in group],
      [seed_directory(directory, seed) for seed in group],
    )
    results.update(zip(group, found, strict=True))
  return {seed: results[seed] for seed in seeds}


def summarize(
  results: Sequence[dict[str, Any]], metric: str, lost: float | None = None
) -> dict[str, Any]:
  """Mean and standard deviation of a metric over seeds; all seeds count.

  Args:
    results: contents of `result.json`.
    metric: which metric.
    lost: what a diverged run without test metrics counts as; None leaves it
      out of mean and standard deviation.

  Returns:
    `mean` and sample standard deviation `std` (None where there are too few
    values), the number of `seeds`, how many of them `diverged`, `values`.
  """
  values = [result['metrics'].get(metric) for result in results]
  # JSON has no NaN: a result read back says None.
  values = [
    lost if value is None or math.isnan(value) else value for value in values
  ]
  known = [value for value in values if value is not None]
  return {
    'mean': float(np.mean(known)) if known else None,
    'std': float(np.std(known, ddof=1)) if len(known) > 1 else None,
    'seeds': len(values),
    'diverged': sum(bool(result['diverged']) for result in results),
    'values': values,
  }
