"""Bad files of sets, images' sets, scenes and pictures."""

import io
import json
import os
import zipfile

from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import numpy as np
import pytest

from idspn_jax.data import clevr_scenes
from idspn_jax.data import image_sets
from idspn_jax.data import picture_files
from idspn_jax.data import pictures
from idspn_jax.data import set_files
from idspn_jax.render import scene_files
from tests.bad_input.refusal import Refused

# Whatever JSON can hold, with numbers that floats cannot.
JSON = st.recursive(
  st.none()
  | st.booleans()
  | st.integers()
  | st.just(10**400)
  | st.floats()
  | st.text(max_size=5),
  lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3)
  ),
  max_leaves=6,
)
ARRAYS = hnp.arrays(
  st.sampled_from(
    'f2 f4 f8 i1 i8 u8 ? c16 U3 S3 M8[s] m8[s]'.split(),
  ),
  hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3),
)
SCENE = {
  'image_filename': 'a.png',
  'objects': [
    {
      'shape': 'cube',
      'size': 'large',
      'material': 'metal',
      'color': 'red',
      '3d_coords': [0.5, 1.0, 0.7],
      'rotation': 30.0,
      'pixel_coords': [1, 2, 3.0],
    }
  ],
}
IMAGE = {'file': 'a.png', 'elements': [{'x': 0.5, 'c': 'red'}]}


def _paths(value, path=()):
  """Paths to every part of a JSON value."""
  yield path
  items = ()
  if isinstance(value, dict):
    items = value.items()
  elif isinstance(value, list):
    items = enumerate(value)
  for key, inner in items:
    yield from _paths(inner, (*path, key))


def _replaced(value, path, new):
  if not path:
    return new
  value = dict(value) if isinstance(value, dict) else list(value)
  value[path[0]] = _replaced(value[path[0]], path[1:], new)
  return value


def _mutations(value):
  """The value with one of its parts replaced by something else."""
  return st.builds(
    lambda path, new: _replaced(value, path, new),
    st.sampled_from([*_paths(value)]),
    JSON,
  )


READERS = {
  'scenes': clevr_scenes.load_scenes,
  'named scenes': clevr_scenes.load_named_scenes,
  'rendered scenes': scene_files.load,
  'set file': set_files.load_set_file,
}


@pytest.mark.parametrize('reader', READERS)
def test_scenes_json(reader, fuzz, attempt, tmp_path):
  path = tmp_path / 'scenes.json'

  def check(content):
    path.write_text(json.dumps(content))
    try:
      found = attempt(f'{reader} JSON', content, lambda: READERS[reader](path))
    except Refused:
      return
    arrays = {
      'scenes': lambda: [found],
      'named scenes': lambda: [found[1]],
      'rendered scenes': lambda: found[0],
      'set file': lambda: [found.sets],
    }[reader]()
    for array in arrays:
      assert array.dtype.kind != 'f' or np.all(np.isfinite(array))

  fuzz(_mutations({'scenes': [SCENE]}), check)


def test_image_sets_json(fuzz, attempt, tmp_path):
  path = tmp_path / 'sets.json'
  good = {'images': [IMAGE, {'file': 'b.png', 'elements': []}]}

  def check(content):
    path.write_text(json.dumps(content))
    try:
      found = attempt(
        'image sets JSON', content, lambda: image_sets.load_image_sets(path)
      )
    except Refused:
      return
    assert np.all(np.isfinite(found.values)) and len(found.sizes) >= 1
    # The names are not of files that exist: refused as well.
    with pytest.raises(Refused):
      attempt(
        'image names',
        found.files,
        lambda: image_sets.image_paths(tmp_path / 'none', found.files),
      )

  fuzz(_mutations({**good, 'categories': {'c': ['red', 'blue']}}), check)


@pytest.mark.parametrize(
  'name',
  [
    '',
    '.',
    '/etc/passwd',
    '../x.png',
    'a/../../x.png',
    'x' * 300 + '.png',
    'a\0b.png',
    '\ud800.png',
    'folder',
    'a.png/b.png',
    'missing.png',
    'out.png',
    'loop.png',
  ],
)
def test_names_of_images(name, refused, tmp_path):
  folder = tmp_path / 'images'
  (folder / 'folder').mkdir(parents=True)
  (folder / 'a.png').write_bytes(b'x')
  (tmp_path / 'outside.png').write_bytes(b'x')
  (folder / 'out.png').symlink_to(tmp_path / 'outside.png')
  (folder / 'loop.png').symlink_to(folder / 'loop.png')
  path = tmp_path / 'sets.json'
  content = {'images': [{**IMAGE, 'file': name}]}
  path.write_text(json.dumps(content))

  def read():
    sets = image_sets.load_image_sets(path)
    return image_sets.image_paths(folder, sets.files, every=False)

  message = refused('image names', name, read)
  assert '\n' not in message


def test_arrays_of_sets(fuzz, attempt, tmp_path):
  path = tmp_path / 'sets.npz'

  def check(arrays):
    sets, sizes = arrays
    np.savez(path, sets=sets, sizes=sizes)
    try:
      found = attempt(
        'set file arrays', arrays, lambda: set_files.load_set_file(path)
      )
    except Refused:
      return
    assert found.sets.shape == sets.shape and np.all(np.isfinite(found.sets))
    for s, size in enumerate(sizes):
      np.testing.assert_array_equal(found.sets[s, :size], sets[s, :size])
      assert not found.sets[s, size:].any()

  fuzz(st.tuples(ARRAYS, ARRAYS), check)
  nearly = st.tuples(
    hnp.arrays('f8', (2, 2, 1)),
    hnp.arrays('i8', (2,), elements=st.integers(-1, 3)),
  )
  fuzz(nearly, check)


def test_arrays_of_image_sets(fuzz, attempt, tmp_path):
  path = tmp_path / 'sets.npz'
  good = {
    'files': np.array(['a.png', 'b.png']),
    'sets': np.zeros((2, 2, 1)),
    'sizes': np.array([2, 0]),
    'feature_names': np.array(['x']),
    'category_c': np.array([[0, 1], [0, 0]]),
    'classes_c': np.array(['red', 'blue']),
  }

  def check(change):
    name, array = change
    np.savez(path, **{**good, name: array})
    try:
      found = attempt(
        'image sets arrays', change, lambda: image_sets.load_image_sets(path)
      )
    except Refused:
      return
    assert np.all(np.isfinite(found.values))
    assert all(array.min() >= 0 for array in found.classes.values())

  fuzz(st.tuples(st.sampled_from([*good]), ARRAYS), check)


@pytest.mark.parametrize('kind', ['npz', 'json', 'png'])
def test_damaged_files(kind, fuzz, attempt, damage, tmp_path):
  """A damaged file is refused, or what it says is as it was."""
  sets = np.random.default_rng(0).normal(size=(3, 4, 2))
  if kind == 'npz':
    buffer = io.BytesIO()
    np.savez_compressed(buffer, sets=sets, sizes=np.array([4, 1, 0]))
    content, load = buffer.getvalue(), set_files.load_set_file
  elif kind == 'json':
    content = json.dumps({'scenes': [SCENE]}).encode()
    load = clevr_scenes.load_scenes
  else:
    from PIL import Image

    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, 'png')
    content, load = buffer.getvalue(), lambda path: pictures.decode(path, 8)
  path = tmp_path / f'file.{kind}'

  def check(seed):
    for what, changed in damage(content, seed, 4):
      path.write_bytes(changed)
      try:
        found = attempt(f'damaged {kind}', what, lambda: load(path))
      except Refused:
        continue
      if kind == 'npz':
        np.testing.assert_array_equal(found.sets[0], sets[0])

  fuzz(st.integers(0, 10**6), check)


@pytest.mark.parametrize('suffix', ['.npz', '.json', '.png', '.gz', ''])
def test_files_that_are_something_else(suffix, refused, tmp_path):
  place = tmp_path / f'file{suffix}'
  for reader, load in {
    **READERS,
    'image sets': image_sets.load_image_sets,
    'picture': lambda path: pictures.decode(path, 8),
  }.items():
    for content in (b'', b'\0' * 100, b'PK\3\4' + b'x' * 50, b'\x80\4N.'):
      place.write_bytes(content)
      refused('other files', (reader, suffix, content), lambda f=load: f(place))
    place.unlink()
    refused('other files', (reader, suffix), lambda f=load: f(place))
    place.mkdir()
    refused('other files', (reader, suffix, '/'), lambda f=load: f(place))
    place.rmdir()


@pytest.mark.parametrize(
  'member', ['../sets.npy', '/sets.npy', 'sets.npy', 'a/../../sets.npy']
)
def test_members_of_archives_stay_inside(member, refused, tmp_path):
  """Arrays are read into memory whatever they are called."""
  inner = tmp_path / 'in'
  inner.mkdir()
  path = inner / 'sets.npz'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr(member, b'no array')
  refused('members of archives', member, lambda: set_files.load_set_file(path))
  assert os.listdir(tmp_path) == ['in'] and os.listdir(inner) == ['sets.npz']


@pytest.mark.parametrize(
  'places',
  [
    [],
    [''],
    ['\0'],
    ['no'],
    ['no/*.png'],
    ['[', '*'],
    ['x' * 1000],
    ['~nobody_at_all/a.png'],
    ['s3://bucket/a.png'],
  ],
)
def test_places_of_pictures(places, refused, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  refused('places of pictures', places, lambda: picture_files.find(places))
