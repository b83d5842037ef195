"""Weights of image encoders and CLEVR models, from and to PyTorch's names."""

import functools
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.interop import image_weights
from idspn_jax.modules import image_encoder
from idspn_jax.modules import resnet
from idspn_jax.modules import set_decoder
from idspn_jax.modules import set_encoders
from idspn_jax.modules import set_predictor

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'official_weights.md'
# The names of a ResNet-18 with its stages and head, and how many arrays.
TORCHVISION = (
  'conv1.weight',
  'bn1.weight',
  'bn1.bias',
  'bn1.running_mean',
  'bn1.running_var',
  'layer1.0.conv1.weight',
  'layer1.1.bn2.running_var',
  'layer2.0.downsample.0.weight',
  'layer4.0.downsample.1.running_mean',
  'layer4.1.conv2.weight',
)
OFFICIAL = (
  'input_to_z.layers.0.weight',
  'input_to_z.layers.1.running_var',
  'input_to_z.layers.4.0.conv1.weight',
  'input_to_z.layers.5.0.downsample.0.weight',
  'input_to_z.layers.7.1.bn2.bias',
  'input_to_z.end.0.running_mean',
  'input_to_z.end.1.weight',
  'input_to_z.end.1.bias',
)


def trunk():
  return resnet.ResNet(4)


def encoder(**changes):
  return image_encoder.ImageEncoder(
    **{'latent_dim': 8, 'width': 4, 'image_size': 64, **changes}
  )


def model(initial_set='normal', **changes):
  return set_predictor.SetPredictor(
    encoder(**changes),
    set_decoder.SetDecoder(
      set_encoders.SetEncoder(6, 8),
      set_size=3,
      set_dim=2,
      iterations=1,
      initial_set=initial_set,
    ),
  )


@pytest.fixture
def make(variables_of):
  """Variables of a module, as NumPy arrays."""

  def variables(module):
    images = jnp.zeros((1, 64, 64, 3))
    return jax.tree.map(np.asarray, variables_of(module, images))

  return variables


def assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize('names', image_weights.NAMES)
@pytest.mark.parametrize('prefix', ('', 'net.'))
@pytest.mark.parametrize(
  'build', (trunk, encoder, model, functools.partial(model, 'learned'))
)
def test_there_and_back_is_bitwise(make, build, prefix, names):
  variables = make(build())
  state = image_weights.to_state_dict(variables, names, prefix)
  assert all(name.startswith(prefix) for name in state)
  assert_same(image_weights.from_state_dict(state, build()), variables)


def test_names_and_shapes_are_torchvisions(make):
  state = image_weights.to_state_dict(make(trunk()), 'torchvision')
  # 20 convolutions and 20 normalisations of 4 arrays.
  assert len(state) == 20 + 20 * 4
  assert set(TORCHVISION) <= set(state)
  assert state['conv1.weight'].shape == (4, 3, 7, 7)
  assert state['layer2.0.downsample.0.weight'].shape == (8, 4, 1, 1)
  assert state['layer4.1.conv2.weight'].shape == (32, 32, 3, 3)
  assert state['bn1.running_var'].shape == (4,)


def test_names_and_shapes_are_the_official_ones(make):
  state = image_weights.to_state_dict(make(model('learned')))
  assert set(OFFICIAL) <= set(state)
  assert state['input_to_z.end.1.weight'].shape == (8, 32, 2, 2)
  assert state['inner_obj.encoder.mlp.0.weight'].shape == (6, 2)
  assert state['inner_obj.encoder.pool.weight'].shape == (3, 8)
  assert state['dspn._set_0'].shape == (1, 3, 2)
  assert len(state) == 100 + 4 + 2 + 5 + 1


def test_names_without_the_encoders_prefix_are_understood(make):
  variables = make(encoder())
  state = {
    name.removeprefix('input_to_z.'): array
    for name, array in image_weights.to_state_dict(variables).items()
  }
  assert_same(image_weights.from_state_dict(state, encoder()), variables)


def test_classifier_and_counters_are_ignored(make):
  variables = make(trunk())
  state = image_weights.to_state_dict(variables, 'torchvision')
  state |= {
    'fc.weight': np.zeros((1000, 32)),
    'fc.bias': np.zeros(1000),
    'bn1.num_batches_tracked': np.int64(3),
    'layer1.0.bn1.num_batches_tracked': np.int64(3),
  }
  assert_same(image_weights.from_state_dict(state, trunk()), variables)


def test_gradients_are_converted(make):
  params = make(encoder())['params']
  state = image_weights.to_state_dict({'params': params}, 'torchvision')
  assert len(state) == 20 * 3 + 2 + 2
  np.testing.assert_array_equal(
    state['conv1.weight'][1, 2, 3],
    params['trunk']['stem_conv']['kernel'][3, :, 2, 1],
  )


def test_precision_is_kept(make):
  state = image_weights.to_state_dict(make(encoder()))
  state = {name: array.astype(np.float64) for name, array in state.items()}
  variables = image_weights.from_state_dict(state, encoder())
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    np.dtype('float64')
  }


def test_weights_of_a_trunk_serve_in_an_encoder(make):
  variables = make(encoder())
  state = image_weights.to_state_dict(
    {name: tree['trunk'] for name, tree in variables.items()}, 'torchvision'
  )
  found = image_weights.from_state_dict(state, trunk())
  for name, tree in variables.items():
    assert_same(found[name], tree['trunk'])


@pytest.mark.parametrize('names', image_weights.NAMES)
def test_problems_are_named_all_together(make, names):
  state = image_weights.to_state_dict(make(encoder()), names, 'net.')
  image = 'input_to_z.' if names == 'official' else ''
  first = 'layers.0' if names == 'official' else 'conv1'
  second = 'layers.5' if names == 'official' else 'layer2'
  del state[f'net.{image}{second}.1.bn2.running_var']
  state['net.layer9.weight'] = np.zeros(3)
  state[f'net.{image}{first}.weight'] = np.zeros((4, 3, 3, 3))
  with pytest.raises(ValueError) as e:
    image_weights.from_state_dict(state, encoder())
  message = str(e.value)
  assert f'missing: {image}{second}.1.bn2.running_var; ' in message
  assert 'not in the model: net.layer9.weight; ' in message
  shapes = '(4, 3, 3, 3) instead of (4, 3, 7, 7). Give the model'
  assert f'of another shape: net.{image}{first}.weight {shapes}' in message


def test_what_is_not_real_is_refused(make):
  state = image_weights.to_state_dict(make(trunk()), 'torchvision')
  state['bn1.bias'] = state['bn1.bias'].astype(complex)
  with pytest.raises(ValueError, match=r'real numbers: bn1.bias \(complex128'):
    image_weights.from_state_dict(state, trunk())


def test_long_lists_of_names_are_cut(make):
  state = image_weights.to_state_dict(make(trunk()), 'torchvision')
  with pytest.raises(ValueError, match='missing: bn1.bias, .* and 92 more'):
    image_weights.from_state_dict({}, trunk())
  with pytest.raises(ValueError, match='missing: end.0.bias'):
    image_weights.from_state_dict(state, encoder())


@pytest.mark.parametrize(
  'change, message',
  (
    (
      {'net.dspn._set_0': np.zeros((1, 3, 2))},
      'not in the model: net.dspn._set_0',
    ),
    (
      {'net.inner_obj.encoder.pool.weight': np.zeros((4, 8))},
      r'net.inner_obj.encoder.pool.weight \(4, 8\) instead of \(3, 8\)',
    ),
    (
      {'inner_obj.encoder.pool.weight': np.zeros((3, 8))},
      'name the same array; leave one out',
    ),
  ),
)
def test_the_decoders_arrays_are_checked_too(make, change, message):
  state = image_weights.to_state_dict(make(model()), prefix='net.')
  with pytest.raises(ValueError, match=message):
    image_weights.from_state_dict(state | change, model())


def test_missing_arrays_of_the_decoder_are_named(make):
  state = image_weights.to_state_dict(make(model()), prefix='net.')
  del state['net.inner_obj.encoder.mlp.0.bias']
  missing = 'missing: inner_obj.encoder.mlp.0.bias. Give the model'
  with pytest.raises(ValueError, match=missing):
    image_weights.from_state_dict(state, model())


def test_other_models_are_refused(make):
  with pytest.raises(ValueError, match='for a ResNet, an ImageEncoder or'):
    image_weights.from_state_dict({}, set_encoders.SetEncoder(6, 8))
  with pytest.raises(ValueError, match='params/hidden/bias is not an array'):
    image_weights.to_state_dict({'params': {'hidden': {'bias': np.zeros(2)}}})
  with pytest.raises(ValueError, match="names is 'timm'; choose one of"):
    image_weights.to_state_dict(make(trunk()), 'timm')


class TestFiles:
  def test_arrays_are_read_by_name(self, make, tmp_path):
    state = image_weights.to_state_dict(make(encoder()), prefix='net.')
    np.savez(tmp_path / 'weights.npz', **state)
    found = image_weights.load_state_dict(tmp_path / 'weights.npz')
    assert_same(found, state)

  def test_missing_files_are_told(self, tmp_path):
    with pytest.raises(FileNotFoundError):
      image_weights.load_state_dict(tmp_path / 'weights.npz')

  @pytest.mark.parametrize('kind', ('pickle', 'npy', 'objects', 'cut', 'text'))
  def test_other_files_are_refused(self, tmp_path, kind):
    path = tmp_path / 'weights.npz'
    if kind == 'pickle':
      np.array([{}], dtype=object).dump(path)
    elif kind == 'npy':
      with path.open('wb') as file:
        np.save(file, np.zeros(3))
    elif kind == 'text':
      path.write_text('weights')
    else:
      values = np.array([{}], dtype=object) if kind == 'objects' else [1.0] * 99
      np.savez(path, **{'conv1.weight': values})
    if kind == 'cut':
      path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(ValueError, match=r'weights\.npz: not an \.npz file'):
      image_weights.load_state_dict(path)


def test_the_recipe_reads_a_file_of_the_papers_sizes(tmp_path):
  (block,) = re.findall(r'```python\n(.*?)```', PAGE.read_text('utf-8'), re.S)
  names = {}
  exec(compile(block, str(PAGE), 'exec'), names)
  shapes = jax.eval_shape(
    names['model'].init,
    {'params': jax.random.key(0), 'initial_set': jax.random.key(0)},
    jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.uint8),
  )
  zeros = jax.tree.map(lambda leaf: np.broadcast_to(0.0, leaf.shape), shapes)
  state = image_weights.to_state_dict(zeros, prefix='net.')
  assert state['net.inner_obj.encoder.mlp.0.weight'].shape == (512, 19)
  path = tmp_path / 'idspn.npz'
  np.savez(path, **{k: v.astype(np.float32) for k, v in state.items()})
  variables = names['load'](path)
  assert jax.tree.map(np.shape, variables) == jax.tree.map(np.shape, zeros)
