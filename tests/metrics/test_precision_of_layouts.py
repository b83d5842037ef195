"""Average precision of sets other than CLEVR's, by hand."""

import math

import numpy as np
import pytest

from idspn_jax.data import set_layout
from idspn_jax.metrics import average_precision
from idspn_jax.metrics import scene_scores

COLOUR = set_layout.Category('colour', ('blue', 'red'))
POINTS = set_layout.Layout(('x', 'y'), ())
COLOURS = set_layout.Layout((), (COLOUR,))
BOTH = set_layout.Layout(('x',), (COLOUR,), distance_scale=2.0)


def both(prediction, target, layout, thresholds=(math.inf, 1.0, 0.5)):
  found = average_precision.detect(
    np.asarray([prediction]), np.asarray([target]), thresholds, layout
  )
  return (
    average_precision.dataset_average_precision(found).tolist(),
    average_precision.image_average_precision(found)[0].tolist(),
  )


def test_points_are_found_by_distance_alone():
  target = [[0, 0, 1], [3, 4, 1], [9, 9, 0]]
  # The first is 0.75 away, the second exact, the third finds padding.
  prediction = [[0.75, 0, 0.9], [3, 4, 0.4], [9, 9, 0.1]]
  # Within 0.5 one of two is found, at precision 1/2.
  expected = [1.0, 1.0, 0.25]
  assert both(prediction, target, POINTS) == (expected, expected)


def test_distances_are_scaled():
  # 0.4 apart, times 2: within 1, not within 0.5.
  found = both([[0.4, 1, 0, 1.0]], [[0.0, 1, 0, 1.0]], BOTH)
  assert found == ([1, 1, 0], [1, 1, 0])
  # Another colour is never found.
  found = both([[0.0, 0.4, 0.6, 1.0]], [[0.0, 1, 0, 1.0]], BOTH)
  assert found == ([0, 0, 0], [0, 0, 0])


def test_colours_alone_are_found_as_often_as_they_occur():
  target = [[0, 1, 1.0], [0, 1, 1.0], [1, 0, 1.0]]
  found = both(target, target, COLOURS)
  assert found == ([1, 1, 1], [1, 1, 1])
  # Three red ones for two: the third, ranked second, is false.
  prediction = [[0, 1, 0.9], [0, 1, 0.8], [0, 1, 0.7], [1, 0, 0.6]]
  area = (1 + 1 + 3 / 4) / 3
  for values in both(prediction, target, COLOURS):
    assert values == pytest.approx([area] * 3)


def test_equal_elements_with_places():
  target = [[0.5, 1, 0, 1.0], [0.5, 1, 0, 1.0]]
  assert both(target, target, BOTH) == ([1, 1, 1], [1, 1, 1])
  once = set_layout.Layout(('x',), (COLOUR,), 2.0, counts_repeats=False)
  assert both(target, target, once)[0] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize('layout', [POINTS, COLOURS, BOTH])
def test_scores_of_a_perfect_prediction(layout, rng):
  shape = (6, 4)
  elements = set_layout.Elements(
    rng.normal(size=(*shape, len(layout.continuous))),
    {c.name: rng.integers(0, 2, shape) for c in layout.categories},
    np.arange(4) < rng.integers(1, 5, (6, 1)),
  )
  target = layout.encode(elements)
  found = scene_scores.scene_scores(target, target, layout=layout)
  assert found['ap_inf'] == found['ap_0.0625'] == 1
  assert found['set_size_accuracy'] == 1 and found['median_distance'] == 0
  assert ('colour_accuracy' in found) == bool(layout.categories)
  assert ('attributes_accuracy' in found) == bool(layout.categories)
  # All in one place and one colour.
  worse = scene_scores.scene_scores(
    np.where(layout.mask_of(target)[..., None], target * 0 + 1, 0),
    target,
    layout=layout,
  )
  assert worse['ap_0.0625'] < 1


def test_shapes_are_those_of_the_layout():
  with pytest.raises(ValueError, match=r'\(B, N, 3\)'):
    average_precision.detect(
      np.zeros((1, 2, 4)), np.zeros((1, 2, 4)), layout=POINTS
    )
