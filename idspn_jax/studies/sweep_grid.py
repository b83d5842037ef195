"""Grids of settings: every combination of some values is a cell of a sweep."""

from collections.abc import Callable
import hashlib
import itertools
import re
from typing import NamedTuple
import urllib.parse

import ml_collections

from idspn_jax import errors

_EXAMPLE = "like --grid='model.momentum=0,0.9;seed=0..7'"
_RANGE = re.compile(r'(-?\d{1,9})\.\.(-?\d{1,9})')
_NAME = re.compile(r':?[A-Za-z_]\w*(\.[A-Za-z_]\w*)*')
_LONGEST_NAME = 150
MOST_CELLS = 100_000


class Axis(NamedTuple):
  """One setting and its values.

  Attributes:
    name: a key of the config, like `model.momentum`; with a colon in front,
      like `:n`, an argument of the config file.
    values: as texts.
  """

  name: str
  values: tuple[str, ...]


class Grid(NamedTuple):
  """The axes of a grid.

  Attributes:
    axes: all but the seeds.
    seeds: the values of `seed`; None if the grid does not say.
  """

  axes: tuple[Axis, ...]
  seeds: tuple[int, ...] | None


class Cell(NamedTuple):
  """One combination of values.

  Attributes:
    name: like `model.momentum=0.9`; also its directory.
    config: the configuration for a seed.
  """

  name: str
  config: Callable[[int], ml_collections.ConfigDict]


def parse(text: str) -> Grid:
  """Reads a grid like `model.momentum=0,0.9;:n=2,4;seed=0..7`.

  Axes are separated by semicolons, values by commas outside brackets; `a..b`
  are the integers from a to b.

  Args:
    text: the grid.

  Raises:
    UserError: naming the axis that is wrong.
  """
  axes, seeds = [], None
  for part in filter(None, (part.strip() for part in text.split(';'))):
    name, equals, values = part.partition('=')
    name = name.strip()
    if not equals or not _NAME.fullmatch(name):
      raise errors.UserError(
        f'--grid: {part!r} is no setting with values; write it {_EXAMPLE}.'
      )
    axis = Axis(name, _values(part, values))
    if name == ':seed':
      raise errors.UserError(
        f'--grid: {part!r} would train one seed in every cell; write seed='
        f'{values.strip()}, without the colon.'
      )
    if name == 'seed':
      if seeds is not None:
        raise errors.UserError('--grid: seed is given twice.')
      seeds = _seeds(axis)
    elif name in (other.name for other in axes):
      raise errors.UserError(f'--grid: {name} is given twice.')
    else:
      axes.append(axis)
  if not axes and seeds is None:
    raise errors.UserError(f'--grid={text!r} has no setting; write {_EXAMPLE}.')
  count = 1
  for axis in axes:
    count *= len(axis.values)
    if count > MOST_CELLS:
      raise errors.UserError(
        f'--grid has more than {MOST_CELLS:,} cells; leave some values out.'
      )
  return Grid(tuple(axes), seeds)


def _values(part, text):
  found = []
  for value in _split(text):
    if match := _RANGE.fullmatch(value):
      low, high = int(match[1]), int(match[2])
      if not 0 <= high - low < MOST_CELLS:
        raise errors.UserError(
          f'--grid: {value} in {part!r} is no range; the smaller number comes '
          f'first, and it has at most {MOST_CELLS:,}.'
        )
      found += map(str, range(low, high + 1))
    else:
      found.append(value)
  if '' in found:
    raise errors.UserError(
      f'--grid: {part!r} has an empty value; write it {_EXAMPLE}.'
    )
  if len({*found}) < len(found):
    raise errors.UserError(f'--grid: {part!r} has a value twice.')
  return tuple(found)


def _split(text):
  """Splits at commas that are in no brackets."""
  parts, depth = [''], 0
  for character in text:
    depth += (character in '[(') - (character in '])')
    if character == ',' and depth == 0:
      parts.append('')
    else:
      parts[-1] += character
  return [part.strip() for part in parts]


def _seeds(axis):
  try:
    seeds = tuple(int(value) for value in axis.values)
  except ValueError:
    seeds = (-1,)
  if min(seeds) < 0:
    raise errors.UserError(
      f'--grid: seeds are integers from 0; got {",".join(axis.values)}.'
    )
  if len({*seeds}) < len(seeds):
    raise errors.UserError(
      f'--grid: a seed is given twice: {",".join(axis.values)}.'
    )
  return seeds


def expand(
  grid: Grid,
  config_of: Callable[
    [dict[str, str], list[str], int], ml_collections.ConfigDict
  ],
) -> list[Cell]:
  """The grid's cells, the last axis running fastest.

  Args:
    grid: the grid.
    config_of: makes a configuration from arguments of the config file,
      overrides like `model.momentum=0.9`, and a seed.
  """
  found = []
  for values in itertools.product(*(axis.values for axis in grid.axes)):
    pairs = [
      (axis.name, value) for axis, value in zip(grid.axes, values, strict=True)
    ]
    arguments = {name[1:]: value for name, value in pairs if name[0] == ':'}
    keys = [f'{name}={value}' for name, value in pairs if name[0] != ':']

    def config(seed, arguments=arguments, keys=keys):
      return config_of(arguments, keys, seed)

    found.append(Cell(_name(pairs), config))
  return found


def _name(pairs):
  """A directory's name; a long one ends in a digest of all of it."""
  text = ','.join(f'{name.lstrip(":")}={value}' for name, value in pairs)
  name = urllib.parse.quote(text, safe='=,+[]()') or 'all'
  if len(name) > _LONGEST_NAME:
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    name = f'{name[: _LONGEST_NAME - 13]}-{digest}'
  return name
