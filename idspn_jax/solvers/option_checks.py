"""Checks of numbers given as options, at construction.

Each returns the option as a plain Python number, so that options given as
NumPy scalars compare and hash as their values do.
"""

import math
import operator

import numpy as np


def _refusal(name, wanted, value):
  return ValueError(f'{name} must be {wanted}; got {value!r}.')


def flag(name: str, value: bool) -> bool:
  """Returns a boolean option; raises ValueError for anything else."""
  if not isinstance(value, bool | np.bool_):
    raise _refusal(name, 'True or False', value)
  return bool(value)


def integer(name: str, value: int, least: int) -> int:
  """Checks an option that counts something.

  Args:
    name: the option, for the message.
    value: an int or a NumPy integer; booleans and floats are refused.
    least: smallest value allowed.

  Returns:
    The value as an int.

  Raises:
    ValueError: if it is anything else; says what is wanted.
  """
  wanted = f'an integer of at least {least}'
  if isinstance(value, bool) or not isinstance(value, int | np.integer):
    raise _refusal(name, wanted, value)
  if value < least:
    raise _refusal(name, wanted, value)
  return operator.index(value)


def number(name: str, value: float, *, positive: bool) -> float:
  """Checks an option that is a real number.

  Args:
    name: the option, for the message.
    value: a Python or NumPy number; booleans, strings and arrays are refused,
      and so are infinity and NaN.
    positive: whether it must be more than 0; otherwise 0 is allowed too.

  Returns:
    The value as a Python number.

  Raises:
    ValueError: if it is anything else; says what is wanted.
  """
  wanted = 'a finite number ' + ('above 0' if positive else 'of at least 0')
  kinds = int | float | np.integer | np.floating
  if isinstance(value, bool) or not isinstance(value, kinds):
    raise _refusal(name, wanted, value)
  plain = value.item() if isinstance(value, np.generic) else value
  try:
    finite = math.isfinite(plain)
  except OverflowError:  # An int beyond the range of floats.
    finite = False
  if not finite or plain < 0 or (positive and plain == 0):
    raise _refusal(name, wanted, value)
  return plain
