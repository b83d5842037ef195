"""Weights of image encoders and of whole CLEVR models, from and to PyTorch.

Two sets of names are understood: torchvision's of a ResNet (`conv1.weight`,
`layer2.0.downsample.0.weight`, …), and the official code's, where the trunk is
`input_to_z.layers.{0,1,4,5,6,7}`, the head `input_to_z.end.{0,1}` and Lightning
adds `net.` in front. PyTorch's convolution weights are `(out, in, height,
width)`, Flax's kernels `(height, width, in, out)`.
"""

from collections.abc import Iterable, Iterator, Mapping
import os
import re
from typing import Any

import jax
import numpy as np

from idspn_jax.interop import official
from idspn_jax.modules import image_encoder
from idspn_jax.modules import resnet
from idspn_jax.modules import set_predictor

NAMES = ('official', 'torchvision')
_IMAGE_PREFIX = 'input_to_z.'
_COLLECTIONS = ('params', 'batch_stats')
# What PyTorch keeps besides weights, and the classifier.
_IGNORED = re.compile(r'(fc\..*|.*\.num_batches_tracked)')
_MODULES = {
  'stem_conv': 'conv1',
  'stem_norm': 'bn1',
  'conv_1': 'conv1',
  'norm_1': 'bn1',
  'conv_2': 'conv2',
  'norm_2': 'bn2',
  'shortcut_conv': 'downsample.0',
  'shortcut_norm': 'downsample.1',
  'head_norm': 'end.0',
  'head_conv': 'end.1',
}
_ARRAYS = {
  'kernel': 'weight',
  'scale': 'weight',
  'bias': 'bias',
  'mean': 'running_mean',
  'var': 'running_var',
}
_STAGE = re.compile(r'stage_(\d+)_block_(\d+)')
# First parts of names: torchvision's, and their places in the official trunk.
_PLACES = {
  'conv1': '0',
  'bn1': '1',
  'layer1': '4',
  'layer2': '5',
  'layer3': '6',
  'layer4': '7',
}
_FIRST_PARTS = {place: first for first, place in _PLACES.items()}


def _torchvision_name(path):
  """The name of the array at a path of modules, or None."""
  parts = []
  for part in path[:-1]:
    stage = _STAGE.fullmatch(part)
    if stage:
      parts.append(f'layer{stage[1]}.{stage[2]}')
    elif part in _MODULES:
      parts.append(_MODULES[part])
    elif part != 'trunk':
      return None
  if not parts or path[-1] not in _ARRAYS:
    return None
  return '.'.join([*parts, _ARRAYS[path[-1]]])


def _official_name(name):
  """A plain name as the official code has it."""
  first, _, rest = name.partition('.')
  if first in ('inner_obj', 'dspn'):
    return name
  if first not in _PLACES:
    return _IMAGE_PREFIX + name
  return f'{_IMAGE_PREFIX}layers.{_PLACES[first]}.{rest}'


def _plain_name(name):
  """A given name as torchvision has it; heads and decoders without prefix."""
  name = name.removeprefix(official.PREFIX)
  short = name.removeprefix(_IMAGE_PREFIX)
  place = re.fullmatch(r'layers\.(\d+)\.(.*)', short)
  if place and place[1] in _FIRST_PARTS:
    return f'{_FIRST_PARTS[place[1]]}.{place[2]}'
  return short


def _leaves(tree, path=()) -> Iterator[tuple[tuple[str, ...], Any]]:
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from _leaves(value, (*path, key))
    else:
      yield (*path, key), value


def _put(tree, path, value):
  for key in path[:-1]:
    tree = tree.setdefault(key, {})
  tree[path[-1]] = value


def _image_arrays(variables):
  """Yields plain name, collection, path and array of the image encoder."""
  for collection in _COLLECTIONS:
    for path, array in _leaves(variables.get(collection, {})):
      if collection == 'params' and path[0] == 'decoder':
        continue
      short = path[1:] if path[0] == 'encoder' else path
      name = _torchvision_name(short)
      if name is None:
        raise ValueError(
          f'{collection}/{"/".join(path)} is not an array of an image encoder.'
        )
      yield name, collection, path, array


def _to_torch(array):
  """PyTorch's order of axes."""
  array = np.asarray(array)
  return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array


def _from_torch(array):
  return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def _shapes_of(module):
  """Shapes of a module's variables, without computing any."""
  if isinstance(module, resnet.ResNet):
    size = resnet.total_stride(module.stem, module.blocks)
  else:
    encoder = module
    if isinstance(module, set_predictor.SetPredictor):
      encoder = module.encoder
    if not isinstance(encoder, image_encoder.ImageEncoder):
      raise ValueError(
        'Weights are converted for a ResNet, an ImageEncoder or a '
        f'SetPredictor whose encoder is one; got {module!r}.'
      )
    size = encoder.image_size
  keys = dict.fromkeys(('params', 'initial_set'), jax.random.key(0))
  images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
  return jax.eval_shape(module.init, keys, images)


def _expected(shapes):
  """Plain PyTorch names and shapes of a module's arrays."""
  # Zeros of no memory.
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(0.0, leaf.shape), shapes)
  found = {
    name: _to_torch(array).shape for name, _, _, array in _image_arrays(zeros)
  }
  decoder = zeros['params'].get('decoder')
  if decoder is not None:
    state = official.to_official({'decoder': decoder})
    found |= {name: array.shape for name, array in state.items()}
  return found


def _listed(names: Iterable[str]) -> str:
  names = sorted(names)
  more = f' and {len(names) - 8} more' if len(names) > 8 else ''
  return ', '.join(names[:8]) + more


def _checked(state, expected):
  """The state by plain name; raises for whatever is not as expected."""
  found, given = {}, {}
  for name, array in state.items():
    plain = _plain_name(name)
    if _IGNORED.fullmatch(plain):
      continue
    if plain in given:
      raise ValueError(
        f'{given[plain]} and {name} name the same array; leave one out.'
      )
    given[plain], found[plain] = name, np.asarray(array)
  problems = []
  missing = [
    _official_name(name) if any('layers.' in key for key in state) else name
    for name in expected.keys() - found.keys()
  ]
  if missing:
    problems.append(f'missing: {_listed(missing)}')
  superfluous = [given[name] for name in found.keys() - expected.keys()]
  if superfluous:
    problems.append(f'not in the model: {_listed(superfluous)}')
  shapes = [
    f'{given[name]} {found[name].shape} instead of {expected[name]}'
    for name in found.keys() & expected.keys()
    if found[name].shape != expected[name]
  ]
  if shapes:
    problems.append(f'of another shape: {_listed(shapes)}')
  kinds = [
    f'{given[name]} ({found[name].dtype})'
    for name in found.keys() & expected.keys()
    if found[name].dtype.kind not in 'fiuV'  # V: bfloat16.
  ]
  if kinds:
    problems.append(f'not real numbers: {_listed(kinds)}')
  if problems:
    raise ValueError(
      f'The weights do not fit the model; {"; ".join(problems)}. Give the '
      'model the settings that the weights were trained with.'
    )
  return found


def from_state_dict(
  state: Mapping[str, Any],
  module: (
    resnet.ResNet | image_encoder.ImageEncoder | set_predictor.SetPredictor
  ),
) -> dict[str, Any]:
  """Converts PyTorch weights to the variables of a module.

  Args:
    state: arrays by torchvision's or the official names; a classifier `fc` and
      `num_batches_tracked` are ignored.
    module: what the weights are for: a trunk, an image encoder, or a whole
      model, whose decoder's names are the official `inner_obj.encoder.…` and,
      with a learned initial set, `dspn._set_0`.

  Returns:
    `{'params': …, 'batch_stats': …}`, NumPy arrays of the given precision.

  Raises:
    ValueError: if arrays are missing, superfluous, of another shape, or no
      real numbers; names them.
  """
  shapes = _shapes_of(module)
  state = _checked(state, _expected(shapes))
  variables: dict[str, Any] = {name: {} for name in _COLLECTIONS}
  decoder = dict(state)
  for name, collection, path, _ in _image_arrays(shapes):
    _put(variables[collection], path, _from_torch(decoder.pop(name)))
  variables['params'] |= official.from_official(decoder)
  return variables


def to_state_dict(
  variables: Mapping[str, Any], names: str = 'official', prefix: str = ''
) -> dict[str, np.ndarray]:
  """Converts variables of a trunk, an image encoder or a whole CLEVR model.

  Args:
    variables: `{'params': …, 'batch_stats': …}`; gradients of 'params' alone
      are converted too.
    names: 'official' or 'torchvision'; the head has official names in both.
    prefix: what to put before every name; `net.` for Lightning checkpoints.

  Returns:
    NumPy arrays by PyTorch name, without `num_batches_tracked`, which PyTorch
    fills in.

  Raises:
    ValueError: if `names` is unknown or an array is not of such a model.
  """
  if names not in NAMES:
    raise ValueError(f'names is {names!r}; choose one of {NAMES}.')
  state = {}
  for name, _, _, array in _image_arrays(variables):
    if names == 'official':
      name = _official_name(name)
    state[prefix + name] = _to_torch(array)
  decoder = variables.get('params', {}).get('decoder')
  if decoder is not None:
    state |= official.to_official({'decoder': decoder}, prefix)
  return state


def load_state_dict(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads arrays by name from an `.npz` file, never a pickle.

  Args:
    path: a file as `numpy.savez` writes it; `docs/official_weights.md` says
      how to make one of a PyTorch checkpoint.

  Returns:
    The arrays.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is another kind of file, or damaged.
  """
  try:
    with open(path, 'rb') as file:
      with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)
  except FileNotFoundError:
    raise
  # NumPy refuses pickles by ValueError, and returns no context for `.npy`;
  # damaged archives fail in a dozen ways.
  except Exception as e:
    raise ValueError(
      f'{os.fspath(path)}: not an .npz file of plain arrays ({e}). PyTorch '
      'checkpoints are converted first, see docs/official_weights.md.'
    ) from e
