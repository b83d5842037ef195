"""The live table of a sweep."""

from collections.abc import Sequence
import shutil
import sys
from typing import IO, NamedTuple

_OTHER_LINES = 6  # Of the terminal's height.


class Row(NamedTuple):
  """A trial's line.

  Attributes:
    name: of the trial.
    state: like `running`.
    step: how far its slowest seed is.
    steps: of how many.
    attempts: how many have been made.
    text: why the last one ended.
  """

  name: str
  state: str
  step: int
  steps: int
  attempts: int
  text: str


class Board:
  """Draws rows again and again in a terminal; elsewhere prints changes."""

  def __init__(self, file: IO[str] | None = None):
    """Draws to this file; to standard output if None."""
    self._file = file or sys.stdout
    self._live = self._file.isatty()
    self._drawn = 0
    self._states: dict[str, tuple[str, int]] = {}

  def draw(self, rows: Sequence[Row]) -> None:
    """Shows the rows."""
    if self._live:
      self._redraw(format_rows(rows, shutil.get_terminal_size()))
      return
    for row in rows:
      state = row.state, row.attempts
      if self._states.setdefault(row.name, ('waiting', 0)) != state:
        self._states[row.name] = state
        text = f': {row.text}' if row.text else ''
        self._file.write(
          f'{row.name}: {row.state}{_nth(row.attempts)}, step '
          f'{row.step} of {row.steps}{text}\n'
        )
    self._file.flush()

  def _redraw(self, lines):
    # Up to the first line of the last drawing; then every line anew.
    up = f'\x1b[{self._drawn}F' if self._drawn else ''
    body = ''.join(f'\x1b[2K{line}\n' for line in lines)
    self._file.write(f'{up}{body}\x1b[J')
    self._file.flush()
    self._drawn = len(lines)


def _nth(attempts):
  return f' (attempt {attempts})' if attempts > 1 else ''


def format_rows(
  rows: Sequence[Row], size: tuple[int, int] = (100, 40)
) -> list[str]:
  """The lines of the table: counts, and the rows that matter most.

  Args:
    rows: of all trials.
    size: columns and lines of the terminal.
  """
  columns, lines = size
  counts: dict[str, int] = {}
  for row in rows:
    counts[row.state] = counts.get(row.state, 0) + 1
  head = ', '.join(
    f'{count} {state}' for state, count in sorted(counts.items())
  )
  order = {'running': 0, 'waiting': 2, 'done': 3}
  ranked = sorted(rows, key=lambda row: order.get(row.state, 1))
  shown = ranked[: max(1, lines - _OTHER_LINES)]
  width = max((len(row.name) for row in shown), default=0)
  found = [f'{len(rows)} trials: {head}']
  for row in shown:
    text = f'{row.name:<{width}}  {row.state:<13} {row.step:>7,}/{row.steps:,}'
    found.append(f'{text}{_nth(row.attempts)}  {row.text}'.rstrip())
  if len(rows) > len(shown):
    found.append(f'and {len(rows) - len(shown)} more')
  return [line[: columns - 1] for line in found]
