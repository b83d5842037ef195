"""Picture files that a user names: found, read, and refused."""

import numpy as np
from PIL import Image
import pytest

from idspn_jax import errors
from idspn_jax.data import picture_files
from idspn_jax.data import pictures


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Pictures of several kinds and sizes."""
  folder = tmp_path_factory.mktemp('pictures')
  (folder / 'in').mkdir()
  rng = np.random.default_rng(0)
  for name, shape in {
    'b.png': (9, 12, 4),
    'a.JPG': (20, 10, 3),
    'in/b.png': (8, 8, 3),
    'in/gray.jpeg': (8, 8),
    'other.bmp': (4, 4, 3),
    '._b.png': (4, 4, 3),
  }.items():
    pixels = rng.integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(folder / name)
  (folder / 'notes.txt').write_text('no picture')
  (folder / 'none').mkdir()
  return folder


def _found(folder, *places):
  paths = picture_files.find([str(folder / place) for place in places])
  return [path.removeprefix(f'{folder}/') for path in paths]


class TestFind:
  def test_folders_files_and_patterns(self, folder):
    assert _found(folder, '.') == ['a.JPG', 'b.png', 'other.bmp']
    assert _found(folder, 'other.bmp', 'in') == [
      'other.bmp',
      'in/b.png',
      'in/gray.jpeg',
    ]
    assert _found(folder, '*/*') == ['in/b.png', 'in/gray.jpeg']

  def test_each_once(self, folder):
    assert _found(folder, 'b.png', '*.png') == ['b.png']

  @pytest.mark.parametrize(
    'place, culprit',
    [
      ('absent.png', 'absent.png: no such file'),
      ('none', 'none holds no .png'),
      ('x*.png', 'called like .*x'),
      ('*.txt', 'called like'),
    ],
  )
  def test_what_is_not_there(self, place, culprit, folder):
    with pytest.raises(errors.UserError, match=culprit):
      _found(folder, place)

  @pytest.mark.parametrize('places', [[], [''], ['gs://b/c.png']])
  def test_no_place(self, places):
    with pytest.raises(errors.UserError, match='--images'):
      picture_files.find(places)


class TestRead:
  def test_squashed_as_the_data_are(self, folder):
    paths = [str(folder / name) for name in ('b.png', 'in/gray.jpeg')]
    found = picture_files.read(paths, 6)
    assert found.shape == (2, 6, 6, 3) and found.dtype == np.uint8
    for image, path in zip(found, paths, strict=True):
      np.testing.assert_array_equal(image, pictures.decode(path, 6))

  @pytest.mark.parametrize('name', ['notes.txt', 'absent.png'])
  def test_damaged(self, name, folder):
    with pytest.raises(errors.UserError, match=f'{name}: cannot be decoded'):
      picture_files.read([str(folder / name)], 6)

  def test_too_large(self, folder, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 10)
    with pytest.raises(errors.UserError, match='b.png.*smaller'):
      picture_files.read([str(folder / 'b.png')], 6)


def test_names():
  assert picture_files.names(['a/x.png', 'b/y.png']) == ['x.png', 'y.png']
  assert picture_files.names(['a/x.png', 'b/x.png']) == ['a/x.png', 'b/x.png']
