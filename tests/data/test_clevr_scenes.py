"""CLEVR scene files, and every way in which one can be wrong."""

import copy
import json
import pathlib

import numpy as np
import pytest

from idspn_jax.data import clevr_features
from idspn_jax.data import clevr_scenes

SMALL = pathlib.Path(__file__).parent / 'clevr_scenes_small.json'

CUBE = {
  '3d_coords': [1.5, -3.0, 0.75],
  'material': 'metal',
  'color': 'gray',
  'shape': 'cube',
  'size': 'small',
}


def _write(folder, content):
  path = folder / 'scenes.json'
  path.write_text(json.dumps(content))
  return path


def _scenes(*objects):
  first = {'image_filename': 'a.png', 'objects': [CUBE]}
  second = {'image_filename': 'b.png', 'objects': [CUBE, *objects]}
  return {'scenes': [first, second]}


def _message(path, **options):
  with pytest.raises(ValueError) as caught:
    clevr_scenes.load_scenes(path, **options)
  message = str(caught.value)
  assert '\n' not in message
  assert str(path) in message
  assert len(message) < 400
  return message


def test_features_of_one_object_by_hand(tmp_path):
  sets = clevr_scenes.load_scenes(_write(tmp_path, _scenes()), max_objects=2)
  expected = np.zeros((2, 2, 19), np.float32)
  # x/3, y/3, z/3 | rubber METAL | cyan blue yellow purple red green GRAY brown
  # | sphere CUBE cylinder | large SMALL | present
  expected[:, 0] = [
    *(0.5, -1.0, 0.25),
    *(0, 1),
    *(0, 0, 0, 0, 0, 0, 1, 0),
    *(0, 1, 0),
    *(0, 1),
    1,
  ]
  np.testing.assert_array_equal(sets, expected)
  assert sets.dtype == np.float32


def test_real_scenes_have_counts_and_zero_padding():
  sets = clevr_scenes.load_scenes(SMALL)
  assert sets.shape == (12, 10, 19)
  presence = sets[..., clevr_features.PRESENCE]
  assert presence.sum(1).tolist() == [9, 4, 6, 7, 6, 7, 3, 10, 4, 6, 4, 9]
  assert not sets[presence == 0].any()
  for _, columns in clevr_features.ATTRIBUTES.values():
    np.testing.assert_array_equal(sets[..., columns].sum(-1), presence)


def test_a_scene_without_objects_is_an_empty_set(tmp_path):
  path = _write(tmp_path, {'scenes': [{'objects': []}]})
  np.testing.assert_array_equal(clevr_scenes.load_scenes(path), 0.0)


def test_further_keys_and_a_byte_order_mark_are_ignored(tmp_path):
  path = tmp_path / 'scenes.json'
  content = _scenes(CUBE | {'rotation': 3.0, 'pixel_coords': [1, 2, 3]})
  path.write_text('\ufeff' + json.dumps(content), 'utf-8')
  assert clevr_scenes.load_scenes(path)[1].sum(0)[18] == 2.0


def test_missing_file_and_directory(tmp_path):
  assert 'no such file' in _message(tmp_path / 'absent.json')
  assert 'cannot be read' in _message(tmp_path)


@pytest.mark.parametrize(
  'text', ['', '{"scenes": [', 'scenes', b'\xff\xfe', '[' * 200_000]
)
def test_not_json(tmp_path, text):
  path = tmp_path / 'scenes.json'
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  assert 'not valid JSON' in _message(path)


def test_truncated_real_file(tmp_path):
  text = SMALL.read_text()
  path = tmp_path / 'scenes.json'
  path.write_text(text[: len(text) // 2])
  assert 'not valid JSON' in _message(path)


@pytest.mark.parametrize(
  'content', [{'questions': []}, [], 3, {'scenes': {}}, {'scenes': None}]
)
def test_no_scenes(tmp_path, content):
  assert "no list 'scenes'" in _message(_write(tmp_path, content))


def test_empty_scenes(tmp_path):
  assert 'is empty' in _message(_write(tmp_path, {'scenes': []}))


def test_scene_without_objects_key(tmp_path):
  content = _scenes()
  del content['scenes'][1]['objects']
  message = _message(_write(tmp_path, content))
  assert "scene 1 ('b.png'): no list 'objects'" in message
  message = _message(_write(tmp_path, {'scenes': ['a\nb']}))
  assert 'scene 0' in message and 'is not a scene' in message


@pytest.mark.parametrize('key', list(CUBE))
def test_missing_key(tmp_path, key):
  broken = {k: v for k, v in CUBE.items() if k != key}
  message = _message(_write(tmp_path, _scenes(broken)))
  assert f"scene 1 ('b.png'), object 1: {key!r} is missing" in message


@pytest.mark.parametrize('key', ['material', 'color', 'shape', 'size'])
@pytest.mark.parametrize('value', ['pi\nnk', 'Red', '', None, 3, ['red']])
def test_unknown_class_lists_the_allowed_ones(tmp_path, key, value):
  message = _message(_write(tmp_path, _scenes(CUBE | {key: value})))
  assert f"scene 1 ('b.png'), object 1: {key!r} is {value!r}" in message
  for name in clevr_features.ATTRIBUTES[key][0]:
    assert name in message


@pytest.mark.parametrize(
  'value',
  [
    [1.0, 2.0],
    [1.0, 2.0, 3.0, 4.0],
    [1.0, 2.0, float('nan')],
    [1.0, 2.0, float('-inf')],
    [1.0, 2.0, 1e300],
    [1.0, 2.0, 10**400],
    [1.0, 2.0, '3.0'],
    [1.0, 2.0, True],
    [1.0, 2.0, None],
    {'x': 1.0},
    'abc',
    [0.0] * 100_000,
  ],
)
def test_wrong_coordinates(tmp_path, value):
  content = _scenes(CUBE | {'3d_coords': value})
  message = _message(_write(tmp_path, content))
  assert "scene 1 ('b.png'), object 1: '3d_coords' is " in message
  assert 'three finite numbers' in message


def test_object_that_is_none(tmp_path):
  message = _message(_write(tmp_path, _scenes([1, 2])))
  assert 'object 1: [1, 2] is not an object' in message


def test_eleven_objects(tmp_path):
  content = _scenes(*[CUBE] * 10)
  path = _write(tmp_path, content)
  message = _message(path)
  assert "scene 1 ('b.png'): 11 objects" in message
  assert 'at most 10' in message and 'max_objects' in message
  assert clevr_scenes.load_scenes(path, max_objects=11).shape == (2, 11, 19)


def test_scene_without_a_file_name_is_named_by_its_index(tmp_path):
  content = copy.deepcopy(_scenes(CUBE | {'color': 'pink'}))
  del content['scenes'][1]['image_filename']
  assert 'scene 1, object 1:' in _message(_write(tmp_path, content))
