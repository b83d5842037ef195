"""Scenes are drawn once; damaged files and full disks do no harm."""

import numpy as np
import pytest

from idspn_jax.data import scene_store

SHAPE = (3, 2, 19)


class Drawing:
  """Counts how often scenes are drawn."""

  def __init__(self):
    self.times = 0

  def __call__(self):
    self.times += 1
    return np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)


def test_scenes_are_drawn_once(tmp_path):
  draw = Drawing()
  path = tmp_path / 'folder/scenes.npz'
  for _ in range(3):
    found = scene_store.stored_scenes(path, SHAPE, draw)
    np.testing.assert_array_equal(found, Drawing()())
    assert found.dtype == np.float32
  assert draw.times == 1
  assert [p.name for p in path.parent.iterdir()] == ['scenes.npz']


@pytest.mark.parametrize('content', [b'', b'text', 0.5])
def test_a_damaged_file_is_replaced(content, tmp_path):
  path, draw = tmp_path / 'scenes.npz', Drawing()
  scene_store.stored_scenes(path, SHAPE, draw)
  whole = path.read_bytes()
  path.write_bytes(whole[: len(whole) // 2] if content == 0.5 else content)
  for _ in range(2):
    found = scene_store.stored_scenes(path, SHAPE, draw)
    np.testing.assert_array_equal(found, Drawing()())
  assert draw.times == 2


def test_another_shape_is_replaced(tmp_path):
  path, draw = tmp_path / 'scenes.npz', Drawing()
  np.savez(path, features=np.zeros((1, 2, 19), np.float32))
  scene_store.stored_scenes(path, SHAPE, draw)
  scene_store.stored_scenes(path, SHAPE, draw)
  assert draw.times == 1


def test_where_nothing_can_be_written_scenes_are_drawn_again(tmp_path):
  (tmp_path / 'file').write_text('')
  draw = Drawing()
  for _ in range(2):
    scene_store.stored_scenes(tmp_path / 'file/scenes.npz', SHAPE, draw)
  assert draw.times == 2
