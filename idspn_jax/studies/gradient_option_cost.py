"""What a training step costs as a function of the modes' options."""

from collections.abc import Iterator, Sequence
import statistics
from typing import Any, NamedTuple

import ml_collections

from idspn_jax.studies import benchmarks
from idspn_jax.studies import gradient_settings
from idspn_jax.studies import tables
from idspn_jax.training import parallel as parallel_lib

Setting = gradient_settings.Setting


class Variant(NamedTuple):
  """A mode with options, inner steps and starts whose cost is measured.

  Attributes:
    varied: the option that differs from the other variants of that name.
    value: of that option.
    setting: the mode.
    iterations: inner steps T; None for the config's.
    starts: of every set in training.
  """

  varied: str
  value: int | float | str
  setting: Setting
  iterations: int | None = None
  starts: int = 1


def variants(iterations: int) -> Iterator[Variant]:
  """Every option at several values.

  Args:
    iterations: the config's T; twice and four times as many are tried too.
  """
  free = Setting('Jacobian-free', 'jacobian_free')
  unrolled = Setting('Unrolled', 'unrolled')
  for t in (iterations, 2 * iterations, 4 * iterations):
    for setting in (free, unrolled):
      yield Variant('inner steps T', t, setting, t)
  for gamma in (0.01, 1.0, 100.0):
    options = {'gamma': gamma, 'iterations': 10}
    setting = Setting('Regularised CG, 10 steps', 'regularized_cg', options)
    yield Variant('γ', gamma, setting)
  for steps in (1, 5, 20):
    setting = Setting('CG', 'cg', {'iterations': steps, 'tolerance': 0.0})
    yield Variant('CG iterations', steps, setting)
  for terms in (0, 5, 20, 50):
    setting = Setting('Neumann', 'neumann', {'terms': terms})
    yield Variant('Neumann terms', terms, setting)
  for scale in (0.3, 1.0):
    options = {'terms': 20, 'scale': scale}
    setting = Setting('Neumann, 20 terms', 'neumann', options)
    yield Variant('Neumann scale', scale, setting)
  for linearize_at in ('penultimate', 'final'):
    for label, mode in (('Jacobian-free', 'jacobian_free'), ('Dense', 'dense')):
      setting = Setting(label, mode, {'linearize_at': linearize_at})
      yield Variant('linearised at', linearize_at, setting)
  for starts in (1, 2, 4, 8):
    yield Variant('starts', starts, free, starts=starts)


def option_rows(
  config: ml_collections.ConfigDict,
  repeats: int,
  every: Sequence[Variant] | None = None,
) -> list[dict[str, Any]]:
  """Times whole training steps in turn, and reads off their memory.

  Args:
    config: of the task; its gradient mode, inner steps and starts are replaced.
    repeats: counted steps of each variant.
    every: what to measure; None for `variants`.

  Returns:
    A row per variant: what is `varied` and its `value`, the `setting`, `mode`,
    `options`, `iterations` and `starts`, `peak_bytes` by the compiler's count,
    the `seconds` of every step and their `median_seconds`.
  """
  if every is None:
    every = list(variants(config.model.iterations))
  rows, steps = [], []
  for variant in every:
    own = gradient_settings.with_setting(
      config, variant.setting, variant.iterations
    )
    own.model.restarts = variant.starts
    step = benchmarks.CompiledStep(own)
    steps.append(step)
    rows.append(
      {
        'varied': variant.varied,
        'value': variant.value,
        'setting': variant.setting.label,
        'mode': variant.setting.mode,
        'options': dict(variant.setting.options),
        'iterations': own.model.iterations,
        'starts': variant.starts,
        'peak_bytes': parallel_lib.peak_bytes(step.compiled),
      }
    )
  times = benchmarks.time_side_by_side(steps, repeats)
  for row, seconds in zip(rows, times, strict=True):
    row.update(seconds=seconds, median_seconds=statistics.median(seconds))
  return rows


def option_table(rows: Sequence[dict[str, Any]]) -> str:
  """Rows of `option_rows` as Markdown, a line per variant."""
  lines = [['option', 'value', 'mode', 'ms a step', 'MiB']]
  for row in rows:
    value = row['value']
    lines.append(
      [
        row['varied'],
        value if isinstance(value, str) else f'{value:g}',
        row['setting'],
        f'{1e3 * row["median_seconds"]:.1f}',
        f'{row["peak_bytes"] / 2**20:.2f}',
      ]
    )
  return tables.markdown(lines)
