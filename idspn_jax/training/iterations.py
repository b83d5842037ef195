"""Numbers of inner steps, and of starts, that change during training.

`config.iterations_schedule` is one of

    ''                  model.iterations throughout
    '20,40@0.5'         20 at first, 40 from half of the training on
    'linear:10-40'      from 10 to 40 in equal shares of the training
    'random:10-40'      drawn anew for every step, uniformly

and so is `config.restarts_schedule`, of `model.restarts`.
"""

from collections.abc import Callable, Mapping
import re
from typing import NamedTuple

import ml_collections

from idspn_jax import errors
from idspn_jax.data import streams


class _Kind(NamedTuple):
  """What is scheduled: its stream of random numbers, and words for errors."""

  setting: str
  stream: int
  noun: str
  examples: tuple[str, str, str]
  own: str


_ITERATIONS = _Kind(
  'iterations_schedule',
  5,
  'inner steps',
  ('20,40@0.5', 'linear:10-40', 'random:10-40'),
  'model.iterations',
)
_RESTARTS = _Kind(
  'restarts_schedule',
  6,
  'starts',
  ('1,4@0.5', 'linear:1-4', 'random:1-4'),
  'model.restarts',
)


class Options(NamedTuple):
  """What a training step asks of the decoder; None for the model's own.

  Attributes:
    iterations: number of inner steps.
    restarts: number of starts.
  """

  iterations: int | None = None
  restarts: int | None = None


def _range(text, value, kind):
  found = re.fullmatch(r'(\d+)-(\d+)', text)
  low, high = map(int, found.groups()) if found else (0, 0)
  if not 1 <= low <= high:
    raise _error(value, kind)
  return low, high


def _error(value, kind):
  pieces, linear, drawn = map(repr, kind.examples)
  return errors.UserError(
    f'config.{kind.setting} is {value!r}; write {kind.noun} with the share of '
    f'the training from which they hold, like {pieces}, or {linear}, {drawn}, '
    f'or nothing for {kind.own}.'
  )


def _pieces(value, kind):
  """Pairs (share, count) of `20,40@0.5`, in order."""
  pieces = []
  for part in value.split(','):
    found = re.fullmatch(r'(\d+)(?:@(\d*\.?\d+))?', part.strip())
    if not found or int(found[1]) < 1:
      raise _error(value, kind)
    pieces.append((float(found[2] or 0.0), int(found[1])))
  shares = [share for share, _ in pieces]
  in_order = all(a < b for a, b in zip(shares, shares[1:], strict=False))
  if shares[0] != 0 or not in_order or shares[-1] >= 1:
    raise _error(value, kind)
  return pieces


class Schedule:
  """How many inner steps and starts each training step takes.

  Attributes:
    counts: all numbers of inner steps that occur, ascending; `(None,)` stands
      for the model's own.
    restart_counts: likewise of starts.
  """

  def __init__(self, config: ml_collections.ConfigDict, iterates: bool = True):
    """Parses the settings.

    Args:
      config: a complete configuration.
      iterates: whether the task has inner steps at all.

    Raises:
      UserError: if one is of another form, or the task has no inner steps or
        its model no starts.
    """
    texts = {}
    for kind in (_ITERATIONS, _RESTARTS):
      text = texts[kind] = config[kind.setting].strip()
      if text and not iterates:
        raise errors.UserError(
          f'config.{kind.setting}={text!r}: this model has no inner steps.'
        )
    if texts[_RESTARTS] and 'restart_scale' not in config.get('model', {}):
      raise errors.UserError(
        f'config.restarts_schedule={texts[_RESTARTS]!r}: the config of this '
        'model has no restart_scale; leave the schedule out.'
      )
    self.counts, self._iterations = _parse(texts, _ITERATIONS, config.steps)
    self.restart_counts, self._restarts = _parse(texts, _RESTARTS, config.steps)

  @property
  def largest(self) -> Options:
    """The options that take most memory."""
    return Options(self.counts[-1], self.restart_counts[-1])

  def __call__(self, step: int) -> Options:
    """The options of a training step, counted from 0."""
    return Options(self._iterations(step), self._restarts(step))


def _parse(
  texts: Mapping[_Kind, str], kind: _Kind, steps: int
) -> tuple[tuple[int | None, ...], Callable[[int], int | None]]:
  value = texts[kind]
  if not value:
    return (None,), lambda step: None
  form, _, rest = value.partition(':')
  if form == 'linear':
    low, high = _range(rest, value, kind)
    span = high - low + 1
    at = lambda step: low + min(step * span // steps, span - 1)  # noqa: E731
    return tuple(range(low, high + 1)), at
  if form == 'random':
    low, high = _range(rest, value, kind)

    def drawn(step):
      # The same for all seeds, which may share one compiled program.
      return int(streams.stream(0, kind.stream, step).integers(low, high + 1))

    return tuple(range(low, high + 1)), drawn
  pieces = _pieces(value, kind)

  def piecewise(step):
    return [t for share, t in pieces if step >= share * steps][-1]

  return tuple(sorted({t for _, t in pieces})), piecewise
