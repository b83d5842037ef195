"""The cache of resized pictures: content, and every kind of mismatch."""

import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.data import clevr_tree
from idspn_jax.data import picture_cache


@pytest.fixture
def source(clevr_tree_path):
  """Seven pictures."""
  return clevr_tree.TreePictures(clevr_tree_path, 'train')


@pytest.fixture
def folder(source, tmp_path):
  """Their cache."""
  picture_cache.write(source, tmp_path / 'cache', 'train', 8, 'made of this')
  return tmp_path / 'cache'


def refused(culprits, *arguments, **options):
  with pytest.raises(errors.UserError) as e:
    picture_cache.CachedPictures(*arguments, **options)
  assert '\n' not in str(e.value)
  for culprit in culprits:
    assert culprit in str(e.value), str(e.value)


def test_holds_the_same_pictures_and_objects(source, folder):
  assert picture_cache.exists(folder, 'train')
  found = picture_cache.CachedPictures(
    folder, 'train', 8, identity='made of this'
  )
  assert found.names == source.names and len(found) == 7
  np.testing.assert_array_equal(found.targets, source.targets)
  for i in range(7):
    np.testing.assert_array_equal(found.picture(i, 8), source.picture(i, 8))
  assert isinstance(found.pixels, np.memmap)
  assert sorted(p.name for p in folder.iterdir()) == ['train.npy', 'train.npz']


@pytest.mark.parametrize('threads', [1, 3])
def test_the_number_of_threads_changes_nothing(
  threads, source, folder, tmp_path
):
  picture_cache.write(source, tmp_path / 'b', 'train', 8, threads=threads)
  same = [
    p.joinpath('train.npy').read_bytes() for p in (folder, tmp_path / 'b')
  ]
  assert same[0] == same[1]


def test_sets_may_get_more_or_fewer_rows(folder, source):
  found = picture_cache.CachedPictures(folder, 'train', 8, max_objects=12)
  assert found.targets.shape == (7, 12, 19)
  found = picture_cache.CachedPictures(folder, 'train', 8, max_objects=4)
  np.testing.assert_array_equal(found.targets, source.targets[:, :4])
  refused(
    ['4 objects', 'at most 3', 'CLEVR_train_000003'], folder, 'train', 8, 3
  )


class TestMismatches:
  def test_another_size(self, folder):
    refused(['8×8', '16×16', 'cache_dir'], folder, 'train', 16)

  def test_other_pictures(self, folder):
    refused(['other pictures'], folder, 'train', 8, identity='made of that')

  def test_no_cache(self, folder):
    assert not picture_cache.exists(folder, 'test')
    refused(['test.npz', 'no cache'], folder, 'test', 8)

  @pytest.mark.parametrize('name', ['train.npz', 'train.npy'])
  @pytest.mark.parametrize('keep', [0, 50, -1])
  def test_truncated(self, folder, name, keep):
    path = folder / name
    path.write_bytes(path.read_bytes()[:keep])
    refused([name, 'remove'], folder, 'train', 8)

  def test_pixels_are_gone(self, folder):
    (folder / 'train.npy').unlink()
    refused(['train.npy', 'remove'], folder, 'train', 8)

  def test_pixels_of_another_cache(self, folder):
    np.save(folder / 'train.npy', np.zeros((6, 8, 8, 3), np.uint8))
    refused(['(6, 8, 8, 3)', '7 pictures'], folder, 'train', 8)

  def test_a_changed_pixel_is_noticed_when_it_is_read(self, folder):
    content = bytearray((folder / 'train.npy').read_bytes())
    content[-1] ^= 1
    (folder / 'train.npy').write_bytes(content)
    found = picture_cache.CachedPictures(folder, 'train', 8)
    found.picture(5, 8)
    with pytest.raises(errors.UserError, match='CLEVR_train_000006'):
      found.picture(6, 8)


class TestInterruption:
  def test_leaves_nothing(self, source, tmp_path, monkeypatch):
    read = source.picture

    def fail(index, size):
      if index == 3:
        raise KeyboardInterrupt
      return read(index, size)

    monkeypatch.setattr(source, 'picture', fail)
    with pytest.raises(KeyboardInterrupt):
      picture_cache.write(source, tmp_path / 'c', 'train', 8)
    assert not list((tmp_path / 'c').iterdir())

  def test_keeps_what_was_there(self, source, folder, monkeypatch):
    def fail(index, size):
      raise errors.UserError('damaged')

    before = {p: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr(source, 'picture', fail)
    with pytest.raises(errors.UserError, match='damaged'):
      picture_cache.write(source, folder, 'train', 8)
    assert before == {p: p.read_bytes() for p in folder.iterdir()}

  def test_a_place_that_cannot_be_written(self, source, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(errors.UserError, match='Cannot write the cache'):
      picture_cache.write(source, tmp_path / 'file', 'train', 8)
