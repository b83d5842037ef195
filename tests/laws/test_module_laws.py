"""Laws that every set module keeps: one list of modules, many laws.

To put a module under the laws, add it to `MODULES`.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.modules import autoencoder
from idspn_jax.modules import deep_sets
from idspn_jax.modules import lstm
from idspn_jax.modules import set_decoder
from idspn_jax.modules import set_encoders
from idspn_jax.modules import transformer
from idspn_jax.ops import simplex
from idspn_jax.solvers import gradients

B, N, D = 3, 4, 3


class Entry(NamedTuple):
  """A module and which laws it has to keep.

  Attributes:
    build: makes the module, from `(B, N, D)` to a row or a set per set.
    invariant: the order of the input's elements does not matter.
    masked: takes a mask, and what padded rows hold does not matter.
  """

  build: Callable[[], nn.Module]
  invariant: bool = True
  masked: bool = False


def encoder(pool='fs', **options):
  return set_encoders.SetEncoder(6, 5, pool=pool, **options)


def auto(pool='fs', conditioned=False, **options):
  decoder = set_decoder.SetDecoder(
    encoder(pool),
    set_size=N,
    set_dim=D,
    iterations=3,
    initial_set='learned',
    regularizer=0.1,
    **options,
  )
  return autoencoder.SetAutoencoder(encoder(), decoder, conditioned)


MODULES = {
  'fs': Entry(encoder),
  'fs by autodiff': Entry(lambda: encoder('fs_autodiff')),
  'fs any size': Entry(lambda: encoder(pieces=3), masked=True),
  'rnfs': Entry(lambda: encoder('rnfs')),
  'rnfs any size': Entry(lambda: encoder('rnfs', pieces=3), masked=True),
  'sum': Entry(lambda: encoder('sum'), masked=True),
  'mean': Entry(lambda: encoder('mean'), masked=True),
  'max': Entry(lambda: encoder('max'), masked=True),
  'iDSPN': Entry(auto),
  'iDSPN, sum': Entry(lambda: auto('sum')),
  'iDSPN, exact': Entry(lambda: auto(gradient=gradients.ConjugateGradient())),
  'iDSPN on the simplex': Entry(
    lambda: auto(projection=simplex.project_simplex)
  ),
  'iDSPN, conditioned': Entry(lambda: auto(conditioned=True), invariant=False),
  'iDSPN, until converged': Entry(lambda: auto(tolerance=1e-3, grad_clip=1.0)),
  'DSPN': Entry(lambda: auto(gradient=gradients.Unrolled())),
  'DeepSets': Entry(
    lambda: deep_sets.EquivariantDeepSets(6, N), invariant=False
  ),
  'Transformer': Entry(
    lambda: transformer.SetTransformer(8, N), invariant=False
  ),
  'Transformer with PE': Entry(
    lambda: transformer.SetTransformer(8, N, 'sinusoidal'), invariant=False
  ),
  'BiLSTM': Entry(lambda: lstm.BidirectionalLSTM(6, N), invariant=False),
}

# Eager runs compile every operation by itself; these two cover most code.
EAGER = ('fs any size', 'iDSPN on the simplex')


def named(names):
  return pytest.mark.parametrize('name', list(names))


def sets(seed=0, batch=B, dtype=np.float32):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(batch, N, D)).astype(dtype)


@pytest.fixture(scope='module')
def built(variables_of):
  """Gives a module, its variables and its compiled `apply`, made once."""

  @functools.cache
  def make(name):
    module = MODULES[name].build()
    variables = variables_of(module, jnp.asarray(sets()))
    return module, variables, jax.jit(module.apply)

  return make


def assert_close(a, b):
  np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@named(EAGER)
def test_jit_equals_eager(built, name):
  module, variables, apply = built(name)
  assert_close(module.apply(variables, sets()), apply(variables, sets()))


@named(MODULES)
def test_vmap_equals_batch(built, name):
  module, variables, apply = built(name)

  def one(x):
    return module.apply(variables, x[None])[0]

  mapped = jax.jit(jax.vmap(one))(sets())
  assert_close(mapped, apply(variables, sets()))


@named(MODULES)
def test_sets_of_a_batch_do_not_meet(built, name):
  _, variables, apply = built(name)
  other = sets()
  other[1], other[2] = np.nan, 1e3 * other[2]
  assert_close(apply(variables, other)[0], apply(variables, sets())[0])


@named(k for k, v in MODULES.items() if v.invariant)
def test_order_does_not_matter(built, name):
  _, variables, apply = built(name)
  expected = apply(variables, sets())
  for order in ([3, 2, 1, 0], [1, 3, 0, 2]):
    assert_close(apply(variables, sets()[:, order]), expected)


@named(k for k, v in MODULES.items() if v.masked)
@pytest.mark.parametrize('garbage', (1e6, np.nan))
def test_padding_does_not_matter(built, name, garbage):
  module, variables, apply = built(name)
  mask = np.array([[1, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 1]], bool)
  x = sets()
  clean = apply(variables, np.where(mask[..., None], x, 0.0), mask)
  x[~mask] = garbage

  @jax.jit
  def value_and_gradients(variables, x):
    out, pull = jax.vjp(lambda v, x: module.apply(v, x, mask), variables, x)
    return out, *pull(jnp.ones_like(out))

  out, _, dx = value_and_gradients(variables, x)
  assert_close(out, clean)
  assert_close(out[2], apply(variables, x)[2])
  np.testing.assert_array_equal(np.asarray(dx)[~mask], 0.0)
  assert np.all(np.isfinite(dx))


@named(MODULES)
def test_precision_is_kept(built, name, x64):
  """Nothing is promoted to float64 or rounded to float32 on the way."""
  module, variables, _ = built(name)
  for dtype in (np.float32, np.float64):
    cast = jax.tree.map(lambda a, dtype=dtype: a.astype(dtype), variables)
    x = jnp.asarray(sets(dtype=dtype))
    # Shapes and dtypes follow from tracing; nothing has to run.
    out, g = jax.eval_shape(
      lambda v, x: jax.value_and_grad(
        lambda v: jnp.sum(module.apply(v, x) ** 2)
      )(v),
      cast,
      x,
    )
    assert out.dtype == dtype
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(g))


@named(MODULES)
def test_every_parameter_gets_a_finite_gradient(built, name):
  module, variables, _ = built(name)
  g = jax.jit(jax.grad(lambda v: jnp.sum(jnp.square(module.apply(v, sets())))))(
    variables
  )
  for path, leaf in jax.tree.leaves_with_path(g):
    assert np.all(np.isfinite(leaf)), path
    assert np.any(leaf != 0), path
