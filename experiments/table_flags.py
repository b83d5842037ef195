"""Flags that say which cells of which table, and with which seeds."""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

from absl import flags
import ml_collections

from experiments import command_line
from experiments import overrides
from idspn_jax import errors

TABLES = ('2', '3', '4', '5', '6', '7')
SETTING = flags.DEFINE_enum(
  'setting',
  'paper',
  ['paper', 'reduced'],
  'All but Tables 5 and 6: which setting.',
)
CELLS = flags.DEFINE_list(
  'cells',
  None,
  'Patterns of cells; default: all. Of Tables 3 and 7 those to train; by '
  'default all are shown and none is trained.',
)
SEEDS = flags.DEFINE_string(
  'seeds',
  None,
  'How many seeds, from 0; or the seeds themselves, like 4,7. Default: 3; of '
  'Tables 3, 5, 6 and 7: 1.',
)
STEPS = flags.DEFINE_integer(
  'steps', None, "Training steps instead of the setting's.", lower_bound=1
)
OVERRIDE = flags.DEFINE_multi_string(
  'override', [], 'KEY=VALUE of the config for all cells; repeatable.'
)
TOGETHER = flags.DEFINE_bool(
  'together', True, 'Seeds of a cell in one program, as far as memory allows.'
)

# What cells and seeds are made of.
_FIXED = {
  'clevr': (
    'seed',
    'task',
    'data.image_size',
    'data.max_objects',
    'model.name',
    'model.gradient',
    'model.momentum',
    'model.pool',
    'model.slots.coordinates',
    'model.slots.loss_at',
  ),
  'numbering': (
    'seed',
    'task',
    'model_name',
    'data.permute',
    'data.num_train',
    'data.num_classes',
  ),
  'multisets': (
    'seed',
    'task',
    'data.set_size',
    'data.set_dim',
    'model.iterations',
    'model.gradient',
    'model.momentum',
    'model.pool',
  ),
}


class Table(NamedTuple):
  """A table of the paper.

  Attributes:
    kind: 'numbering', 'multisets' or 'clevr'.
    cells: all its cells, in order.
    workdir: where its runs are by default.
    make_report: makes its report from `cells` and a `directory`.
  """

  kind: str
  cells: Sequence[Any]
  workdir: str
  make_report: Callable[..., Any]


def kind_of(table: str) -> str:
  """What a table's cells are: 'numbering', 'multisets' or 'clevr'."""
  return {'2': 'numbering', '4': 'numbering', '3': 'clevr', '7': 'clevr'}.get(
    table, 'multisets'
  )


def open_table(
  table: str, setting: str, restarts: Sequence[str] | None
) -> Table:
  """Reads a table's cells.

  Args:
    table: its number.
    setting: 'paper' or 'reduced'.
    restarts: numbers of starts, as texts; the table's own if None.

  Raises:
    UserError: if the table has no such setting, or a number is none.
  """
  make = {'numbering': _numbering, 'multisets': _multisets, 'clevr': _clevr}
  kind = kind_of(table)
  return Table(kind, *make[kind](int(table), setting, restarts))


def _starts(restarts, default):
  texts = default.split(',') if restarts is None else restarts
  return command_line.counts('restarts', texts, default, 1_000)


def _numbering(table, setting, restarts):
  """Cells, default directory of the runs, and a report's maker."""
  if restarts is not None:
    raise errors.UserError(
      '--restarts is not of Tables 2 and 4; leave it out, and evaluate their '
      'runs by experiments.evaluate --restarts.'
    )
  from configs import class_numbering
  from idspn_jax.studies import numbering_tables

  cells = numbering_tables.read_cells(
    table, class_numbering.get_config, setting
  )
  report = functools.partial(numbering_tables.Report, table)
  return cells, f'runs/numbering_{setting}', report


def _multisets(table, setting, restarts):
  """As `_numbering`."""
  from configs import random_multisets
  from idspn_jax.studies import multiset_tables

  if setting != 'paper':
    raise errors.UserError(
      f'--setting={setting} is not of Tables 5 and 6; for small sets '
      'choose cells: --cells=2x2/10/*.'
    )
  starts = _starts(restarts, '1,2,4,8')
  cells = multiset_tables.read_cells(table, random_multisets.get_config)
  report = functools.partial(multiset_tables.Report, table, starts=starts)
  return cells, 'runs/random_multisets', report


def _clevr(table, setting, restarts):
  """As `_numbering`."""
  from configs import clevr
  from idspn_jax.studies import clevr_tables

  cells = clevr_tables.read_cells(table, clevr.get_config, setting)
  report = functools.partial(
    clevr_tables.Report,
    table,
    setting=setting,
    starts=_starts(restarts, '1,4'),
  )
  return cells, f'runs/clevr/{clevr_tables.folder_of(setting)}', report


def seeds(default: str) -> list[int]:
  """The seeds of --seeds.

  Args:
    default: what the flag is if it is not given.

  Raises:
    UserError: if it is neither a number of seeds nor a list of them.
  """
  text = SEEDS.value or default
  try:
    given = [int(part) for part in text.split(',') if part.strip()]
  except ValueError:
    given = []
  found = given if ',' in text else [*range(given[0] if given else 0)]
  if not found or min(found) < 0 or len({*found}) < len(found):
    raise errors.UserError(
      f'--seeds={text}: give a positive number of seeds, or different seeds '
      'with commas, like 0,1,2 or 5,'
    )
  return found


def change(
  config: ml_collections.ConfigDict,
  texts: Sequence[str],
  fixed: Sequence[str],
) -> None:
  """Applies overrides and --steps to a cell's configuration.

  Args:
    config: is changed.
    texts: overrides like `model.hidden_dim=32`.
    fixed: keys that may not be set.

  Raises:
    UserError: if one does not fit.
  """
  overrides.apply(config, texts, fixed)
  if STEPS.value:
    if any(text.partition('=')[0] == 'steps' for text in texts):
      raise errors.UserError('--steps and --override=steps: give one of them.')
    config.steps = STEPS.value
    for name in ('eval_every', 'checkpoint_every', 'log_every'):
      config[name] = min(config[name], STEPS.value)


def config_of_cell(
  cell: Any, kind: str
) -> Callable[[int], ml_collections.ConfigDict]:
  """A cell's configuration, with --override and --steps, by seed."""

  @functools.cache
  def config_of(seed):
    config = cell.config(seed)
    change(config, OVERRIDE.value, _FIXED[kind])
    return config

  return config_of
