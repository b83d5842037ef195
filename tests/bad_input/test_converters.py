"""Bad state dictionaries and weight files of other libraries."""

import io

from hypothesis import strategies as st
import numpy as np
import pytest

from idspn_jax.interop import golden
from idspn_jax.interop import image_weights
from idspn_jax.interop import official
from idspn_jax.modules import resnet
from tests.bad_input.refusal import Refused
from tests.bad_input.test_data_files import ARRAYS

STATE = {
  'inner_obj.encoder.fspool.weight': np.zeros((2, 3), 'f4'),
}
NAMES = st.sampled_from(
  [
    *official._TABLE,
    *(f'net.{name}' for name in official._TABLE),
    'x',
    '',
    'net.',
    'net.net.x',
    'a/b',
  ]
)


def test_official_states(fuzz, attempt):
  """What is read back is what was given."""

  def check(state):
    try:
      found = attempt(
        'official states',
        sorted(state.items(), key=lambda item: item[0]),
        lambda: official.from_official(state),
        KeyError,
      )
    except Refused:
      return
    back = official.to_official(found)
    for name, array in state.items():
      short = name.removeprefix('net.')
      if short in back and not official._TABLE[short].added:
        np.testing.assert_array_equal(back[short], array)

  fuzz(st.dictionaries(NAMES, ARRAYS, max_size=3), check)


@pytest.fixture(scope='module')
def trunk():
  """A small ResNet, and arrays of its names and shapes."""
  module = resnet.ResNet(1)
  shapes = image_weights._expected(image_weights._shapes_of(module))
  rng = np.random.default_rng(0)
  state = {n: rng.normal(size=s).astype('f4') for n, s in shapes.items()}
  return module, state


def test_image_weights(trunk, fuzz, attempt):
  module, good = trunk
  names = sorted(good)

  def check(change):
    name, array = change
    state = dict(good)
    if array is None:
      del state[name]
    else:
      state[name] = array
    try:
      found = attempt(
        'image weights',
        change,
        lambda: image_weights.from_state_dict(state, module),
      )
    except Refused:
      assert (
        array is None
        or name not in good
        or array.shape != good[name].shape
        or array.dtype.kind not in 'fiu'
      )
      return
    back = image_weights.to_state_dict(found, 'torchvision')
    np.testing.assert_array_equal(back[name], array)

  names = st.sampled_from(
    [*names, 'x.weight', 'conv1', 'layer9.0.conv1.weight']
  )
  fuzz(
    st.tuples(names, ARRAYS)
    | st.tuples(st.sampled_from(sorted(good)), st.none()),
    check,
  )


@pytest.mark.parametrize('name', ['weights', 'golden'])
def test_damaged_weight_files(name, fuzz, attempt, damage, tmp_path):
  path = tmp_path / 'weights.npz'
  buffer = io.BytesIO()
  good = {'a': np.arange(5.0), 'b': np.arange(3)}
  np.savez_compressed(buffer, **good)
  load = {
    'weights': image_weights.load_state_dict,
    'golden': golden.load,
  }[name]

  def check(seed):
    for what, changed in damage(buffer.getvalue(), seed, 4):
      path.write_bytes(changed)
      try:
        found = attempt('damaged weights', (name, what), lambda: load(path))
      except Refused:
        continue
      assert name == 'weights'
      for key, array in found.items():
        np.testing.assert_array_equal(array, good[key])

  fuzz(st.integers(0, 10**6), check)
