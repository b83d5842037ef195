"""What a training step costs under every gradient mode: time and memory."""

from collections.abc import Callable, Sequence
import statistics
from typing import Any

import ml_collections

from idspn_jax.studies import benchmarks
from idspn_jax.studies import gradient_settings
from idspn_jax.training import parallel as parallel_lib

# How many times as many inner steps the memory is measured at too.
MORE = 4


def cost_rows(
  config: ml_collections.ConfigDict,
  repeats: int,
  settings: Sequence[gradient_settings.Setting] = gradient_settings.SETTINGS,
  progress: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
  """Times whole training steps in turn, and reads off their memory.

  Args:
    config: of the task; its gradient mode and inner steps are replaced.
    repeats: counted steps of each mode.
    settings: the modes.
    progress: called with every row, before its times are known.

  Returns:
    A row per mode and number of inner steps T (the config's, and `MORE` times
    as many): `peak_bytes` by the compiler's count, and at the config's T the
    `seconds` of every step and their `median_seconds`.
  """
  rows, steps = [], []
  t = config.model.iterations
  for setting in settings:
    for count in (t, MORE * t):
      own = gradient_settings.with_setting(config, setting, count)
      step = benchmarks.CompiledStep(own)
      row = {
        'setting': setting.label,
        'mode': setting.mode,
        'options': dict(setting.options),
        'iterations': count,
        'peak_bytes': parallel_lib.peak_bytes(step.compiled),
      }
      rows.append(row)
      progress(row)
      if count == t:
        steps.append((row, step))
  times = benchmarks.time_side_by_side([step for _, step in steps], repeats)
  for (row, _), seconds in zip(steps, times, strict=True):
    row.update(seconds=seconds, median_seconds=statistics.median(seconds))
  return rows
