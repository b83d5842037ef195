"""The image encoder: sizes, layout, initial values, precision, mapping."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.data import pictures
from idspn_jax.modules import image_encoder
from idspn_jax.modules import resnet
from tests import on_devices

# Compiling takes longer than running.
QUICK = {
  'xla_backend_optimization_level': 0,
  'xla_llvm_disable_expensive_passes': True,
}
SMALL = {
  'latent_dim': 12,
  'width': 4,
  'stem': 'small',
  'image_size': 16,
  'blocks': (1, 1),
}


def encoder(**changes):
  return image_encoder.ImageEncoder(**{**SMALL, **changes})


def jitted(function):
  return jax.jit(function, compiler_options=QUICK)


def shapes_of(module):
  size = module.image_size
  images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.uint8)
  variables = jax.eval_shape(module.init, jax.random.key(0), images)
  return variables, jax.eval_shape(module.apply, variables, images)


def assert_close(found, expected):
  largest = np.max(np.abs(expected))
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * largest)


@pytest.fixture
def images(rng):
  return rng.integers(0, 256, (4, 16, 16, 3), np.uint8)


@pytest.fixture
def variables(variables_of, images):
  variables = variables_of(encoder(), jnp.asarray(images))
  # Variances are positive.
  return variables | {
    'batch_stats': jax.tree.map(jnp.exp, variables['batch_stats'])
  }


def test_the_trunk_has_the_parameters_of_resnet_18():
  variables, _ = shapes_of(image_encoder.ImageEncoder())
  trunk = variables['params']['trunk']
  assert sum(leaf.size for leaf in jax.tree.leaves(trunk)) == 11_176_512


@pytest.mark.parametrize(
  'image_size, stem, channels',
  (
    (64, 'imagenet', 512),
    (128, 'imagenet', 128),
    (256, 'imagenet', 32),
    (64, 'small', 128),
    (128, 'small', 32),
  ),
)
def test_the_head_leaves_as_many_features_as_asked(image_size, stem, channels):
  module = image_encoder.ImageEncoder(image_size=image_size, stem=stem)
  variables, output = shapes_of(module)
  assert output.shape == (2, 512)
  assert output.dtype == jnp.float32
  kernel = variables['params']['head_conv']['kernel']
  assert kernel.shape == (2, 2, 512, channels)
  for leaf in jax.tree.leaves(variables):
    assert leaf.dtype == jnp.float32


@pytest.mark.parametrize('stem', resnet.STEMS)
def test_total_stride_is_that_of_the_trunk(stem):
  trunk = resnet.ResNet(8, stem)
  images = jax.ShapeDtypeStruct((1, 96, 64, 3), jnp.float32)
  variables = jax.eval_shape(trunk.init, jax.random.key(0), images)
  maps = jax.eval_shape(trunk.apply, variables, images)
  stride = resnet.total_stride(stem, trunk.blocks)
  assert maps.shape == (1, 96 // stride, 64 // stride, 64)


def test_features_are_flattened_channel_by_channel(variables, images):
  def keep(module, _):
    return module.name == 'head_conv'

  z, state = jitted(
    functools.partial(encoder().apply, capture_intermediates=keep)
  )(variables, images)
  (maps,) = state['intermediates']['head_conv']['__call__']
  assert maps.shape == (4, 2, 2, 3)
  assert np.isfinite(maps).all()
  for c in range(3):
    for i in range(2):
      for j in range(2):
        np.testing.assert_array_equal(z[:, 4 * c + 2 * i + j], maps[:, i, j, c])


def test_bytes_are_scaled_as_floats_are(variables, images):
  apply = jitted(encoder().apply)
  expected = apply(variables, pictures.to_floats(images))
  assert np.std(expected) > 0
  assert_close(apply(variables, images), expected)


def test_initial_values_are_those_of_pytorch():
  module = encoder(width=32, latent_dim=64)
  variables = jitted(module.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
  params = variables['params']
  for name, fan_out in (('conv_1', 64 * 9), ('shortcut_conv', 64)):
    kernel = params['trunk']['stage_2_block_0'][name]['kernel']
    unit = np.asarray(kernel).ravel() * math.sqrt(fan_out / 2)
    assert np.std(unit) == pytest.approx(1, abs=0.05)
    assert np.max(np.abs(unit)) > 2.5  # Not truncated.
  bound = 1 / math.sqrt(4 * 64)
  for array in params['head_conv'].values():
    largest = np.max(np.abs(array))
    assert 0.8 * bound < largest <= bound
  assert np.std(params['head_conv']['kernel']) == pytest.approx(
    bound / math.sqrt(3), rel=0.05
  )


def test_bfloat16_is_close_and_keeps_float32_around_it(variables, images):
  half = encoder(dtype=jnp.bfloat16)

  def run(module, **options):
    apply = functools.partial(
      module.apply, train=True, mutable=['batch_stats'], **options
    )
    return jitted(apply)(variables, images)

  z, changed = run(half, capture_intermediates=True)
  expected, whole = run(encoder())
  assert z.dtype == jnp.float32
  block = changed['intermediates']['trunk']['stage_2_block_0']
  assert block['conv_1']['__call__'][0].dtype == jnp.bfloat16
  scale = np.std(expected)
  assert 0 < np.max(np.abs(z - expected)) < 0.1 * scale
  for a, b in zip(
    jax.tree.leaves(changed['batch_stats']),
    jax.tree.leaves(whole['batch_stats']),
    strict=True,
  ):
    assert a.dtype == jnp.float32
    np.testing.assert_allclose(a, b, rtol=0.02, atol=0.02)


def test_seeds_are_vectorised(images):
  module = encoder(blocks=(1,), latent_dim=48)

  def step(key, images):
    variables = module.init(key, images)

    def loss(params):
      z, changed = module.apply(
        {**variables, 'params': params},
        images,
        train=True,
        mutable=['batch_stats'],
      )
      return jnp.sum(z**2), changed

    return jax.value_and_grad(loss, has_aux=True)(variables['params'])

  keys = jax.random.split(jax.random.key(0), 2)
  together = jitted(jax.vmap(step, (0, None)))(keys, images)
  alone = [jitted(step)(key, images) for key in keys]
  alone = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
  jax.tree.map(assert_close, together, alone)


@pytest.mark.parametrize(
  'changes, message',
  (
    ({'image_size': 96, 'blocks': (2, 2, 2, 2), 'stem': 'imagenet'}, '64 pix'),
    ({'image_size': 4}, 'image_size=4 gives 1×1 positions.*multiple of 8 pix'),
    ({'latent_dim': 10}, 'latent_dim=10 does not divide.*a multiple of 4'),
    ({'latent_dim': 0}, 'latent_dim must be an integer of at least 1'),
    ({'image_size': 16.0}, 'image_size must be an integer'),
    ({'width': 0}, 'width must be an integer of at least 1'),
    ({'stem': 'cifar'}, "stem is 'cifar'; choose one of"),
    ({'blocks': ()}, 'blocks is empty'),
    ({'blocks': (1, 0)}, 'blocks must be an integer of at least 1'),
    ({'dtype': 'int8'}, 'dtype must be a floating-point type'),
  ),
)
def test_settings_that_do_not_work_are_refused(changes, message, images):
  with pytest.raises(ValueError, match=message):
    encoder(**changes).init(jax.random.key(0), images)


@pytest.mark.parametrize(
  'shape, dtype, message',
  (
    ((2, 32, 32, 3), 'uint8', r'\(B, 16, 16, 3\); got \(2, 32, 32, 3\)'),
    ((2, 3, 16, 16), 'uint8', r'got \(2, 3, 16, 16\)'),
    ((16, 16, 3), 'float32', r'got \(16, 16, 3\)'),
    ((2, 16, 16, 3), 'int32', 'uint8 from 0 to 255 or floats.*got int32'),
  ),
)
def test_other_pictures_are_refused(shape, dtype, message):
  with pytest.raises(ValueError, match=message):
    encoder().init(jax.random.key(0), jnp.zeros(shape, dtype))


def test_a_batch_on_four_devices_is_a_batch_on_one():
  printed = on_devices.run(__file__, flags=on_devices.UNOPTIMIZED)
  assert printed.split() == ['pmap', 'shard_map', 'jit', 'done']


def _step(module, variables, images, weight):
  def loss(params):
    z, changed = module.apply(
      {**variables, 'params': params},
      images,
      train=True,
      mutable=['batch_stats'],
    )
    return jnp.sum(weight * z), (z, changed)

  grads, (z, changed) = jax.grad(loss, has_aux=True)(variables['params'])
  return grads, z, changed


def _with_pmap(variables, images, weight):
  def step(*arguments):
    grads, z, changed = _step(encoder(axis_name='batch'), *arguments)
    return jax.lax.psum(grads, 'batch'), z, changed

  images, weight = jax.tree.map(
    lambda a: a.reshape(4, 2, *a.shape[1:]), (images, weight)
  )
  grads, z, changed = jax.pmap(
    step, 'batch', in_axes=(None, 0, 0), out_axes=(None, 0, 0)
  )(variables, images, weight)
  changed = jax.tree.map(np.asarray, changed)
  # Every device has the same running averages.
  jax.tree.map(lambda a: np.testing.assert_array_equal(a[0], a[3]), changed)
  return grads, z.reshape(8, -1), jax.tree.map(lambda a: a[0], changed)


def _main():
  spec = jax.sharding.PartitionSpec
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (8, 16, 16, 3), np.uint8)
  weight = rng.normal(size=(8, SMALL['latent_dim'])).astype(np.float32)
  # Initialising needs no mapped axis.
  init = jax.jit(encoder(axis_name='batch').init)
  variables = init(jax.random.key(0), images)
  whole = functools.partial(_step, encoder())
  expected = jax.jit(whole)(variables, images, weight)

  def check(name, found):
    jax.tree.map(lambda a, b: assert_close(np.asarray(a), b), found, expected)
    print(name)

  check('pmap', _with_pmap(variables, images, weight))
  mesh = jax.make_mesh(
    (4,), ('batch',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  mapped = jax.shard_map(
    functools.partial(_step, encoder(axis_name='batch')),
    mesh=mesh,
    in_specs=(spec(), spec('batch'), spec('batch')),
    out_specs=(spec(), spec('batch'), spec()),
  )
  check('shard_map', jax.jit(mapped)(variables, images, weight))
  split = jax.NamedSharding(mesh, spec('batch'))
  variables = jax.device_put(variables, jax.NamedSharding(mesh, spec()))
  images, weight = jax.device_put((images, weight), split)
  check('jit', jax.jit(whole)(variables, images, weight))
  print('done')


if __name__ == '__main__':
  _main()
