"""The form of an inner step, and how to write one for a single set."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from idspn_jax.solvers import energy as energy_lib

Projection = Callable[[jax.Array], jax.Array]


class Step(NamedTuple):
  """The inner optimisation as two pure functions.

  Attributes:
    init: `(inputs, y) -> state`.
    update: `(inputs, y, state) -> (y, state)`.
  """

  init: Callable[[energy_lib.Inputs, jax.Array], Any]
  update: Callable[[energy_lib.Inputs, jax.Array, Any], tuple[jax.Array, Any]]


def _per_set_axes(inputs):
  """`vmap` axes of the inputs: all but the parameters have one row per set."""
  return energy_lib.Inputs(
    None, *(None if a is None else 0 for a in inputs[1:])
  )


def one_set(energy: energy_lib.Energy) -> Callable:
  """Turns an energy of a batch into the energy of one set, a scalar."""

  def single(y, inputs):
    rows = jax.tree.map(lambda a: a[None], tuple(inputs[1:]))
    return energy(energy_lib.Inputs(inputs.params, *rows), y[None])[0]

  return single


def over_sets(fn: Callable, inputs: energy_lib.Inputs) -> Callable:
  """Maps `fn(inputs, y, state)` for one set over a batch of sets."""
  return jax.vmap(fn, in_axes=(_per_set_axes(inputs), 0, 0))
