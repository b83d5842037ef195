"""Parameters of the paper's official PyTorch code, both directions.

Autoencoder, DeepSets, BiLSTM and Transformers are told apart by the names in
the official state dictionaries; Lightning checkpoints prefix every name with
`net.`. A PyTorch linear weight is `(out, in)`, a Flax kernel `(in, out)`. This
module needs NumPy only: pass PyTorch tensors through `.numpy()` first.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

PREFIX = 'net.'
_LAYERS = 2  # Of the official LSTM, encoder and decoder.
_HEADS = 8


class _Change(NamedTuple):
  """How an official array becomes ours, and back."""

  ours: Callable[[np.ndarray], np.ndarray]
  official: Callable[[np.ndarray], np.ndarray]


class _Row(NamedTuple):
  """An official array, which holds the arrays at `paths` along its first axis.

  `added` says that it is added to what an earlier row has put there; the way
  back makes it zero.
  """

  name: str
  paths: tuple[tuple[str, ...], ...]
  change: _Change
  added: bool = False


_SAME = _Change(lambda a: a, lambda a: a)
_TRANSPOSE = _Change(lambda a: a.T, lambda a: a.T)
_BATCH_AXIS = _Change(lambda a: a.reshape(a.shape[-2:]), lambda a: a[None])
_SCALAR = _Change(lambda a: a.reshape(()), lambda a: a.reshape(1))
# Flax gives attention's arrays an axis for its heads.
_TO_HEADS = _Change(
  lambda a: a.T.reshape(a.shape[1], _HEADS, -1),
  lambda a: a.reshape(len(a), -1).T,
)
_FROM_HEADS = _Change(
  lambda a: a.T.reshape(_HEADS, -1, len(a)),
  lambda a: a.reshape(-1, a.shape[-1]).T,
)
_HEADS_BIAS = _Change(lambda a: a.reshape(_HEADS, -1), lambda a: a.reshape(-1))


def _linear(official, *ours):
  yield _Row(f'{official}.weight', ((*ours, 'kernel'),), _TRANSPOSE)
  yield _Row(f'{official}.bias', ((*ours, 'bias'),), _SAME)


def _norm(official, *ours):
  yield _Row(f'{official}.weight', ((*ours, 'scale'),), _SAME)
  yield _Row(f'{official}.bias', ((*ours, 'bias'),), _SAME)


def _autoencoder() -> Iterator[_Row]:
  for official, ours in (
    ('input_to_z', ('input_encoder',)),
    ('inner_obj.encoder', ('decoder', 'encoder')),
  ):
    yield from _linear(f'{official}.mlp.0', *ours, 'hidden')
    yield from _linear(f'{official}.mlp.2', *ours, 'output')
    yield _Row(f'{official}.pool.weight', ((*ours, 'pool', 'weight'),), _SAME)
  yield _Row('dspn._set_0', (('decoder', 'initial_set'),), _BATCH_AXIS)


def _deep_sets() -> Iterator[_Row]:
  for official, ours in (('ds.0', 'first'), ('ds.2', 'second')):
    yield from _linear(f'{official}.lin0', ours, 'own')
    yield from _linear(f'{official}.lin1', ours, 'mean')


def _lstm() -> Iterator[_Row]:
  yield from _linear('proj_in', 'input')
  yield from _linear('proj_out', 'output')
  for i in range(_LAYERS):
    for suffix, cell in (('', f'forward_{i}'), ('_reverse', f'backward_{i}')):
      end = f'l{i}{suffix}'
      for source in 'ih':
        paths = tuple((cell, source + gate, 'kernel') for gate in 'ifgo')
        yield _Row(f'rnn.weight_{source}h_{end}', paths, _TRANSPOSE)
      # PyTorch has two biases where one does.
      paths = tuple((cell, 'h' + gate, 'bias') for gate in 'ifgo')
      yield _Row(f'rnn.bias_ih_{end}', paths, _SAME)
      yield _Row(f'rnn.bias_hh_{end}', paths, _SAME, added=True)


def _attention(official, ours):
  parts = [(ours, 'attention', part) for part in ('query', 'key', 'value')]
  for name, key, change in (
    ('weight', 'kernel', _TO_HEADS),
    ('bias', 'bias', _HEADS_BIAS),
  ):
    paths = tuple((*part, key) for part in parts)
    yield _Row(f'{official}.in_proj_{name}', paths, change)
  out = ours, 'attention', 'out'
  yield _Row(f'{official}.out_proj.weight', ((*out, 'kernel'),), _FROM_HEADS)
  yield _Row(f'{official}.out_proj.bias', ((*out, 'bias'),), _SAME)


def _transformer() -> Iterator[_Row]:
  yield from _linear('proj_src', 'source')
  yield from _linear('proj_tgt', 'target')
  yield from _linear('proj_out', 'output')
  yield _Row('alpha', (('noise_mean',),), _SCALAR)
  yield _Row('beta', (('noise_log_scale',),), _SCALAR)
  for stack in ('encoder', 'decoder'):
    yield from _norm(f'transformer.{stack}.norm', f'{stack}_norm')
    for i in range(_LAYERS):
      official, ours = f'transformer.{stack}.layers.{i}', f'{stack}_{i}'
      parts = [('self_attn', f'{ours}_attention')]
      if stack == 'decoder':
        parts.append(('multihead_attn', f'{ours}_cross_attention'))
      for name, part in parts:
        yield from _attention(f'{official}.{name}', part)
      feed_forward = f'{ours}_feed_forward'
      yield from _linear(f'{official}.linear1', feed_forward, 'hidden')
      yield from _linear(f'{official}.linear2', feed_forward, 'output')
      normed = [part for _, part in parts] + [feed_forward]
      for k, part in enumerate(normed, 1):
        yield from _norm(f'{official}.norm{k}', part, 'norm')


# The models share only the rows of `proj_out`.
_TABLE = {
  row.name: row
  for model in (_autoencoder, _deep_sets, _lstm, _transformer)
  for row in model()
}
_NO_PARAMETERS = ('pe.pe',)  # The position encoding, a constant.


def _put(tree, path, value, added):
  for key in path[:-1]:
    tree = tree.setdefault(key, {})
  tree[path[-1]] = tree[path[-1]] + value if added else value


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
    Parameters of a `SetAutoencoder`, `EquivariantDeepSets`,
    `BidirectionalLSTM` or `SetTransformer` (float arrays keep their
    precision).

  Raises:
    KeyError: if a name is not one of the official models', or an LSTM's second
      bias comes without the first.
    ValueError: if an array has a shape that none of the models' has.
  """
  params: dict[str, Any] = {}
  given = {name.removeprefix(PREFIX): name for name in state}
  for short, name in given.items():
    if short not in _TABLE and short not in _NO_PARAMETERS:
      raise KeyError(
        f'{name!r} is not a parameter of the official models; known names: '
        f'{", ".join(sorted(_TABLE))}.'
      )
  for short, row in _TABLE.items():
    if short not in given:
      continue
    pieces = _converted(given[short], np.asarray(state[given[short]]), row)
    for path, piece in zip(row.paths, pieces, strict=True):
      first = _get(params, path)
      if row.added and first is None:
        raise KeyError(f'{given[short]!r} needs the first bias beside it.')
      if row.added and first.shape != piece.shape:
        raise ValueError(
          f'{given[short]!r} has another shape than the first bias.'
        )
      _put(params, path, piece, row.added)
  return params


def _converted(name, array, row):
  """The arrays at a row's paths; refuses what is no such array."""
  if array.dtype.kind in 'fiuV':  # V: bfloat16.
    try:
      pieces = np.split(array, len(row.paths)) if row.paths[1:] else [array]
      found = [row.change.ours(piece) for piece in pieces]
      back = [row.change.official(piece) for piece in found]
      if [a.shape for a in back] == [piece.shape for piece in pieces]:
        return found
    except (ValueError, IndexError, TypeError):  # Of NumPy: another shape.
      pass
  raise ValueError(
    f'{name!r} is {array.dtype} of shape {array.shape}, not an array that the '
    'official models have by this name.'
  )


def to_official(
  params: Mapping[str, Any], prefix: str = ''
) -> dict[str, np.ndarray]:
  """Converts parameters to official names and shapes.

  Args:
    params: parameters of one of the models of `from_official`, or gradients of
      the same structure. (Of an LSTM's two biases, the second becomes zero.)
    prefix: what to put before every name; `net.` for Lightning checkpoints.

  Returns:
    NumPy arrays by PyTorch name. What is constant is not among them: load those
    of the Transformer with position encoding by `strict=False`.

  Raises:
    KeyError: if a parameter has no official counterpart.
  """
  state = {}
  seen = set()
  for row in _TABLE.values():
    pieces = [_get(params, path) for path in row.paths]
    if any(piece is None for piece in pieces):
      continue
    seen.update(row.paths)
    pieces = [row.change.official(np.asarray(piece)) for piece in pieces]
    array = np.concatenate(pieces) if row.paths[1:] else pieces[0]
    state[prefix + row.name] = np.zeros_like(array) if row.added else array
  unknown = sorted('/'.join(p) for p in set(_leaves(params)) - seen)
  if unknown:
    raise KeyError(
      f'No official counterpart for the parameters {", ".join(unknown)}.'
    )
  return state
