"""The cache of pictures: whole, resumable, refused when it is another."""

import pickle

import numpy as np
import pytest

from idspn_jax.data import picture_cache
from idspn_jax.render import rendered_pictures


@pytest.fixture
def made(monkeypatch):
  """Replaces rendering by numbers; lists the parts that were made."""
  calls = []

  def render(description, first, count):
    calls.append(first)
    numbers = np.arange(first, first + count)
    pictures = np.broadcast_to(
      (numbers % 251).astype(np.uint8)[:, None, None, None],
      (count, description.height, description.width, 3),
    )
    features = np.broadcast_to(
      numbers.astype(np.float32)[:, None, None], (count, 10, 19)
    )
    return pictures, features

  monkeypatch.setattr(rendered_pictures.Description, 'render', render)
  return calls


DESCRIPTION = rendered_pictures.Description('train', 1203, 8, 8)


class TestMake:
  def test_pictures_are_read_by_number(self, tmp_path, made):
    found = rendered_pictures.make(tmp_path / 'train', DESCRIPTION)
    assert len(found) == 1203
    numbers = np.array([1202, 0, 500, 499])
    pictures, features = found[numbers]
    assert pictures.shape == (4, 8, 8, 3) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures[:, 0, 0, 0], numbers % 251)
    np.testing.assert_array_equal(features[:, 3, 5], numbers)
    with pytest.raises(IndexError, match='0 to 1202'):
      _ = found[np.array([1203])]

  def test_only_what_is_missing_is_made_again(self, tmp_path, made):
    rendered_pictures.make(tmp_path, DESCRIPTION)
    assert made == [0, 500, 1000]
    (tmp_path / 'features_00001.npy').unlink()
    with pytest.raises(ValueError, match='1 of its parts'):
      rendered_pictures.RenderedPictures(tmp_path)
    rendered_pictures.make(tmp_path, DESCRIPTION)
    assert made == [0, 500, 1000, 500]

  def test_other_pictures_are_refused(self, tmp_path, made):
    rendered_pictures.make(tmp_path, DESCRIPTION)
    other = rendered_pictures.Description('train', 1203, 16, 8)
    with pytest.raises(ValueError, match='width is 8 there, not 16'):
      rendered_pictures.make(tmp_path, other)

  def test_no_part_is_half_written(self, tmp_path, made, monkeypatch):
    def fail(f, array):
      f.write(b'half')
      raise OSError('disk full')

    monkeypatch.setattr(np, 'save', fail)
    with pytest.raises(OSError, match='disk full'):
      rendered_pictures.make(tmp_path, DESCRIPTION)
    assert [p.name for p in tmp_path.iterdir()] == ['description.json']


class TestPictures:
  """The protocol `picture_cache.Pictures`."""

  def test_are_those_of_the_numbers(self, tmp_path, made):
    found = rendered_pictures.make(tmp_path, DESCRIPTION)
    assert len(found.names) == len(found) == 1203
    assert found.names[1202] == 'CLEVR_train_001202.png'
    assert found.targets.shape == (1203, 10, 19)
    assert found.targets.dtype == np.float32
    for number in (0, 499, 500, 1202):
      picture = found.picture(number, 8)
      pictures, features = found[np.array([number])]
      np.testing.assert_array_equal(picture, pictures[0])
      np.testing.assert_array_equal(found.targets[number], features[0])
      assert picture.dtype == np.uint8 and picture.flags.writeable
    for number in (-1, 1203):
      with pytest.raises(IndexError, match='0 to 1202'):
        found.picture(number, 8)

  def test_can_be_cached(self, tmp_path, made):
    found = rendered_pictures.make(tmp_path / 'made', DESCRIPTION)
    picture_cache.write(found, tmp_path / 'cache', 'train', 8)
    cached = picture_cache.CachedPictures(tmp_path / 'cache', 'train', 8)
    assert list(cached.names) == found.names
    np.testing.assert_array_equal(cached.targets, found.targets)
    np.testing.assert_array_equal(cached.picture(700, 8), found.picture(700, 8))

  def test_another_size_is_refused(self, tmp_path, made):
    found = rendered_pictures.make(tmp_path / 'a', DESCRIPTION)
    with pytest.raises(ValueError, match=r'8×8, not 16×16; .*--size=16x16'):
      found.picture(0, 16)
    wide = rendered_pictures.Description('val', 2, 16, 8)
    found = rendered_pictures.make(tmp_path / 'b', wide)
    with pytest.raises(ValueError, match='16×8, not 8×8'):
      found.picture(0, 8)

  def test_are_pickled_by_their_place(self, tmp_path, made):
    found = rendered_pictures.make(tmp_path, DESCRIPTION)
    content = pickle.dumps(found)
    assert len(content) < 1000
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.picture(501, 8), found.picture(501, 8))


def test_damage_is_told(tmp_path, made):
  rendered_pictures.make(tmp_path, DESCRIPTION)
  part = tmp_path / 'pictures_00001.npy'
  part.write_bytes(part.read_bytes()[:1000])
  with pytest.raises(ValueError, match='pictures_00001.npy is damaged'):
    rendered_pictures.RenderedPictures(tmp_path)
  (tmp_path / 'description.json').write_text('{"version": 2, "split": "val"}')
  with pytest.raises(ValueError, match='lacks settings .*count'):
    rendered_pictures.RenderedPictures(tmp_path)


def test_a_directory_without_pictures_is_told(tmp_path):
  with pytest.raises(ValueError, match='no pictures of this version'):
    rendered_pictures.RenderedPictures(tmp_path)


@pytest.mark.parametrize(
  'arguments, message',
  [
    (('dev', 5), 'Unknown split'),
    (('val', 0), 'count is 0'),
    (('val', 5, 0), 'width is 0'),
    (('val', 5, 8, 8, 0, 2, 11), '1 to 10'),
  ],
)
def test_impossible_descriptions_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    rendered_pictures.Description(*arguments)
