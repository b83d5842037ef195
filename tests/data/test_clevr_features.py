"""Features of CLEVR objects, both ways."""

import json
import pathlib

import numpy as np
import pytest

from idspn_jax.data import clevr_features
from idspn_jax.data import clevr_scenes

SMALL = pathlib.Path(__file__).parent / 'clevr_scenes_small.json'
NAMES = clevr_features.FEATURE_NAMES

CUBE = {
  '3d_coords': [1.5, -3.0, 0.75],
  'material': 'metal',
  'color': 'gray',
  'shape': 'cube',
  'size': 'small',
}
# x/3, y/3, z/3 | rubber METAL | cyan blue yellow purple red green GRAY brown
# | sphere CUBE cylinder | large SMALL | present
ROW = [
  *(0.5, -1.0, 0.25),
  *(0, 1),
  *(0, 0, 0, 0, 0, 0, 1, 0),
  *(0, 1, 0),
  *(0, 1),
  1,
]


def test_features_of_one_object_by_hand():
  found = clevr_features.features_of([CUBE], 2)
  np.testing.assert_array_equal(found, [ROW, [0] * 19])
  assert found.dtype == np.float32
  assert clevr_features.features_of([CUBE, CUBE]).shape == (2, 19)
  assert clevr_features.features_of([]).shape == (0, 19)


def test_columns_are_disjoint_and_complete():
  everything = list(range(clevr_features.NUM_FEATURES))
  columns = everything[clevr_features.COORDINATES]
  for names, group in clevr_features.ATTRIBUTES.values():
    assert len(everything[group]) == len(names)
    columns += everything[group]
  assert [*columns, clevr_features.PRESENCE] == everything
  assert len(NAMES) == len(set(NAMES)) == clevr_features.NUM_FEATURES
  assert NAMES[5] == 'color: cyan'


def test_objects_of_inverts_features_of():
  scenes = json.loads(SMALL.read_text())['scenes']
  sets = clevr_scenes.load_scenes(SMALL)
  for scene, features in zip(scenes, sets, strict=True):
    found = clevr_features.objects_of(features)
    again = clevr_features.features_of(found, 10)
    np.testing.assert_array_equal(again, features)
    assert len(found) == len(scene['objects'])
    for ours, theirs in zip(found, scene['objects'], strict=True):
      assert ours.pop('presence') == 1.0
      place = theirs['3d_coords']
      np.testing.assert_allclose(ours.pop('3d_coords'), place, rtol=1e-6)
      assert ours == {k: v for k, v in theirs.items() if k != '3d_coords'}


def test_encode_and_decode_are_inverse_for_many_sets():
  sets = clevr_scenes.load_scenes(SMALL)
  objects = clevr_features.decode(sets)
  assert objects.coordinates.shape == (12, 10, 3)
  assert objects.classes['shape'].shape == (12, 10)
  np.testing.assert_array_equal(clevr_features.encode(objects), sets)
  mask = clevr_features.mask_of(sets)
  np.testing.assert_array_equal(mask, objects.presence == 1)
  assert mask.sum(1).tolist() == [9, 4, 6, 7, 6, 7, 3, 10, 4, 6, 4, 9]


def test_classes_in_another_order_go_by_name():
  """As in data sets that number the sizes small, large."""
  theirs = ('small', 'large')
  ours = np.array([clevr_features.SIZES.index(name) for name in theirs])
  objects = clevr_features.decode(np.array([ROW, ROW]))
  sizes = ours[np.array([0, 1])]
  objects = objects._replace(classes={**objects.classes, 'size': sizes})
  found = clevr_features.objects_of(clevr_features.encode(objects))
  assert [thing['size'] for thing in found] == ['small', 'large']


def test_objects_of_takes_the_likeliest_class_and_the_present():
  features = np.zeros((4, 19))
  features[:, 18] = [0.9, 0.5, np.nan, 0.51]
  features[0, :3] = [1.0, -0.5, 0.1]
  features[0, 3:5] = [0.4, 0.3]
  features[0, 5:13] = [-1, -2, -0.5, -3, -1, -1, -1, -1]
  features[0, 13:18] = [0.0, 0.2, 0.7, 0.1, 0.2]
  first, second = clevr_features.objects_of(features)
  assert first.pop('3d_coords') == pytest.approx([3.0, -1.5, 0.3])
  assert first == {
    'material': 'rubber',
    'color': 'yellow',
    'shape': 'cylinder',
    'size': 'small',
    'presence': 0.9,
  }
  assert second['presence'] == 0.51
  assert len(clevr_features.objects_of(features, threshold=0.4)) == 3


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_scores_that_are_not_finite_name_no_class(bad):
  features = np.array([ROW])
  features[0, clevr_features.COLOR.start + 6] = bad
  (found,) = clevr_features.objects_of(features)
  assert found['color'] is None and found['shape'] == 'cube'
  classes = clevr_features.decode(features).classes
  assert classes['color'].tolist() == [-1]


@pytest.mark.parametrize('shape', [(19,), (2, 18), (1, 10, 19)])
def test_objects_of_wants_one_set(shape):
  with pytest.raises(ValueError, match=r'\(N, 19\)'):
    clevr_features.objects_of(np.zeros(shape))


def test_rows_without_an_object_may_hold_anything():
  classes = {key: np.array([99]) for key in clevr_features.ATTRIBUTES}
  objects = clevr_features.Objects(
    np.full((1, 3), np.nan), classes, np.zeros(1)
  )
  np.testing.assert_array_equal(clevr_features.encode(objects), 0.0)


def test_encode_refuses_what_does_not_fit():
  objects = clevr_features.decode(np.array([ROW]))
  for change, words in (
    ({'coordinates': np.zeros((2, 3))}, 'coordinates'),
    ({'classes': {**objects.classes, 'color': np.zeros(2, int)}}, 'color'),
    ({'classes': {**objects.classes, 'size': np.array([2])}}, '0 to 1.*got 2'),
  ):
    with pytest.raises(ValueError, match=words):
      clevr_features.encode(objects._replace(**change))


def test_features_of_names_the_object():
  with pytest.raises(ValueError, match="object 1: 'color' is 'pink'"):
    clevr_features.features_of([CUBE, CUBE | {'color': 'pink'}])
  with pytest.raises(ValueError, match='2 objects do not fit into 1 rows'):
    clevr_features.features_of([CUBE, CUBE], 1)
