"""Checks of options, which are known before anything is traced.

Each returns the option as a plain Python number, so that options given as
NumPy scalars compare, hash and promote as their values do.
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def _refuse(name, wanted, value):
  if isinstance(value, jax.core.Tracer):
    raise ValueError(
      f'{name} must be known before tracing and cannot be learned; got a '
      f'traced value, {value}. Give a Python number.'
    )
  raise ValueError(f'{name} must {wanted}; got {value!r}.')


def _plain(value):
  """A Python scalar for any concrete scalar, else the value itself."""
  if isinstance(value, jax.core.Tracer):
    return value
  if isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0:
    return np.asarray(value).item()
  return value


def store(options: Any, **checked: Any) -> None:
  """Replaces attributes of a frozen dataclass by their checked values."""
  for name, value in checked.items():
    object.__setattr__(options, name, value)


def flag(name: str, value: Any) -> bool:
  """Returns a boolean option; raises ValueError for anything else."""
  plain = _plain(value)
  if not isinstance(plain, bool):
    _refuse(name, 'be True or False', value)
  return plain


def integer(name: str, value: Any, least: int) -> int:
  """Checks an option that counts something.

  Args:
    name: the option, for the message.
    value: any integer, also of NumPy; booleans and floats are refused.
    least: smallest value allowed.

  Returns:
    The value as an int.

  Raises:
    ValueError: if it is anything else, or traced; says what is wanted.
  """
  plain = _plain(value)
  wanted = f'be an integer of at least {least}'
  if isinstance(plain, bool | jax.core.Tracer):
    _refuse(name, wanted, value)
  try:
    plain = operator.index(plain)
  except TypeError:
    _refuse(name, wanted, value)
  if plain < least:
    _refuse(name, wanted, value)
  return plain


def number(name: str, value: Any, *, positive: bool) -> float:
  """Checks an option that is a real number.

  Args:
    name: the option, for the message.
    value: a Python or NumPy number; booleans, strings and arrays of several
      numbers are refused, and so are infinity and NaN.
    positive: whether it must be more than 0; otherwise 0 is allowed too.

  Returns:
    The value as a Python number.

  Raises:
    ValueError: if it is anything else, or traced; says what is wanted.
  """
  plain = _plain(value)
  wanted = (
    'be positive, a finite number above 0'
    if positive
    else 'not be negative, but a finite number of at least 0'
  )
  if isinstance(plain, bool) or not isinstance(plain, int | float):
    _refuse(name, wanted, value)
  in_range = plain > 0 if positive else plain >= 0
  if not in_range or plain > np.finfo(np.float64).max:
    _refuse(name, wanted, value)
  return plain


def fraction(name: str, value: Any, *, with_zero: bool) -> float:
  """Checks an option that is less than 1.

  Args:
    name: the option, for the message.
    value: a Python or NumPy number.
    with_zero: whether 0 is allowed.

  Returns:
    The value as a Python number.

  Raises:
    ValueError: if it is not in `[0, 1)` (without zero, in `(0, 1)`).
  """
  plain = _plain(value)
  wanted = 'be in [0, 1)' if with_zero else 'be in (0, 1)'
  if isinstance(plain, bool) or not isinstance(plain, int | float):
    _refuse(name, wanted, value)
  if not (0 < plain < 1 or (with_zero and plain == 0)):
    _refuse(name, wanted, value)
  return plain


def float_type(name: str, value: Any) -> np.dtype | None:
  """Checks an option that is the type to compute in.

  Args:
    name: the option, for the message.
    value: a floating-point type or its name, or None.

  Returns:
    The dtype, or None.

  Raises:
    ValueError: if it is no floating-point type.
  """
  if value is None:
    return None
  try:
    dtype = jnp.dtype(value)
  except TypeError:
    pass
  else:
    if jnp.issubdtype(dtype, jnp.floating):
      return dtype
  _refuse(name, 'be a floating-point type such as bfloat16', value)
