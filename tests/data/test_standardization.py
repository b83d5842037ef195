"""Standardisation in float64: what float32 would lose, and every extreme."""

import numpy as np
import pytest

from idspn_jax.data import set_files
from idspn_jax.data import standardization

SIZES = np.full(40, 5)
SHAPE = (40, 5, 2)


def _noise():
  return np.random.default_rng(0).normal(size=SHAPE)


def _prepared(folder, sets):
  """From a file to what a model gets."""
  path = folder / 'sets.npz'
  np.savez(path, sets=sets, sizes=SIZES)
  file = set_files.load_set_file(path)
  fitted = standardization.fit(file.sets, file.sizes)
  found = fitted.apply(file.sets)
  return fitted, standardization.to_float32(found, file.sizes), file


def test_by_hand():
  sets = np.array([[[1.0, 7.0], [3.0, 7.0]], [[5.0, 7.0], [np.nan, 99.0]]])
  found = standardization.fit(sets, np.array([2, 1]))
  np.testing.assert_allclose(found.mean, [3.0, 7.0])
  np.testing.assert_allclose(found.std, [np.sqrt(8 / 3), 1.0])
  assert found.mean.dtype == found.std.dtype == np.float64
  applied = found.apply(sets[:1])
  np.testing.assert_allclose(applied, [[[-2 / found.std[0], 0], [0, 0]]])
  np.testing.assert_allclose(found.invert(applied), sets[:1])


@pytest.mark.parametrize(
  'sets',
  [
    1e6 + 0.01 * _noise(),
    1_700_000_000 + np.random.default_rng(0).integers(0, 60, SHAPE),
    2**53 - np.random.default_rng(0).integers(0, 60, SHAPE),
    1e25 * _noise(),
    1e200 * _noise(),
    1e307 * np.clip(_noise(), -3, 3),
    1e-310 * _noise(),
    5e-324 * np.random.default_rng(0).integers(0, 2, SHAPE),
    _noise().astype(np.float16),
  ],
  ids=lambda sets: f'{sets.dtype}-{np.max(sets):.3g}',
)
def test_every_distinct_value_is_kept(tmp_path, sets):
  fitted, found, file = _prepared(tmp_path, sets)
  assert found.dtype == np.float32
  for d in range(2):
    assert len(np.unique(found[..., d])) == len(np.unique(sets[..., d]))
  tiny = np.max(np.abs(sets)) < 1e-320
  np.testing.assert_allclose(found.std((0, 1)), 1, atol=0.6 if tiny else 1e-5)
  back = fitted.invert(fitted.apply(file.sets))
  np.testing.assert_allclose(back, file.sets, rtol=1e-9)


def test_unix_seconds_have_their_own_standard_deviation(tmp_path):
  seconds = np.random.default_rng(0).integers(0, 60, SHAPE)
  fitted, _, _ = _prepared(tmp_path, 1_700_000_000 + seconds)
  np.testing.assert_allclose(fitted.std, seconds.std((0, 1)), rtol=1e-12)
  mean = fitted.mean - 1_700_000_000
  np.testing.assert_allclose(mean, seconds.mean((0, 1)), atol=1e-6)


@pytest.mark.parametrize('value', [0.1, 0.0, -1e200, 1e-310, 2**53])
def test_constant_features_get_one(value):
  """The usual formula gives 0.1 a standard deviation of 1e-17."""
  found = standardization.fit(np.full(SHAPE, value), SIZES)
  np.testing.assert_array_equal(found.std, 1.0)
  np.testing.assert_array_equal(found.mean, value)
  np.testing.assert_array_equal(found.apply(np.full(SHAPE, value)), 0.0)


def test_sets_without_elements():
  found = standardization.fit(np.full(SHAPE, np.nan), np.zeros(40, int))
  np.testing.assert_array_equal(found, standardization.identity(2))


def test_padding_counts_for_nothing(rng):
  sets, sizes = rng.normal(size=(30, 4, 2)), rng.integers(0, 5, 30)
  elements = sets[set_files.mask_of(sizes, 4)]
  sets[~set_files.mask_of(sizes, 4)] = np.inf
  found = standardization.fit(sets, sizes)
  np.testing.assert_allclose(found.mean, elements.mean(0))
  np.testing.assert_allclose(found.std, elements.std(0))


def test_what_is_not_finite_is_refused():
  sets = np.zeros(SHAPE)
  sets[3, 1, 1] = np.inf
  with pytest.raises(ValueError, match='Set 3, element 1, feature 1 is inf'):
    standardization.fit(sets, SIZES)


def test_wider_than_float64():
  sets = np.zeros(SHAPE)
  sets[0, :2, 1] = [-1.7e308, 1.7e308]
  with pytest.raises(ValueError, match='Feature 1 spans -1.7e.308 to 1.7e'):
    standardization.fit(sets, SIZES)


def test_other_data_beyond_the_range():
  fitted = standardization.fit(1e-300 * _noise(), SIZES)
  other = np.zeros(SHAPE)
  other[2, 4, 1] = 1e20
  with pytest.raises(ValueError, match=r'1e\+20 at \(2, 4, 1\) .* feature 1'):
    fitted.apply(other)
  with pytest.raises(ValueError, match='Set 2, element 4, .*float32'):
    standardization.to_float32(fitted.apply(1e-250 * other), SIZES)


def test_predictions_that_are_not_finite_stay_so():
  fitted = standardization.Standardization(np.ones(1), np.full(1, 2.0))
  found = fitted.invert(np.array([[np.nan], [np.inf], [1.0]], np.float32))
  np.testing.assert_array_equal(found, [[np.nan], [np.inf], [3.0]])


def test_other_features_are_refused():
  fitted = standardization.identity(2)
  for method in (fitted.apply, fitted.invert):
    with pytest.raises(ValueError, match='for 2 features; got .*3, 1'):
      method(np.zeros((3, 1)))


def test_padding_becomes_zero():
  sets = np.full((2, 2, 1), 1e300)
  found = standardization.to_float32(sets * 0 + 1e300, np.array([0, 0]))
  np.testing.assert_array_equal(found, np.zeros((2, 2, 1)))


def test_raw_data_that_need_standardisation_are_named():
  check = standardization.check_float32
  with pytest.raises(ValueError, match='feature 0 by up to 0.03.* 0.0098'):
    check(1e6 + 0.01 * _noise(), SIZES)
  with pytest.raises(ValueError, match='beyond the range of float32'):
    check(np.full(SHAPE, 1e200), SIZES)
  check(_noise() + 100, SIZES)
  check(np.full(SHAPE, 1e9 / 3), SIZES)  # Constant: there is nothing to lose.
  check(np.full(SHAPE, np.nan), np.zeros(40, int))
