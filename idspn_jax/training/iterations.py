"""Numbers of inner steps that change during training.

`config.iterations_schedule` is one of

    ''                  model.iterations throughout
    '20,40@0.5'         20 at first, 40 from half of the training on
    'linear:10-40'      from 10 to 40 in equal shares of the training
    'random:10-40'      drawn anew for every step, uniformly
"""

from collections.abc import Callable
import re

import ml_collections

from idspn_jax import errors
from idspn_jax.data import streams

_STREAM = 5


def _range(text, value):
  found = re.fullmatch(r'(\d+)-(\d+)', text)
  low, high = map(int, found.groups()) if found else (0, 0)
  if not 1 <= low <= high:
    raise _error(value)
  return low, high


def _error(value):
  return errors.UserError(
    f'config.iterations_schedule is {value!r}; write inner steps with the '
    "share of the training from which they hold, like '20,40@0.5', or "
    "'linear:10-40', 'random:10-40', or nothing for model.iterations."
  )


def _pieces(value):
  """Pairs (share, T) of `20,40@0.5`, in order."""
  pieces = []
  for part in value.split(','):
    found = re.fullmatch(r'(\d+)(?:@(\d*\.?\d+))?', part.strip())
    if not found or int(found[1]) < 1:
      raise _error(value)
    pieces.append((float(found[2] or 0.0), int(found[1])))
  shares = [share for share, _ in pieces]
  in_order = all(a < b for a, b in zip(shares, shares[1:], strict=False))
  if shares[0] != 0 or not in_order or shares[-1] >= 1:
    raise _error(value)
  return pieces


class Schedule:
  """How many inner steps each training step takes.

  Attributes:
    counts: all numbers that occur, ascending; `(None,)` stands for the
      model's own.
  """

  def __init__(self, config: ml_collections.ConfigDict, iterates: bool = True):
    """Parses the setting.

    Args:
      config: a complete configuration.
      iterates: whether the task has inner steps at all.

    Raises:
      UserError: if it is of another form, or the task has no inner steps.
    """
    value = config.iterations_schedule.strip()
    if value and not iterates:
      raise errors.UserError(
        f'config.iterations_schedule={value!r}: this model has no inner steps.'
      )
    self.counts, self._at = _parse(value, config.steps)

  def __call__(self, step: int) -> int | None:
    """The number of inner steps of a training step, counted from 0."""
    return self._at(step)


def _parse(
  value: str, steps: int
) -> tuple[tuple[int | None, ...], Callable[[int], int | None]]:
  if not value:
    return (None,), lambda step: None
  kind, _, rest = value.partition(':')
  if kind == 'linear':
    low, high = _range(rest, value)
    span = high - low + 1
    at = lambda step: low + min(step * span // steps, span - 1)  # noqa: E731
    return tuple(range(low, high + 1)), at
  if kind == 'random':
    low, high = _range(rest, value)

    def drawn(step):
      # The same for all seeds, which may share one compiled program.
      return int(streams.stream(0, _STREAM, step).integers(low, high + 1))

    return tuple(range(low, high + 1)), drawn
  pieces = _pieces(value)

  def piecewise(step):
    return [t for share, t in pieces if step >= share * steps][-1]

  return tuple(sorted({t for _, t in pieces})), piecewise
