"""The paper's two notions of equivariance, as programs.

Definitions 1 and 2 of Section 2.2 quantify over permutation matrices; for a
small multiset they can all be tried. Proposition 1, `push_apart` and the
claims of Section 2.3 and Appendix A are then ordinary tests.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.metrics import equivariance
from idspn_jax.modules import set_decoder
from idspn_jax.modules import set_encoders
from idspn_jax.ops import fspool


@pytest.fixture(autouse=True)
def in_float64(x64):
  pass


def is_set_equivariant(f, x, tolerance=1e-9):
  """Definition 1, over all permutations."""
  every = equivariance.all_permutations(len(x))
  return equivariance.set_equivariance_error(f, x, every) <= tolerance


def is_multiset_equivariant(f, x, tolerance=1e-9):
  """Definition 2, over all permutations."""
  every = equivariance.all_permutations(len(x))
  return equivariance.multiset_equivariance_error(f, x, every) <= tolerance


def is_multiset_equivariant_by_enumeration(f, x, tolerance=1e-9):
  """Definition 2 word for word: tries every P2 for every P1."""
  every = equivariance.all_permutations(len(x))
  outputs = np.asarray(f(x[every]))
  images = outputs[0][every]
  for p1, output in zip(every, outputs, strict=True):
    same_input = np.all(x[p1] == x[every], axis=(1, 2))
    close = np.abs(images - output) <= tolerance
    if not np.any(same_input & np.all(close, axis=(1, 2))):
      return False
  return True


def is_exclusively_multiset_equivariant(f, x):
  """Multiset-equivariant on X, but not set-equivariant (Section 2.2)."""
  return is_multiset_equivariant(f, x) and not is_set_equivariant(f, x)


DISTINCT = np.array([[0.3, -1.0], [0.1, 0.4], [-0.8, 0.2], [0.5, 0.6]])
ONE_PAIR = DISTINCT[[0, 1, 0, 2]]
TWO_PAIRS = DISTINCT[[0, 1, 1, 0]]
TRIPLE = DISTINCT[[2, 2, 3, 2]]
ALL_EQUAL = DISTINCT[[1, 1, 1, 1]]
WITH_DUPLICATES = (ONE_PAIR, TWO_PAIRS, TRIPLE, ALL_EQUAL)


def push_apart(x):
  """`X + ∇ sort(X)·[-1, 1]`, batched over pairs of numbers (Appendix A)."""

  def g(x):
    return jnp.sum(fspool.fspool(x, jnp.array([[-1.0], [1.0]])))

  return x + jax.grad(g)(jnp.asarray(x))


def sorting_jacobian(x):
  """The gradient of sorted features with distinct weights."""
  weight = jnp.asarray(1.0 + np.arange(x.shape[1] * 2).reshape(-1, 2) ** 2)
  return jax.grad(lambda x: jnp.sum(fspool.fspool(x, weight)))(jnp.asarray(x))


@pytest.mark.parametrize(
  'x,y', (([1, 2], [0, 3]), ([2, 1], [3, 0]), ([0, 0], [-1, 1]))
)
def test_push_apart_from_the_gradient_of_sorting(x, y):
  pair = np.array(x, float).reshape(1, 2, 1)
  np.testing.assert_array_equal(push_apart(pair)[0, :, 0], y)


def test_push_apart_is_exclusively_multiset_equivariant():
  assert is_set_equivariant(push_apart, np.array([[1.0], [2.0]]))
  assert is_exclusively_multiset_equivariant(push_apart, np.zeros((2, 1)))


def test_the_jacobian_of_sorting_is_exclusively_multiset_equivariant():
  """Proposition 2 and the counterexample of Appendix A.1."""
  assert is_set_equivariant(sorting_jacobian, DISTINCT)
  for x in WITH_DUPLICATES:
    assert is_exclusively_multiset_equivariant(sorting_jacobian, x)


def test_the_definitions_tell_functions_apart():
  def elementwise(x):
    return x**2 - np.mean(x, axis=1, keepdims=True)

  def first_is_special(x):
    return x + np.arange(x.shape[1])[:, None]

  def constant_list(x):
    return np.broadcast_to(np.arange(x.shape[1])[:, None] * 1.0, x.shape)

  for x in (DISTINCT, *WITH_DUPLICATES):
    assert is_set_equivariant(elementwise, x)
    assert is_multiset_equivariant(elementwise, x)
    for f in (elementwise, first_is_special, constant_list, sorting_jacobian):
      assert is_multiset_equivariant(
        f, x
      ) == is_multiset_equivariant_by_enumeration(f, x)
  for x in (DISTINCT, *WITH_DUPLICATES[:-1]):
    assert not is_multiset_equivariant(first_is_special, x)
    assert not is_multiset_equivariant(constant_list, x)
  # Where all elements are equal, any order of the output will do.
  assert is_exclusively_multiset_equivariant(constant_list, ALL_EQUAL)


def decoder_of(pool, variables_of):
  """The set decoder as a function of its initial set."""
  module = set_decoder.SetDecoder(
    set_encoders.SetEncoder(8, 6, pool=pool),
    set_size=4,
    set_dim=2,
    iterations=5,
    initial_set='given',
  )
  z = jnp.asarray(np.random.default_rng(5).normal(size=(24, 6))[:1])
  z = jnp.broadcast_to(z, (24, 6))
  start = jnp.zeros((24, 4, 2))
  variables = variables_of(module, z, initial_set=start)

  @jax.jit
  def decode(initial_sets):
    own = jnp.broadcast_to(z[:1], (len(initial_sets), 6))
    return module.apply(variables, own, initial_set=initial_sets)

  return decode


@pytest.mark.parametrize('pool', ('sum', 'mean', 'max'))
def test_decoding_without_sorting_is_set_equivariant(pool, variables_of):
  """And so keeps equal elements equal (Proposition 1)."""
  decode = decoder_of(pool, variables_of)
  for x in (DISTINCT, *WITH_DUPLICATES):
    assert is_set_equivariant(decode, x)
    assert is_multiset_equivariant(decode, x)
  y = np.asarray(decode(np.broadcast_to(TWO_PAIRS, (24, 4, 2))))[0]
  np.testing.assert_allclose(y[0], y[3], atol=1e-12)
  np.testing.assert_allclose(y[1], y[2], atol=1e-12)
  assert np.any(np.abs(y[0] - y[1]) > 1e-3)


@pytest.mark.parametrize('pool', ('fs', 'rnfs'))
def test_decoding_with_sorting_is_exclusively_multiset_equivariant(
  pool, variables_of
):
  """And so can tell equal elements apart (Section 2.3)."""
  decode = decoder_of(pool, variables_of)
  assert is_set_equivariant(decode, DISTINCT)
  for x in WITH_DUPLICATES:
    assert is_exclusively_multiset_equivariant(decode, x)
