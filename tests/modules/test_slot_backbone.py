"""The image encoder of Slot Attention: its table, positions and inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.modules import slot_backbone
from tests.modules import slots_in_numpy
from tests.modules.quick_jit import quick_jit

# The encoder for set prediction at 128 × 128, layer by layer: rows, columns
# and channels of the output, and the shapes of the parameters.
TABLE = {
  'conv_0': ((128, 128, 64), {'kernel': (5, 5, 3, 64), 'bias': (64,)}),
  'conv_1': ((64, 64, 64), {'kernel': (5, 5, 64, 64), 'bias': (64,)}),
  'conv_2': ((32, 32, 64), {'kernel': (5, 5, 64, 64), 'bias': (64,)}),
  'conv_3': ((32, 32, 64), {'kernel': (5, 5, 64, 64), 'bias': (64,)}),
  'position': (
    (32, 32, 64),
    {'embedding': {'kernel': (4, 64), 'bias': (64,)}},
  ),
  'norm': ((32, 32, 64), {'scale': (64,), 'bias': (64,)}),
  'hidden': ((32, 32, 64), {'kernel': (64, 64), 'bias': (64,)}),
  'output': ((32, 32, 64), {'kernel': (64, 64), 'bias': (64,)}),
}
SMALL = slot_backbone.SlotBackbone(width=4, strides=(2, 1), kernel=3)


def pictures(*shape, seed=0):
  return np.random.default_rng(seed).uniform(size=(*shape, 3))


def test_layers_are_those_of_the_table():
  module = slot_backbone.SlotBackbone()
  _, made = jax.eval_shape(
    lambda: module.init_with_output(
      jax.random.key(0),
      jnp.zeros((2, 128, 128, 3)),
      capture_intermediates=True,
    )
  )
  params, outputs = made['params'], made['intermediates']
  shapes = jax.tree.map(lambda a: a.shape, params)
  assert shapes == {name: row[1] for name, row in TABLE.items()}
  for name, (shape, _) in TABLE.items():
    assert outputs[name]['__call__'][0].shape == (2, *shape), name


@pytest.mark.parametrize(
  ('size', 'strides', 'grid'),
  (
    ((64, 64), (2, 2, 1, 1), (16, 16)),
    ((128, 128), (2, 2, 1, 1), (32, 32)),
    ((30, 45), (2, 2), (8, 12)),
    ((5, 7), (1,), (5, 7)),
  ),
)
def test_strides_and_size_set_the_grid(size, strides, grid):
  module = slot_backbone.SlotBackbone(width=8, strides=strides)
  out, _ = jax.eval_shape(
    lambda: module.init_with_output(jax.random.key(0), jnp.zeros((1, *size, 3)))
  )
  assert out.shape == (1, *grid, 8)


@pytest.mark.parametrize('size', ((6, 9), (1, 2)))
def test_equals_numpy_in_float64(variables_of, size, x64):
  images = pictures(2, *size)
  variables = jax.tree.map(
    lambda a: np.asarray(a, np.float64), variables_of(SMALL, images)
  )
  found = quick_jit(SMALL.apply)(variables, images)
  for image, features in zip(images, found, strict=True):
    expected = slots_in_numpy.backbone(variables['params'], image, (2, 1))
    np.testing.assert_allclose(features, expected, rtol=1e-10, atol=1e-12)


def test_positions_by_hand():
  np.testing.assert_array_equal(
    slot_backbone.position_grid(3, 2)[:, :, :2],
    [[[0, 0], [0, 1]], [[0.5, 0], [0.5, 1]], [[1, 0], [1, 1]]],
  )
  grid = slot_backbone.position_grid(4, 7)
  np.testing.assert_allclose(grid[..., :2] + grid[..., 2:], 1.0)
  np.testing.assert_array_equal(
    slot_backbone.position_grid(1, 1), [[[0, 0, 1, 1]]]
  )


def test_position_embedding_is_added(variables_of):
  module = slot_backbone.SoftPositionEmbedding()
  x = np.ones((2, 3, 2, 5), np.float32)
  params = variables_of(module, x)['params']['embedding']
  found = module.apply({'params': {'embedding': params}}, x) - x
  kernel, bias = np.asarray(params['kernel']), np.asarray(params['bias'])
  # First row, last column: y = 0, x = 1, 1 - y = 1, 1 - x = 0.
  np.testing.assert_allclose(
    found[1, 0, 1], kernel[1] + kernel[2] + bias, rtol=1e-5
  )


def test_bytes_are_scaled_like_floats(variables_of):
  images = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), np.uint8)
  np.testing.assert_allclose(
    slot_backbone.scaled_images(np.array([[[[0, 255, 51]]]], np.uint8)),
    np.array([[[[-1.0, 1.0, -0.6]]]]),
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    slot_backbone.scaled_images(images),
    slot_backbone.scaled_images((images / 255).astype(np.float32)),
    atol=1e-6,
  )


def test_bfloat16(variables_of):
  images = pictures(2, 6, 8).astype(np.float32)
  variables = variables_of(SMALL, images)
  half = SMALL.clone(dtype=jnp.bfloat16)
  found = quick_jit(half.apply)(variables, images)
  assert found.dtype == jnp.float32
  expected = quick_jit(SMALL.apply)(variables, images)
  error = np.max(np.abs(found - expected))
  assert 0 < error < 0.05 * np.max(np.abs(expected))
  _, made = jax.eval_shape(
    lambda: half.init_with_output(
      jax.random.key(0), images, capture_intermediates=True
    )
  )
  outputs = made['intermediates']
  for name in ('conv_0', 'conv_1', 'hidden', 'output'):
    assert outputs[name]['__call__'][0].dtype == jnp.bfloat16
  assert outputs['norm']['__call__'][0].dtype == jnp.float32
  assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(made['params']))


def test_gradients_are_finite_and_reach_everything(variables_of):
  images = pictures(2, 6, 8).astype(np.float32)
  variables = variables_of(SMALL, images)
  gradient = quick_jit(
    jax.grad(lambda v, x: jnp.sum(SMALL.apply(v, x) ** 2), (0, 1))
  )(variables, images)
  for path, leaf in jax.tree.leaves_with_path(gradient):
    assert np.all(np.isfinite(leaf)), path
    assert np.any(leaf != 0), path


def test_starts_like_the_authors_code():
  module = slot_backbone.SlotBackbone(width=32, strides=(1, 1))
  images = jnp.zeros((1, 2, 2, 3))
  params = quick_jit(module.init)(jax.random.key(0), images)['params']
  # Glorot's bound: √(6 / (fan_in + fan_out)), over windows of 25 pixels.
  for name, bound in (
    ('conv_0', np.sqrt(6 / (25 * (3 + 32)))),
    ('conv_1', np.sqrt(6 / (25 * (32 + 32)))),
    ('hidden', np.sqrt(6 / 64)),
  ):
    kernel = params[name]['kernel']
    assert 0.9 * bound < np.max(np.abs(kernel)) <= bound
    np.testing.assert_allclose(np.std(kernel), bound / np.sqrt(3), rtol=0.1)
    np.testing.assert_array_equal(params[name]['bias'], 0.0)


@pytest.mark.parametrize(
  ('images', 'message'),
  (
    (np.zeros((8, 8, 3)), r'shape \(B, H, W, 3\); got \(8, 8, 3\)'),
    (np.zeros((1, 8, 8, 4)), r'got \(1, 8, 8, 4\). Leave out an alpha'),
    (np.zeros((1, 8, 8, 3), int), 'uint8 in 0 to 255 or floating.*got int'),
    (np.zeros((1, 8, 8, 3), bool), 'uint8 in 0 to 255 or floating.*got bool'),
  ),
)
def test_wrong_images_are_refused(images, message):
  with pytest.raises(ValueError, match=message):
    SMALL.init(jax.random.key(0), images)


@pytest.mark.parametrize(
  ('changes', 'message'),
  (
    ({'width': 0}, 'width must be an integer of at least 1; got 0'),
    ({'kernel': '5'}, "kernel must be an integer of at least 1; got '5'"),
    ({'strides': 2}, 'strides must be a tuple of integers.*got 2'),
    ({'strides': ()}, r'strides must be a tuple of integers.*got \(\)'),
    ({'strides': '22'}, "strides must be a tuple of integers.*got '22'"),
    ({'strides': (2, 0)}, r'strides\[1\] must be an integer of at least 1'),
  ),
)
def test_wrong_attributes_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    module = SMALL.clone(**changes)
    images = np.zeros((1, 8, 8, 3))
    jax.eval_shape(module.init, jax.random.key(0), images)
