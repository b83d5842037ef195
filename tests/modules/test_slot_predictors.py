"""Slot Attention and Slot MLP from pictures to sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.data import clevr_features
from idspn_jax.modules import slot_predictors
from tests.modules import slots_in_numpy
from tests.modules.quick_jit import quick_jit

N, D = 3, 5
OPTIONS = {
  'num_slots': N,
  'set_dim': D,
  'num_coordinates': 2,
  'width': 4,
  'strides': (2, 1),
  'slot_dim': 6,
  'head_dim': 7,
}
ATTENTION = slot_predictors.SlotAttentionPredictor(
  mlp_dim=8, iterations=2, **OPTIONS
)
MLP = slot_predictors.SlotMLPPredictor(pooled=2, hidden_dims=(9,), **OPTIONS)
# Parameters of the parts at the authors' sizes, their backbone apart.
ATTENTION_SHAPES = {
  'mean': (1, 64),
  'log_sigma': (1, 64),
  'norm_inputs': {'scale': (64,), 'bias': (64,)},
  'norm_slots': {'scale': (64,), 'bias': (64,)},
  'norm_mlp': {'scale': (64,), 'bias': (64,)},
  'key': {'kernel': (64, 64)},
  'query': {'kernel': (64, 64)},
  'value': {'kernel': (64, 64)},
  'gru': {
    'ir': {'kernel': (64, 64), 'bias': (64,)},
    'iz': {'kernel': (64, 64), 'bias': (64,)},
    'in': {'kernel': (64, 64), 'bias': (64,)},
    'hr': {'kernel': (64, 64)},
    'hz': {'kernel': (64, 64)},
    'hn': {'kernel': (64, 64), 'bias': (64,)},
  },
  'mlp_hidden': {'kernel': (64, 128), 'bias': (128,)},
  'mlp_output': {'kernel': (128, 64), 'bias': (64,)},
}
HEAD_SHAPES = {
  'hidden': {'kernel': (64, 64), 'bias': (64,)},
  'output': {'kernel': (64, 19), 'bias': (19,)},
}


def pictures(batch=2, seed=0):
  shape = (batch, 8, 12, 3)
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def first_slots(batch=2):
  return np.random.default_rng(1).normal(size=(batch, N, 6))


@pytest.fixture(scope='module')
def variables(variables_of):
  return {
    'attention': variables_of(ATTENTION, pictures()),
    'mlp': variables_of(MLP, pictures()),
  }


@pytest.fixture(scope='module')
def every():
  """Sets of every iteration, from slots drawn with a key."""
  return quick_jit(
    lambda variables, key, images: ATTENTION.apply(
      variables, images, rngs={'initial_set': key}, method='all_iterations'
    )
  )


def wide(variables):
  return jax.tree.map(lambda a: np.asarray(a, np.float64), variables)


def test_parameters_at_the_authors_sizes():
  rngs = {'params': jax.random.key(0), 'initial_set': jax.random.key(1)}
  images = np.zeros((2, 128, 128, 3), np.uint8)
  sets, variables = jax.eval_shape(
    lambda: slot_predictors.SlotAttentionPredictor().init_with_output(
      rngs, images
    )
  )
  assert sets.shape == (2, 10, clevr_features.NUM_FEATURES)
  shapes = jax.tree.map(lambda a: a.shape, variables['params'])
  assert set(shapes) == {'backbone', 'attention', 'head'}
  assert shapes['attention'] == ATTENTION_SHAPES
  assert shapes['head'] == HEAD_SHAPES
  sets, variables = jax.eval_shape(
    lambda: slot_predictors.SlotMLPPredictor().init_with_output(rngs, images)
  )
  assert sets.shape == (2, 10, clevr_features.NUM_FEATURES)
  mlp = jax.tree.map(lambda a: a.shape, variables['params'])
  assert mlp == {
    'backbone': shapes['backbone'],
    'mlp_0': {'kernel': (8 * 8 * 64, 512), 'bias': (512,)},
    'mlp_1': {'kernel': (512, 512), 'bias': (512,)},
    'mlp_output': {'kernel': (512, 10 * 64), 'bias': (10 * 64,)},
    'head': HEAD_SHAPES,
  }


def test_slot_attention_equals_numpy_in_float64(variables, x64):
  given, slots = wide(variables['attention']), first_slots()
  images = pictures() / 255
  found = quick_jit(
    lambda v, x, s: ATTENTION.apply(
      v, x, initial_slots=s, method='all_iterations'
    )
  )(given, images, slots)
  params = given['params']
  for b, image in enumerate(images):
    x = slots_in_numpy.backbone(params['backbone'], image, (2, 1))
    x = x.reshape(-1, x.shape[-1])
    expected = slots[b]
    for t in range(2):
      expected, _ = slots_in_numpy.iteration(params['attention'], expected, x)
      np.testing.assert_allclose(
        found[t, b],
        slots_in_numpy.head(params['head'], expected, 2),
        rtol=1e-10,
        atol=1e-12,
      )


def test_slot_mlp_equals_numpy_in_float64(variables, x64):
  given, images = wide(variables['mlp']), pictures() / 255
  found = quick_jit(MLP.apply)(given, images)
  params = given['params']
  for image, elements in zip(images, found, strict=True):
    x = slots_in_numpy.backbone(params['backbone'], image, (2, 1))
    # 4 × 6 positions become 2 × 2.
    x = x.reshape(2, 2, 2, 3, 4).mean(axis=(1, 3)).reshape(-1)
    x = np.maximum(slots_in_numpy.linear(params['mlp_0'], x), 0)
    slots = slots_in_numpy.linear(params['mlp_output'], x).reshape(N, 6)
    expected = slots_in_numpy.head(params['head'], slots, 2)
    np.testing.assert_allclose(elements, expected, rtol=1e-10, atol=1e-12)


def test_a_call_returns_the_last_iteration(variables, every):
  key = jax.random.key(0)
  sets = every(variables['attention'], key, pictures())
  assert sets.shape == (2, 2, N, D)
  last = quick_jit(ATTENTION.apply)(
    variables['attention'], pictures(), rngs={'initial_set': key}
  )
  np.testing.assert_allclose(last, sets[-1], rtol=1e-5, atol=1e-6)
  mlp = quick_jit(MLP.apply)(variables['mlp'], pictures())
  one = quick_jit(lambda v: MLP.apply(v, pictures(), method='all_iterations'))(
    variables['mlp']
  )
  assert one.shape == (1, 2, N, D)
  np.testing.assert_allclose(one[0], mlp, rtol=1e-6)


def test_slots_are_drawn_per_picture_and_key(variables, every):
  same = np.repeat(pictures(batch=1), 2, axis=0)
  first, again, other = (
    every(variables['attention'], jax.random.key(k), same) for k in (0, 0, 1)
  )
  np.testing.assert_array_equal(first, again)
  assert np.max(np.abs(first - other)) > 1e-4
  assert np.max(np.abs(first[:, 0] - first[:, 1])) > 1e-4


def test_elements_are_permuted_like_the_first_slots(variables):
  apply = quick_jit(
    lambda v, s: ATTENTION.apply(v, pictures(), initial_slots=s)
  )
  order, slots = np.array([2, 0, 1]), first_slots().astype(np.float32)
  expected = apply(variables['attention'], slots)
  found = apply(variables['attention'], slots[:, order])
  np.testing.assert_allclose(found, expected[:, order], rtol=1e-4, atol=1e-6)


def test_calls_may_ask_for_more_slots_and_iterations(variables):
  sets = jax.eval_shape(
    lambda v: ATTENTION.apply(
      v,
      pictures(),
      rngs={'initial_set': jax.random.key(0)},
      num_slots=7,
      iterations=4,
      method='all_iterations',
    ),
    variables['attention'],
  )
  assert sets.shape == (4, 2, 7, D)


def test_outputs_have_the_range_of_clevr_features():
  head = slot_predictors.SlotHead(clevr_features.NUM_FEATURES)
  slots = jnp.array([[1.0, 0.0], [0.0, 1.0]])
  shapes = jax.eval_shape(head.init, jax.random.key(0), slots)
  params = jax.tree.map(lambda a: jnp.zeros(a.shape), shapes)['params']
  params['hidden']['kernel'] = jnp.eye(2, 64)
  kernel = params['output']['kernel']
  params['output']['kernel'] = kernel.at[0].set(100.0).at[1].set(-100.0)
  low, high = -np.ones(19), np.ones(19)
  low[clevr_features.COORDINATES.stop :] = 0
  found = head.apply({'params': params}, slots)
  np.testing.assert_allclose(found, [high, low], atol=1e-6)


@pytest.mark.parametrize('model', ('attention', 'mlp'))
def test_gradients_are_finite_and_reach_everything(variables, model):
  module = {'attention': ATTENTION, 'mlp': MLP}[model]

  @quick_jit
  @jax.grad
  def gradient(variables):
    sets = module.apply(
      variables,
      pictures(),
      rngs={'initial_set': jax.random.key(0)},
      method='all_iterations',
      **({'iterations': 1} if model == 'attention' else {}),
    )
    return jnp.sum(sets**2)

  for path, leaf in jax.tree.leaves_with_path(gradient(variables[model])):
    assert np.all(np.isfinite(leaf)), path
    assert np.any(leaf != 0), path


def test_bfloat16_is_near_float32(variables, every):
  rngs = {'initial_set': jax.random.key(0)}
  sets = every(variables['attention'], rngs['initial_set'], pictures())
  for module, given, full in (
    (ATTENTION, variables['attention'], sets[-1]),
    (MLP, variables['mlp'], quick_jit(MLP.apply)(variables['mlp'], pictures())),
  ):
    half = quick_jit(module.clone(dtype=jnp.bfloat16).apply)(
      given, pictures(), rngs=rngs
    )
    assert half.dtype == full.dtype == jnp.float32
    assert 0 < np.max(np.abs(half - full)) < 0.05


def test_seeds_and_devices_as_mapped_axes(variables, every):
  """An axis of seeds around an axis of devices, as in grouped training."""
  several = jax.tree.map(
    lambda a: jnp.stack([a, 2 * a]), variables['attention']
  )
  keys = jax.random.split(jax.random.key(0), 2)
  images = pictures(batch=4)
  module = ATTENTION.clone(axis_name='batch')

  def run(variables, key, images):
    rngs = {'initial_set': key}
    return module.apply(variables, images, rngs=rngs, iterations=1)

  over_devices = jax.vmap(run, (None, None, 0), axis_name='batch')
  over_seeds = quick_jit(jax.vmap(over_devices, (0, 0, None)))
  found = over_seeds(several, keys, images.reshape(2, 2, *images.shape[1:]))
  for i in range(2):
    own = jax.tree.map(lambda a, i=i: a[i], several)
    expected = every(own, keys[i], images)
    for device in range(2):
      np.testing.assert_allclose(
        found[i, device],
        expected[0, 2 * device : 2 * device + 2],
        rtol=1e-4,
        atol=1e-5,
      )


class TestRescaleCoordinates:
  # An object at the corner of the scene, one at its middle, and no object.
  sets = np.array([[1.0, -1.0, 1.0, 1.0], [0, 0, 0, 1.0], [0, 0, 0, 0]])

  @pytest.mark.parametrize(
    ('coordinates', 'corner', 'middle'),
    (
      ('unit', [1, 0, 1], 0.5),
      ('symmetric', [1, -1, 1], 0),
      ('scene', [3, -3, 3], 0),
    ),
  )
  def test_by_hand(self, coordinates, corner, middle):
    found = slot_predictors.rescale_coordinates(self.sets, coordinates)
    np.testing.assert_allclose(found[0], [*corner, 1])
    np.testing.assert_allclose(found[1], [*[middle] * 3, 1])
    np.testing.assert_allclose(found[2], [*[middle] * 3, 0])
    masked = slot_predictors.rescale_coordinates(
      self.sets, coordinates, mask=self.sets[:, 3] > 0
    )
    np.testing.assert_array_equal(masked[:2], found[:2])
    np.testing.assert_array_equal(masked[2], 0.0)

  def test_scene_is_in_the_units_of_the_scene(self, rng):
    objects = {'3d_coords': [-2.5, 1.0, 0.7], 'material': 'metal'}
    objects |= {'color': 'red', 'shape': 'cube', 'size': 'small'}
    features = clevr_features.features_of([objects], 2)
    found = slot_predictors.rescale_coordinates(features, 'scene')
    np.testing.assert_allclose(found[0, :3], objects['3d_coords'], rtol=1e-6)
    np.testing.assert_array_equal(found[:, 3:], features[:, 3:])

  def test_wrong_arguments_are_refused(self):
    with pytest.raises(ValueError, match="coordinates is 'metres'; choose one"):
      slot_predictors.rescale_coordinates(self.sets, 'metres')
    with pytest.raises(ValueError, match='at most the number.* got 5 and 4'):
      slot_predictors.rescale_coordinates(self.sets, 'unit', num_coordinates=5)


@pytest.mark.parametrize(
  ('module', 'message'),
  (
    (ATTENTION.clone(num_slots=0), 'num_slots must be an integer of at least'),
    (ATTENTION.clone(set_dim=0), 'set_dim must be an integer of at least 1'),
    (ATTENTION.clone(num_coordinates=6), 'at most the number.*got 6 and 5'),
    (ATTENTION.clone(head_dim=-1), 'hidden_dim must be an integer'),
    (MLP.clone(slot_dim=0), 'slot_dim must be an integer of at least 1'),
    (MLP.clone(hidden_dims=(0,)), r'hidden_dims\[0\] must be an integer'),
    (MLP.clone(pooled=4), 'pooled must divide .* 4 and 6; got 4'),
  ),
)
def test_wrong_attributes_are_refused(module, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(module.init, jax.random.key(0), pictures())


def test_unknown_options_are_refused(variables):
  with pytest.raises(ValueError, match='Unknown options slots; known are'):
    ATTENTION.apply(variables['attention'], pictures(), slots=3)
  with pytest.raises(ValueError, match='call the method all_iterations'):
    ATTENTION.apply(variables['attention'], pictures(), all_iterations=True)
