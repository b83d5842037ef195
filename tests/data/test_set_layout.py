"""Columns of elements: round trips, unknown classes, JSON."""

import numpy as np
import pytest

from idspn_jax.data import clevr_features
from idspn_jax.data import set_layout

LAYOUT = set_layout.Layout(
  ('x', 'y'),
  (
    set_layout.Category('colour', ('blue', 'red', 'teal')),
    set_layout.Category('kind', ('a', 'b')),
  ),
)


def make_elements(rng, shape=(4, 3)):
  presence = (rng.random(shape) < 0.7).astype(float)
  classes = {
    'colour': rng.integers(0, 3, shape),
    'kind': rng.integers(0, 2, shape),
  }
  return set_layout.Elements(rng.normal(size=(*shape, 2)), classes, presence)


def test_columns():
  assert LAYOUT.num_features == 8 and LAYOUT.presence == 7
  assert LAYOUT.values == slice(0, 2)
  assert LAYOUT.columns == {'colour': slice(2, 5), 'kind': slice(5, 7)}


def test_of_clevr_is_that_of_its_features():
  layout = clevr_features.LAYOUT
  assert layout.num_features == clevr_features.NUM_FEATURES
  assert layout.presence == clevr_features.PRESENCE
  assert layout.values == clevr_features.COORDINATES
  assert layout.columns == {
    key: columns for key, (_, columns) in clevr_features.ATTRIBUTES.items()
  }


def test_encoding_is_undone(rng):
  elements = make_elements(rng)
  features = LAYOUT.encode(elements)
  mask = elements.presence > 0
  np.testing.assert_array_equal(features[~mask], 0)
  np.testing.assert_array_equal(LAYOUT.mask_of(features), mask)
  found = LAYOUT.decode(features)
  np.testing.assert_array_equal(found.values[mask], elements.values[mask])
  np.testing.assert_array_equal(found.presence, elements.presence)
  for name, classes in elements.classes.items():
    np.testing.assert_array_equal(found.classes[name][mask], classes[mask])


def test_scores_that_are_not_finite_have_no_class():
  features = np.ones((1, 2, 8))
  features[0, 0, 3] = np.nan
  found = LAYOUT.decode(features).classes
  assert found['colour'].tolist() == [[-1, 0]]
  assert found['kind'].tolist() == [[0, 0]]


@pytest.mark.parametrize(
  'layout', [LAYOUT, set_layout.Layout(('x',), ()), clevr_features.LAYOUT]
)
def test_json(layout):
  found = set_layout.from_json(layout.to_json())
  assert found.to_json() == layout.to_json()
  assert found.columns == layout.columns


@pytest.mark.parametrize(
  'content',
  [
    [],
    {'continuous': ['x']},
    {'continuous': 'x', 'categories': {}},
    {'continuous': [], 'categories': {'a': []}},
    {'continuous': [], 'categories': ['a']},
  ],
)
def test_json_of_something_else(content):
  with pytest.raises(ValueError, match='layout'):
    set_layout.from_json(content)


def test_what_does_not_fit(rng):
  elements = make_elements(rng)
  with pytest.raises(ValueError, match='8'):
    LAYOUT.decode(np.zeros((2, 7)))
  with pytest.raises(ValueError, match='values'):
    LAYOUT.encode(elements._replace(values=np.zeros((4, 3, 1))))
  with pytest.raises(ValueError, match='colour'):
    wrong = {**elements.classes, 'colour': np.full((4, 3), 3)}
    LAYOUT.encode(elements._replace(classes=wrong))


class TestMargins:
  def test_of_encoded_elements_are_one(self, rng):
    features = LAYOUT.encode(make_elements(rng))
    np.testing.assert_array_equal(LAYOUT.margins(features), np.ones((4, 3)))

  def test_are_those_of_the_least_clear_part(self):
    #            x  y  blue red  teal  a    b   presence
    rows = [
      [0, 0, 0.9, 0.2, 0.1, 0.0, 1.0, 1.0],
      [0, 0, 0.1, 0.2, 0.9, 0.6, 0.5, 1.0],
      [0, 0, 0.1, 0.2, 0.9, 1.0, 0.1, 0.6],
      # Of a row that is no element only the presence counts.
      [0, 0, 0.3, 0.3, 0.3, 0.5, 0.5, 0.1],
    ]
    found = LAYOUT.margins(np.asarray([rows, rows[::-1]]))
    expected = [0.7, 0.1, 0.2, 0.8]
    np.testing.assert_allclose(found, [expected, expected[::-1]], atol=1e-12)

  def test_scores_that_are_not_finite_have_none(self):
    features = np.ones((3, 8))
    features[0, 3] = np.nan
    features[1, 0] = np.inf
    assert np.isnan(LAYOUT.margins(features)).tolist() == [True, True, False]

  def test_categories_of_one_class_do_not_count(self):
    layout = set_layout.Layout(('x',), (set_layout.Category('k', ('a',)),))
    np.testing.assert_allclose(layout.margins(np.array([[0, 0.1, 0.75]])), 0.5)
