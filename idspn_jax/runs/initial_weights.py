"""Weights of a trained model as the start of another training."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import loading
from idspn_jax.runs import pretrained


def load(
  config: ml_collections.ConfigDict, fresh: Mapping[str, Any]
) -> dict[str, Any]:
  """Replaces fresh variables by those of a trained model.

  Args:
    config: the part `initial_weights` of a config, with a source.
    fresh: the variables of the model to train, by collection.

  Returns:
    Variables of the same structure and types.

  Raises:
    UserError: if there is no such model or part, or shapes differ.
  """
  source, part = config.source, tuple(filter(None, config.part.split('/')))
  if source in pretrained.names():
    run = pretrained.load_pretrained(source)
  else:
    run = loading.load_run(source)
  if part and _part(fresh['params'], part) is None:
    raise errors.UserError(
      f'config.initial_weights.part={config.part} is no part of the model; it '
      f'has {", ".join(sorted(fresh["params"]))}.'
    )
  out = {}
  for name, variables in fresh.items():
    given = run.variables.get(name, {})
    if part and (_part(variables, part) is None or _part(given, part) is None):
      if name == 'params':
        raise errors.UserError(
          f'config.initial_weights.part={config.part} is no part of {source}; '
          f'it has {", ".join(sorted(given))}.'
        )
      out[name] = variables
    else:
      found = _fitted(_part(given, part), _part(variables, part), config)
      out[name] = _replaced(variables, part, found)
  return out


def _part(tree, path):
  for name in path:
    if not isinstance(tree, Mapping) or name not in tree:
      return None
    tree = tree[name]
  return tree


def _replaced(tree, path, value):
  if not path:
    return value
  return {**tree, path[0]: _replaced(tree[path[0]], path[1:], value)}


def _shapes(tree):
  return {n: np.shape(leaf) for n, leaf in checkpoints.by_name(tree).items()}


def _fitted(given, wanted, config):
  """`given` in the types of `wanted`, whose shapes it must have."""
  there, here = _shapes(given), _shapes(wanted)
  for name in sorted(there | here):
    if there.get(name) != here.get(name):
      raise errors.UserError(
        f'config.initial_weights.source={config.source} does not fit the '
        f'model: {name} is {there.get(name, "missing")} there and '
        f'{here.get(name, "missing")} here. Take another source, set the '
        'sizes of config.model as there, or take a part of it.'
      )
  return jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), given, wanted)
