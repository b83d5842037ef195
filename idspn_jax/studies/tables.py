"""Tables of results as data: cells, the paper's values beside measured ones."""

import abc
from collections.abc import Callable, Sequence
import fnmatch
import os
from typing import Any, NamedTuple

import ml_collections

from idspn_jax import errors
from idspn_jax.runs import files
from idspn_jax.runs import provenance


class Cell(NamedTuple):
  """One number of a table.

  Attributes:
    name: with slashes, like `4/idspn/640`; also its directory.
    config: the configuration for a seed.
    part: which part of the table it is in, the part's heading.
    row: the row's heading.
    column: the column's heading.
    mean: the paper's value.
    std: its standard deviation over seeds.
    seeds: over how many; None if the paper does not say.
  """

  name: str
  config: Callable[[int], ml_collections.ConfigDict]
  part: str
  row: str
  column: str
  mean: float
  std: float
  seeds: int | None = None


# More cells than that are not all named in an error.
_MOST_NAMES = 50


def select(cells: Sequence[Cell], patterns: Sequence[str] | None) -> list[Cell]:
  """Picks cells by patterns like `4/idspn/*`; a bare `idspn` means any cell
  with that part of a name.

  Args:
    cells: to pick from.
    patterns: the patterns; None for all cells.

  Raises:
    UserError: if there is no pattern, or one fits no cell.
  """
  if patterns is None:
    return list(cells)
  if not patterns:
    raise errors.UserError('--cells is empty; leave it out for all cells.')
  picked = set()
  for pattern in patterns:
    fitting = [cell.name for cell in cells if _fits(cell.name, pattern)]
    if not fitting:
      names = ', '.join(cell.name for cell in cells[:_MOST_NAMES])
      if left := len(cells[_MOST_NAMES:]):
        names += f' and {left} more (experiments.reproduce --list)'
      raise errors.UserError(f'--cells: {pattern!r} fits none of {names}.')
    picked.update(fitting)
  return [cell for cell in cells if cell.name in picked]


def _fits(name, pattern):
  if '/' in pattern:
    return fnmatch.fnmatchcase(name, pattern)
  return any(fnmatch.fnmatchcase(part, pattern) for part in name.split('/'))


def format_parts(
  cells: Sequence[Cell],
  paper: Callable[[Cell], str],
  here: Callable[[Cell], str],
  extra: Sequence[tuple[str, Callable[[Sequence[Cell]], str]]] = (),
) -> str:
  """Lays cells out as Markdown, one table per part.

  Args:
    cells: the cells, in the order of the table.
    paper: what to write of the paper's value.
    here: what to write of the measured value.
    extra: further columns after the rows' headings: a heading, and what to
      write for a row's cells.
  """
  parts = []
  for name in dict.fromkeys(cell.part for cell in cells):
    part = [cell for cell in cells if cell.part == name]
    columns = list(dict.fromkeys(cell.column for cell in part))
    head = ['Model', *(heading for heading, _ in extra)]
    for column in columns:
      head += [f'{column}: paper', 'here']
    lines = [head]
    for row in dict.fromkeys(cell.row for cell in part):
      own = {cell.column: cell for cell in part if cell.row == row}
      line = [row, *(write(list(own.values())) for _, write in extra)]
      for column in columns:
        cell = own.get(column)
        line += [paper(cell), here(cell)] if cell else ['', '']
      lines.append(line)
    parts.append(f'{name}\n\n{markdown(lines)}')
  return '\n\n'.join(parts)


def markdown(rows: Sequence[Sequence[str]]) -> str:
  """A Markdown table; the first row is its head."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  rows = [rows[0], ['-' * width for width in widths], *rows[1:]]
  lines = []
  for row in rows:
    padded = [t.ljust(w) for t, w in zip(row, widths, strict=True)]
    lines.append(f'| {" | ".join(padded)} |')
  return '\n'.join(lines)


# What a table's JSON repeats of a run's `result.json`.
RUN_KEYS = (
  'step',
  'diverged',
  'selected',
  'metrics',
  'parameters',
  'seconds_per_step',
  'vectorized_seeds',
  'device',
  'versions',
  'date',
)
_FORMER_NAMES = {'vectorized_seeds': 'seeds_in_lockstep'}


def run_entry(seed: int, result: dict[str, Any]) -> dict[str, Any]:
  """What a table's JSON says of one run."""
  entry = {'seed': seed}
  for key in RUN_KEYS:
    if key in result or _FORMER_NAMES.get(key) in result:
      entry[key] = result.get(key, result.get(_FORMER_NAMES.get(key)))
  return entry


def read_entries(path: str, table: int) -> dict[str, dict[str, Any]]:
  """Reads the cells of a table that `Report` has saved as JSON.

  Args:
    path: the file.
    table: the number it must be of.

  Returns:
    What the file says of every cell that has been run, by the cell's name.

  Raises:
    UserError: if there is no such file, or it is not of this table.
  """
  content = files.read_json(path)
  try:
    found, entries = content['table'], content['cells']
    entries = {str(one['cell']): one for one in entries}
    complete = all({'here', 'runs', 'config'} <= {*e} for e in entries.values())
  except (KeyError, TypeError):
    found, complete = None, False
  if not complete:
    raise errors.UserError(
      f'{path} is not a table that experiments.reproduce has saved: give its '
      'tableN.json.'
    )
  if found != table:
    raise errors.UserError(
      f'{path} is Table {found}, not {table}: set --table={found}.'
    )
  # A table of CLEVR has its missing cells too.
  return {name: entry for name, entry in entries.items() if entry['runs']}


class Report(abc.ABC):
  """A table that grows cell by cell, saved after each."""

  def __init__(self, table: int, cells: Sequence[Cell], directory: str):
    """Starts an empty table.

    Args:
      table: its number.
      cells: its cells.
      directory: where to save it; created.

    Raises:
      UserError: if the directory cannot be written to.
    """
    files.make_directory(directory, '--output')
    self._table = table
    self._cells = cells
    self._directory = directory
    self._entries: list[dict[str, Any]] = []
    stem = os.path.join(directory, f'table{table}')
    self.files = [f'{stem}.md', f'{stem}.json']

  def add_entry(self, entry: dict[str, Any]) -> None:
    """Adds a cell as a table's JSON has it (`read_entries`), and saves."""
    self._entries.append(entry)
    files.write_atomically(self.files[0], self.text() + '\n')
    content = {'table': self._table, 'cells': self._entries}
    files.write_json(self.files[1], {**content, **provenance.provenance()})

  @abc.abstractmethod
  def text(self) -> str:
    """The table so far, with a caption."""
