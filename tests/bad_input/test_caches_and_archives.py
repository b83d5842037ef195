"""Bad caches and archives: damaged, of other content, or leading outside."""

import os
import stat
import zipfile

from hypothesis import strategies as st
import numpy as np
import pytest

from idspn_jax.data import clevr_archive
from idspn_jax.data import clevr_tree
from idspn_jax.data import picture_cache
from idspn_jax.data import scene_store
from idspn_jax.render import rendered_pictures
from tests.bad_input.refusal import Refused
from tests.bad_input.test_data_files import ARRAYS


@pytest.fixture(scope='module')
def tree(write_clevr_tree, tmp_path_factory):
  return write_clevr_tree(tmp_path_factory.mktemp('clevr'))


@pytest.fixture
def cache(tree, tmp_path):
  """A cache, and the pictures in it."""
  source = clevr_tree.TreePictures(tree, 'train')
  picture_cache.write(source, tmp_path / 'cache', 'train', 4, 'made of this')
  pixels = [source.picture(i, 4) for i in range(len(source))]
  return tmp_path / 'cache', np.stack(pixels)


def _open(folder):
  """Every picture of a cache."""
  found = picture_cache.CachedPictures(
    folder, 'train', 4, identity='made of this'
  )
  return np.stack([found.picture(i, 4) for i in range(len(found))])


@pytest.fixture(scope='module')
def rendered(tmp_path_factory):
  """Rendered pictures: their files, and their pixels."""
  folder = tmp_path_factory.mktemp('rendered') / 'val'
  description = rendered_pictures.Description('val', 2, 4, 4)
  rng = np.random.default_rng(0)
  drawn = (
    rng.integers(0, 256, (2, 4, 4, 3), np.uint8),
    np.zeros((2, 10, 19), np.float32),
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(rendered_pictures.Description, 'render', lambda *_: drawn)
    pixels, _ = rendered_pictures.make(folder, description)[np.arange(2)]
  return {path.name: path.read_bytes() for path in folder.iterdir()}, pixels


class TestPictureCache:
  @pytest.mark.parametrize('name', ['train.npy', 'train.npz'])
  def test_damage(self, name, cache, fuzz, attempt, damage):
    folder, pixels = cache
    content = (folder / name).read_bytes()

    def check(seed):
      for what, changed in damage(content, seed, 4):
        (folder / name).write_bytes(changed)
        try:
          found = attempt('damaged cache', (name, what), lambda: _open(folder))
        except Refused:
          continue
        np.testing.assert_array_equal(found, pixels)

    fuzz(st.integers(0, 10**6), check)

  def test_other_arrays(self, cache, fuzz, attempt):
    folder, _ = cache
    with np.load(folder / 'train.npz') as stored:
      good = dict(stored)

    def check(change):
      name, array = change
      if (array.dtype, array.shape) == (good[name].dtype, good[name].shape):
        return
      np.savez(folder / 'train.npz', **{**good, name: array})
      with pytest.raises(Refused):
        attempt('cache arrays', change, lambda: _open(folder))

    fuzz(st.tuples(st.sampled_from([*good]), ARRAYS), check)

  @pytest.mark.parametrize('name', ['train.npy', 'train.npz'])
  def test_links_are_not_followed_out(self, name, cache, refused, tmp_path):
    folder, _ = cache
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert 'a link out of the cache' in refused(
      'links', name, lambda: _open(folder)
    )
    (folder / name).unlink()
    (folder / name).symlink_to(folder / 'nothing')
    refused('links', (name, 'dangling'), lambda: _open(folder))

  def test_a_cache_may_be_a_link_itself(self, cache, tmp_path):
    folder, pixels = cache
    (tmp_path / 'link').symlink_to(folder)
    np.testing.assert_array_equal(_open(tmp_path / 'link'), pixels)


class TestRenderedPictures:
  def put(self, files, folder, **changes):
    folder.mkdir(exist_ok=True)
    for name, content in {**files, **changes}.items():
      (folder / name).write_bytes(content)

  def test_damage(self, rendered, fuzz, attempt, damage, tmp_path):
    files, pixels = rendered
    folder = tmp_path / 'val'

    def read():
      return rendered_pictures.RenderedPictures(folder)[np.arange(2)][0]

    def check(value):
      name, seed = value
      for what, changed in damage(files[name], seed, 4):
        self.put(files, folder, **{name: changed})
        try:
          found = attempt('damaged renders', (name, what), read)
        except Refused:
          continue
        if name != 'features_00000.npy':
          np.testing.assert_array_equal(found, pixels)

    fuzz(st.tuples(st.sampled_from(sorted(files)), st.integers(0, 99)), check)

  def test_links_are_not_followed_out(self, rendered, refused, tmp_path):
    files, _ = rendered
    for name in files:
      if name == 'description.json':
        continue
      folder = tmp_path / f'to_{name}'
      self.put(files, folder)
      (folder / name).rename(tmp_path / name)
      (folder / name).symlink_to(tmp_path / name)
      refused(
        'links',
        name,
        lambda f=folder: rendered_pictures.RenderedPictures(f),
      )


class TestStoredScenes:
  """What does not fit is drawn again."""

  SCENES = np.ones((2, 3), np.float32)

  def read(self, path):
    found = scene_store.stored_scenes(path, (2, 3), lambda: self.SCENES)
    np.testing.assert_array_equal(found, self.SCENES)
    assert not path.is_symlink()

  def test_damage(self, fuzz, attempt, damage, tmp_path):
    path = tmp_path / 'scenes.npz'
    self.read(path)
    content = path.read_bytes()

    def check(seed):
      for what, changed in damage(content, seed, 4):
        path.write_bytes(changed)
        attempt('damaged scenes', what, lambda: self.read(path))

    fuzz(st.integers(0, 10**6), check)

  def test_other_arrays(self, fuzz, attempt, tmp_path):
    path = tmp_path / 'scenes.npz'

    def check(array):
      np.savez(path, features=array)
      attempt('scenes arrays', array, lambda: self.read(path))

    fuzz(ARRAYS, check)

  def test_links_are_not_followed_out(self, attempt, tmp_path):
    np.savez(tmp_path / 'other.npz', features=self.SCENES + 1)
    (tmp_path / 'cache').mkdir()
    path = tmp_path / 'cache' / 'scenes.npz'
    path.symlink_to(tmp_path / 'other.npz')
    attempt('links', 'scenes', lambda: self.read(path))
    with np.load(tmp_path / 'other.npz') as other:
      np.testing.assert_array_equal(other['features'], self.SCENES + 1)


def _zip(tree, path, **options):
  with zipfile.ZipFile(path, 'w', **options) as archive:
    for file in sorted(tree.rglob('*')):
      if file.is_file():
        archive.write(file, f'CLEVR_v1.0/{file.relative_to(tree)}')
  return path


def _unpacked(path, scratch):
  """The names of what an archive unpacks to."""
  with clevr_archive.opened(path, scratch) as folder:
    return sorted(p.relative_to(folder) for p in folder.rglob('*'))


class TestArchive:
  """The zipped CLEVR archive."""

  @pytest.mark.parametrize(
    'compression',
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA],
  )
  def test_damage(self, compression, tree, fuzz, attempt, damage, tmp_path):
    path = tmp_path / 'CLEVR_v1.0.zip'
    content = _zip(tree, path, compression=compression).read_bytes()
    (tmp_path / 'scratch').mkdir()
    good = _unpacked(path, tmp_path / 'scratch')

    def check(seed):
      for what, changed in damage(content, seed, 4):
        path.write_bytes(changed)
        try:
          found = attempt(
            'damaged zip',
            (compression, what),
            lambda: _unpacked(path, tmp_path / 'scratch'),
          )
        except Refused:
          continue
        finally:
          assert not os.listdir(tmp_path / 'scratch')
        assert found == good

    fuzz(st.integers(0, 10**6), check)

  @pytest.mark.parametrize(
    'name',
    [
      'CLEVR_v1.0/images/../../../../evil.png',
      'CLEVR_v1.0/images/train/../../../../evil.png',
      '../evil.png',
      '/evil.png',
      'CLEVR_v1.0/images//evil.png',
      'CLEVR_v1.0/scenes/..\\..\\evil.json',
      'CLEVR_v1.0/images/train',
      'CLEVR_v1.0/images/train/' + 'x' * 300 + '.png',
      'CLEVR_v1.0/images/train/a\nb.png',
    ],
  )
  def test_entries_stay_in_the_folder(self, name, tree, attempt, tmp_path):
    path = _zip(tree, tmp_path / 'CLEVR_v1.0.zip')
    with zipfile.ZipFile(path, 'a') as archive:
      archive.writestr(name, b'evil')
    scratch = tmp_path / 'in' / 'scratch'
    scratch.mkdir(parents=True)
    try:
      attempt('entries of archives', name, lambda: _unpacked(path, scratch))
    except Refused:
      pass
    assert not os.listdir(scratch)
    outside = [p for p in tmp_path.rglob('*') if 'evil' in p.name]
    assert not outside and sorted(os.listdir(tmp_path)) == [
      'CLEVR_v1.0.zip',
      'in',
    ]

  def test_links_in_it_stay_text(self, tree, refused, tmp_path):
    path = _zip(tree, tmp_path / 'CLEVR_v1.0.zip')
    entry = zipfile.ZipInfo('CLEVR_v1.0/images/train/CLEVR_train_000000a.png')
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, 'a') as archive:
      archive.writestr(entry, str(tmp_path / 'secret'))
    (tmp_path / 'secret').write_text('x')
    (tmp_path / 'scratch').mkdir()
    refused(
      'entries of archives',
      'link',
      lambda: _unpacked(path, tmp_path / 'scratch'),
    )

  def test_locked_by_a_password(self, tree, refused, tmp_path):
    path = _zip(tree, tmp_path / 'CLEVR_v1.0.zip')
    content = bytearray(path.read_bytes())
    # The flag of encryption, in every local and central header.
    for mark, offset in ((b'PK\3\4', 6), (b'PK\1\2', 8)):
      start = -1
      while (start := content.find(mark, start + 1)) >= 0:
        content[start + offset] |= 1
    path.write_bytes(bytes(content))
    (tmp_path / 'scratch').mkdir()
    refused(
      'damaged zip', 'password', lambda: _unpacked(path, tmp_path / 'scratch')
    )


@pytest.mark.parametrize(
  'change',
  [
    'no images',
    'no scenes',
    'no questions',
    'empty split',
    'scene of another image',
    'file beside',
  ],
)
def test_incomplete_trees(change, write_clevr_tree, refused, tmp_path):
  tree = write_clevr_tree(tmp_path)
  images = tree / 'images' / 'train'
  if change in ('no images', 'no scenes', 'no questions'):
    folder = tree / change.split()[1]
    folder.rename(tmp_path / 'gone')
  elif change == 'empty split':
    for path in images.iterdir():
      path.unlink()
  elif change == 'scene of another image':
    first = sorted(images.iterdir())[0]
    first.rename(images / 'other.png')
  else:
    (images / 'notes.txt').write_text('x')
  (tmp_path / 'scratch').mkdir()
  refused(
    'incomplete trees',
    change,
    lambda: _unpacked(tmp_path, tmp_path / 'scratch'),
  )
