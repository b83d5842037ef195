"""Parameters of the paper's official PyTorch code, both directions.

The official state dictionaries name the parts of an autoencoder
`input_to_z.…`, `inner_obj.encoder.…` and `dspn._set_0`; Lightning checkpoints
prefix every name with `net.`. A PyTorch linear weight is `(out, in)`, a Flax
kernel `(in, out)`. This module needs NumPy only: pass PyTorch tensors through
`.numpy()` first.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

_ENCODERS = {
  'input_to_z': ('input_encoder',),
  'inner_obj.encoder': ('decoder', 'encoder'),
}
_LAYERS = {'mlp.0': 'hidden', 'mlp.2': 'output'}
_INITIAL_SET = ('dspn._set_0', ('decoder', 'initial_set'))
PREFIX = 'net.'


def _linear_rows():
  for official, ours in _ENCODERS.items():
    for layer, name in _LAYERS.items():
      yield f'{official}.{layer}.weight', (*ours, name, 'kernel'), 'transpose'
      yield f'{official}.{layer}.bias', (*ours, name, 'bias'), 'same'
    yield f'{official}.pool.weight', (*ours, 'pool', 'weight'), 'same'


def _table():
  """Rows of (official name, path in our parameters, how the array changes)."""
  return (*_linear_rows(), (*_INITIAL_SET, 'add batch axis'))


def _put(tree, path, value):
  for key in path[:-1]:
    tree = tree.setdefault(key, {})
  tree[path[-1]] = value


def _get(tree, path):
  for key in path:
    if not isinstance(tree, Mapping) or key not in tree:
      return None
    tree = tree[key]
  return tree


def _leaves(tree, path=()):
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from _leaves(value, (*path, key))
    else:
      yield (*path, key)


def from_official(state: Mapping[str, Any]) -> dict[str, Any]:
  """Converts an official state dictionary.

  Args:
    state: arrays by PyTorch name, with or without the prefix `net.`.

  Returns:
    Parameters of a `SetAutoencoder` (float arrays keep their precision).

  Raises:
    KeyError: if a name is not one of the official autoencoder's.
  """
  known = {name: (path, change) for name, path, change in _table()}
  params: dict[str, Any] = {}
  for name, value in state.items():
    short = name.removeprefix(PREFIX)
    if short not in known:
      raise KeyError(
        f'{name!r} is not a parameter of the official set autoencoder; known '
        f'names: {", ".join(sorted(known))}.'
      )
    path, change = known[short]
    array = np.asarray(value)
    if change == 'transpose':
      array = array.T
    elif change == 'add batch axis':
      array = array.reshape(array.shape[-2:])
    _put(params, path, array)
  return params


def to_official(
  params: Mapping[str, Any], prefix: str = ''
) -> dict[str, np.ndarray]:
  """Converts parameters of a `SetAutoencoder` to official names and shapes.

  Args:
    params: parameters, or gradients of the same structure.
    prefix: what to put before every name; `net.` for Lightning checkpoints.

  Returns:
    NumPy arrays by PyTorch name.

  Raises:
    KeyError: if a parameter has no official counterpart.
  """
  state = {}
  seen = set()
  for name, path, change in _table():
    value = _get(params, path)
    if value is None:
      continue
    seen.add(path)
    array = np.asarray(value)
    if change == 'transpose':
      array = array.T
    elif change == 'add batch axis':
      array = array[None]
    state[prefix + name] = array
  unknown = sorted('/'.join(p) for p in set(_leaves(params)) - seen)
  if unknown:
    raise KeyError(
      f'No official counterpart for the parameters {", ".join(unknown)}.'
    )
  return state
