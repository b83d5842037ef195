"""Checks of settings that a user gives, with errors that name the remedy."""

from collections.abc import Iterable
import math
import sys
from typing import Any

from idspn_jax import errors


def integer(value: Any, name: str, least: int = 1) -> None:
  """Refuses what is not an integer of at least `least`.

  Raises:
    UserError: naming the setting and its value.
  """
  right = isinstance(value, int) and not isinstance(value, bool)
  if not right or value < least:
    kind = {0: 'an integer of at least 0', 1: 'a positive integer'}.get(
      least, f'an integer of at least {least}'
    )
    raise errors.UserError(f'{name} must be {kind}; got {value!r}.')


def number(
  value: Any,
  name: str,
  *,
  least: float = -math.inf,
  most: float = math.inf,
  positive: bool = False,
) -> None:
  """Refuses what is not a finite number within bounds.

  Args:
    value: the setting's value.
    name: the setting.
    least: smallest value allowed.
    most: largest value allowed.
    positive: refuse zero and below.

  Raises:
    UserError: naming the setting, its value and the bounds.
  """
  right = isinstance(value, int | float) and not isinstance(value, bool)
  # Integers may be larger than any float.
  if right and abs(value) <= sys.float_info.max:
    if least <= value <= most and not (positive and value <= 0):
      return
  if positive:
    kind = 'positive and finite'
  elif most < math.inf:
    kind = f'between {least:g} and {most:g}'
  elif least == 0:
    kind = 'finite and not negative'
  else:
    kind = 'a finite number'
  raise errors.UserError(f'{name} must be {kind}; got {value!r}.')


def choice(value: Any, name: str, choices: Iterable[str]) -> None:
  """Refuses values that are not among the choices.

  Raises:
    UserError: naming the setting, its value and the choices.
  """
  if value not in tuple(choices):
    raise errors.UserError(
      f'{name} is {value!r}; choose one of {", ".join(map(str, choices))}.'
    )


def boolean(value: Any, name: str) -> None:
  """Refuses what is neither True nor False.

  Raises:
    UserError: naming the setting and its value.
  """
  if not isinstance(value, bool):
    raise errors.UserError(f'{name} must be True or False; got {value!r}.')
