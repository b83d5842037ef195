"""Bound Flax modules as pure functions of everything that they read.

The solvers differentiate `g(params, sets)` by an explicit argument, while a
module inside another one reads its variables from scopes: its own, and those
of modules that were made elsewhere and handed to it. Flax's lifting gathers
all of them, of every collection, and the random streams.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from flax import errors as flax_errors
from flax import linen as nn
from flax.core import lift
from flax.linen import transforms
import jax
import jax.numpy as jnp

Result = TypeVar('Result')
Apply = Callable[[Any, jax.Array], jax.Array]


def _call(module, x):
  return module(x)


def with_pure_module(
  module: nn.Module, use: Callable[[Apply, Any], Result]
) -> Result:
  """Calls `use(apply, variables)` with a bound module's pure function.

  `apply(variables, x)` calls the module. The variables are a pytree of all
  collections that the module and its submodules read, wherever these were
  made, and of the random streams. Every call of `apply` draws the same random
  numbers from a stream. No call changes a variable.

  Args:
    module: a module bound to a scope, with its parameters in place.
    use: what to do with the function, which is valid only inside.

  Returns:
    What `use` returns.

  Raises:
    ValueError: if the module updates a collection, or does not find one.
  """

  def transform(call, scopes):
    def packed(scope_fn, repack, variables, streams):
      del repack  # Nothing is written.

      def apply(params, x):
        inner = scope_fn(*params)
        for scope in inner:
          # Flax counts draws; counted from zero, every call draws the same.
          scope.rng_counters = dict.fromkeys(scope.rngs, 0)
        return jnp.asarray(_explained(call, inner, x, module))

      return use(apply, (variables, streams)), ()

    return lift.pack(packed, (True,), (), (True,))(scopes)

  return transforms.lift_direct_transform(transform, (_call,), module)


def _explained(call, scopes, x, module):
  """Calls the module; turns what Flax refuses here into a remedy."""
  name = type(module).__name__
  try:
    return call(scopes, x)
  except flax_errors.ModifyScopeVariableError as e:
    raise ValueError(
      f'{name} updates a variable while sets are decoded, which runs it many '
      'times a step and must not change it. Take running averages, '
      'nn.BatchNorm(use_running_average=True), or a layer without state, such '
      f'as nn.LayerNorm. Flax says: {e}'
    ) from e
  except flax_errors.ScopeCollectionNotFound as e:
    raise ValueError(
      f'{name} lacks a collection of variables. Give apply all collections '
      "that init returned, {'params': …, …}, not the parameters alone. Flax "
      f'says: {e}'
    ) from e
