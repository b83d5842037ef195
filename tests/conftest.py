"""Settings and fixtures for every test: strict, offline, without a display."""

import gc
import json
import os
import signal
import socket

_CACHE = 'JAX_COMPILATION_CACHE_DIR'
os.environ['MPLBACKEND'] = 'Agg'
# JAX may read a compiled program while another process is writing it.
if 'PYTEST_XDIST_WORKER' in os.environ and os.environ.get(_CACHE):
  os.environ[_CACHE] += '-' + os.environ['PYTEST_XDIST_WORKER']

import jax  # noqa: E402  After the environment is set.
import numpy as np  # noqa: E402
import pytest  # noqa: E402

# Arrays of different rank meet only where the code says so.
jax.config.update('jax_numpy_rank_promotion', 'raise')
# A plugin may have imported JAX before.
jax.config.update('jax_compilation_cache_dir', os.environ.get(_CACHE))
# Tracing makes so many objects that rare collections save a tenth of the time.
gc.set_threshold(50_000, 50, 50)
# Shells start what runs in the background with Ctrl-C ignored, for its children
# too; the tests that send it mean what a terminal does.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)

_LOCAL = ('127.0.0.1', '::1', 'localhost')


@pytest.fixture(autouse=True, scope='session')
def offline():
  """Lets no test talk to another machine."""
  connect = socket.socket.connect

  def connect_locally(self, address):
    if self.family != getattr(socket, 'AF_UNIX', None) and (
      address[0] not in _LOCAL
    ):
      raise OSError(f'Tests must not use the network; asked for {address}.')
    return connect(self, address)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(socket.socket, 'connect', connect_locally)
    yield


@pytest.fixture
def x64():
  """Computes in float64 by default, for this test only."""
  before = jax.config.jax_enable_x64
  jax.config.update('jax_enable_x64', True)
  yield
  jax.config.update('jax_enable_x64', before)


@pytest.fixture(params=['float32', 'float64'])
def dtype(request):
  """Runs a test once per precision; float64 is switched on when needed."""
  if request.param == 'float64':
    request.getfixturevalue('x64')
  return np.dtype(request.param)


@pytest.fixture
def tolerance(dtype):
  """Relative tolerance that suits `dtype`."""
  return 2e-5 if dtype == np.float32 else 1e-11


@pytest.fixture
def rng():
  """A seeded NumPy generator, fresh for every test."""
  return np.random.default_rng(20220425)


@pytest.fixture(scope='session')
def variables_of():
  """Makes up a module's variables without running its initialisers.

  Compiling the random generators takes longer than most tests do; tests that
  are about the initial values call `init` themselves.
  """

  def make(module, *args, **kwargs):
    key = jax.random.key(0)
    rngs = {'params': key, 'initial_set': key}
    shapes = jax.eval_shape(lambda: module.init(rngs, *args, **kwargs))
    generator = np.random.default_rng(1)

    def draw(leaf):
      values = generator.normal(size=leaf.shape) / np.sqrt(leaf.shape[0])
      return jax.numpy.asarray(values, leaf.dtype)

    return jax.tree.map(draw, shapes)

  return make


@pytest.fixture
def debug_nans():
  """Raises where a NaN first appears."""
  with jax.debug_nans(True):
    yield


@pytest.fixture
def allow_rank_promotion():
  """For tests that run other packages' code, which is not ours to change."""
  with jax.numpy_rank_promotion('allow'):
    yield


@pytest.fixture(scope='session')
def small():
  """Makes configs of small runs: sets of 2 elements, encoders of width 16."""

  def make(model='idspn_momentum', **changes):
    """A run of some seconds; `model__pool='sum'` changes `model.pool`."""
    from configs import random_multisets

    config = random_multisets.get_config(f'n=2,d=2,T=3,model={model}')
    config.data.num_train, config.data.num_test = 64, 10
    config.model.hidden_dim = config.model.latent_dim = 16
    config.batch_size = config.eval_batch_size = 8
    config.steps, config.log_every = 6, 2
    config.eval_every = config.checkpoint_every = 4
    config.update_from_flattened_dict(
      {key.replace('__', '.'): value for key, value in changes.items()}
    )
    return config

  return make


@pytest.fixture(scope='session')
def read_json():
  """Reads a JSON file, refusing NaN and Infinity."""

  def refuse(text):
    raise ValueError(f'{text} is not JSON')

  def read(path):
    return json.loads(path.read_text('utf-8'), parse_constant=refuse)

  return read


def _scene(name, rng, count):
  """A scene as in a CLEVR file, with `count` objects."""
  from idspn_jax.data import clevr_features

  objects = [
    {
      key: names[rng.integers(len(names))]
      for key, (names, _) in clevr_features.ATTRIBUTES.items()
    }
    | {
      '3d_coords': [float(x) for x in rng.integers(-24, 25, 3) / 8],
      'pixel_coords': [240, 160, 10.5],
      'rotation': 45.0,
    }
    for _ in range(count)
  ]
  return {'image_filename': name, 'objects': objects}


@pytest.fixture(scope='session')
def write_clevr_tree():
  """Writes a small CLEVR_v1.0 folder of noise, and returns its path."""

  def write(parent, num_train=7, num_val=5, most=4, size=(24, 16)):
    from PIL import Image

    rng = np.random.default_rng(3)
    tree = parent / 'CLEVR_v1.0'
    (tree / 'scenes').mkdir(parents=True)
    (tree / 'questions').mkdir()
    for split, count in (('train', num_train), ('val', num_val), ('test', 1)):
      folder = tree / 'images' / split
      folder.mkdir(parents=True)
      names = [f'CLEVR_{split}_{i:06}.png' for i in range(count)]
      for name in names:
        # With an alpha channel, as in some of the official files.
        pixels = rng.integers(0, 256, (size[1], size[0], 4), np.uint8)
        pixels[..., 3] = 255
        Image.fromarray(pixels).save(folder / name)
      questions = tree / 'questions' / f'CLEVR_{split}_questions.json'
      questions.write_text('{"questions": []}')
      if split != 'test':
        scenes = [
          _scene(name, rng, 1 + i % most) for i, name in enumerate(names)
        ]
        path = tree / 'scenes' / f'CLEVR_{split}_scenes.json'
        path.write_text(json.dumps({'scenes': scenes}))
    return tree

  return write


@pytest.fixture
def clevr_tree_path(tmp_path, write_clevr_tree):
  """A CLEVR_v1.0 folder of 7 training and 5 validation pictures."""
  return write_clevr_tree(tmp_path / 'clevr')
