"""Rendering computes in float32, whatever precision the program has."""

from collections.abc import Callable
import functools
from typing import ParamSpec, TypeVar

import jax

_Arguments = ParamSpec('_Arguments')
_Result = TypeVar('_Result')


def in_float32(
  function: Callable[_Arguments, _Result],
) -> Callable[_Arguments, _Result]:
  """Lets a function draw and compute as if `jax_enable_x64` were off.

  So that the same key gives the same scenes and pictures in every program.
  """

  @functools.wraps(function)
  def wrapped(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
    with jax.enable_x64(False):
      return function(*args, **kwargs)

  return wrapped
