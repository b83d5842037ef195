"""Files of images' sets: what they hold, and every fault in one line."""

import copy
import json
import shutil

import numpy as np
from PIL import Image
import pytest

from idspn_jax.data import image_sets

DOTS = {
  'images': [
    {'file': 'b.png', 'elements': [{'x': 0.5, 'n': 2, 'colour': 'red'}]},
    {'file': 'a.png', 'elements': []},
    {
      'file': 'c/d.png',
      'elements': [
        {'colour': 'blue', 'x': -1, 'n': 0},
        {'x': 0.25, 'n': 1, 'colour': 'red'},
      ],
    },
  ]
}


def write(tmp_path, content):
  path = tmp_path / 'sets.json'
  path.write_text(json.dumps(content), 'utf-8')
  return path


def arrays():
  """The same sets as NumPy arrays, with something in the padding."""
  return {
    'files': np.asarray(['b.png', 'a.png', 'c/d.png']),
    'sets': np.asarray(
      [[[0.5, 2], [7, 7]], [[7, 7], [7, np.nan]], [[-1, 0], [0.25, 1]]]
    ),
    'sizes': np.asarray([1, 0, 2]),
    'feature_names': np.asarray(['x', 'n']),
    'category_colour': np.asarray([[1, 9], [9, 9], [0, 1]]),
    'classes_colour': np.asarray(['blue', 'red']),
  }


def make_images(folder):
  for name in ('a.png', 'b.png', 'c/d.png'):
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new('RGB', (4, 4)).save(path)
  return folder


def fault(found, match):
  """One line that says `match`."""
  text = str(found.value)
  assert match in text and '\n' not in text
  assert text.endswith(('.', '}'))


class TestContent:
  def test_of_json(self, tmp_path):
    found = image_sets.load_image_sets(write(tmp_path, DOTS))
    assert found.files == ('b.png', 'a.png', 'c/d.png')
    assert found.layout.continuous == ('x', 'n')
    assert found.layout.categories == (('colour', ('blue', 'red')),)
    assert found.sizes.tolist() == [1, 0, 2]
    assert found.values.tolist() == [
      [[0.5, 2], [0, 0]],
      [[0, 0], [0, 0]],
      [[-1, 0], [0.25, 1]],
    ]
    assert found.classes['colour'].tolist() == [[1, 0], [0, 0], [0, 1]]

  def test_npz_holds_the_same(self, tmp_path):
    np.savez(tmp_path / 'sets.npz', **arrays())
    one = image_sets.load_image_sets(tmp_path / 'sets.npz')
    other = image_sets.load_image_sets(write(tmp_path, DOTS))
    paths = [tmp_path / 'sets.npz'] * 3
    assert one.files == other.files
    assert image_sets.digest(one, paths) == image_sets.digest(other, paths)

  def test_fixed_classes(self, tmp_path):
    content = {**DOTS, 'categories': {'colour': ['red', 'green', 'blue']}}
    found = image_sets.load_image_sets(write(tmp_path, content))
    assert found.layout.categories[0].classes == ('red', 'green', 'blue')
    assert found.classes['colour'].tolist() == [[0, 0], [0, 0], [2, 0]]

  def test_numbers_alone_and_texts_alone(self, tmp_path):
    for drop, sizes in ((('colour',), (2, 0)), (('x', 'n'), (0, 1))):
      content = copy.deepcopy(DOTS)
      for image in content['images']:
        for element in image['elements']:
          for name in drop:
            del element[name]
      found = image_sets.load_image_sets(write(tmp_path, content))
      layout = found.layout
      assert (len(layout.continuous), len(layout.categories)) == sizes
      assert found.values.shape == (3, 2, sizes[0])

  def test_digest_changes_with_the_content(self, tmp_path):
    folder = make_images(tmp_path / 'images')
    found = image_sets.load_image_sets(write(tmp_path, DOTS))
    paths = image_sets.image_paths(folder, found.files)
    before = image_sets.digest(found, paths)
    values = found.values.copy()
    values[0, 0, 0] += 1e-9
    assert image_sets.digest(found._replace(values=values), paths) != before
    with open(paths[0], 'ab') as f:
      f.write(b'0')
    assert image_sets.digest(found, paths) != before


def edited(change):
  content = copy.deepcopy(DOTS)
  change(content['images'], content)
  return content


def put(i, n, name, value):
  def change(images, _):
    images[i]['elements'][n][name] = value

  return change


@pytest.mark.parametrize(
  'change, match',
  [
    (lambda m, c: c.pop('images'), "no list 'images'"),
    (lambda m, c: m.clear(), 'is empty'),
    (lambda m, c: m[1].pop('elements'), "image 1 ('a.png'): no list"),
    (lambda m, c: m[1].pop('file'), "no text 'file'"),
    (put(2, 1, 'x', float('nan')), "('c/d.png'), element 1: 'x' is nan"),
    (put(2, 1, 'x', 10**400), 'not a finite number'),
    (put(2, 1, 'x', 'left'), "'x' is 'left'; write a number"),
    (put(2, 1, 'x', True), "'x' is True"),
    (put(2, 1, 'x', [1]), "'x' is [1]"),
    (put(2, 1, 'colour', 3), "'colour' is 3, but a text before"),
    (put(2, 1, 'z', 3), 'element 1: has the features'),
    (lambda m, c: m[2]['elements'][1].pop('x'), 'the same'),
    (lambda m, c: m[2]['elements'].append(5), 'element 2: 5 has no features'),
    (put(0, 0, 'presence', 1), "'presence' is taken"),
    (lambda m, c: m[0].update(file='../b.png'), 'out of the folder'),
    (lambda m, c: m[0].update(file='/b.png'), 'out of the folder'),
    (lambda m, c: m[0].update(file=''), 'not a file name'),
    (lambda m, c: m[0].update(file='./a.png'), 'the same file as image 0'),
    (lambda m, c: c.update(categories={'x': ['a']}), 'no such text'),
    (lambda m, c: c.update(categories={'colour': ['red']}), "is 'blue'"),
    (lambda m, c: c.update(categories={'colour': ['a', 'a']}), 'different'),
    (lambda m, c: c.update(categories=[]), "'categories' is []"),
    (lambda m, c: [i['elements'].clear() for i in m], 'at least one element'),
  ],
)
def test_faults_of_json(tmp_path, change, match):
  path = write(tmp_path, edited(change))
  with pytest.raises(ValueError) as found:
    image_sets.load_image_sets(path)
  fault(found, match)
  assert str(path) in str(found.value)


@pytest.mark.parametrize(
  'changes, match',
  [
    ({'files': np.arange(3)}, 'list of texts'),
    ({'files': np.asarray(['a.png', 'b.png'])}, "2 'files', 3 'sets'"),
    ({'sets': np.zeros((3, 2))}, 'images, elements, features'),
    ({'sizes': np.ones(3)}, "'sizes' must be integers"),
    ({'sizes': np.asarray([1, 3, 0])}, "image 1 ('a.png') has 3 elements"),
    ({'sets': np.full((3, 2, 2), np.inf)}, "('b.png'), element 0: feature 0"),
    ({'feature_names': np.asarray(['x'])}, "1 'feature_names' for 2"),
    ({'feature_names': np.asarray(['x', 'x'])}, 'one name'),
    ({'feature_names': np.asarray(['x', 'energy'])}, 'taken'),
    ({'category_colour': np.full((3, 2), 2)}, "'category_colour' is 2"),
    ({'category_colour': np.zeros((3, 2))}, 'integers of shape (3, 2)'),
    ({'classes_colour': None}, "no array 'classes_colour'"),
    ({'sizes': np.zeros(3, int)}, 'at least one element'),
    ({'files': np.asarray(['a', 'b', None], object)}, 'Python objects'),
  ],
)
def test_faults_of_npz(tmp_path, changes, match):
  content = {k: v for k, v in {**arrays(), **changes}.items() if v is not None}
  np.savez(tmp_path / 'sets.npz', **content)
  with pytest.raises(ValueError) as found:
    image_sets.load_image_sets(tmp_path / 'sets.npz')
  fault(found, match)


@pytest.mark.parametrize(
  'name, content, match',
  [
    ('sets.txt', b'', 'unknown extension'),
    ('sets.json', b'{"images": [', 'not valid JSON'),
    ('sets.json', b'\xff\xfe', 'not valid JSON'),
    ('sets.npz', b'PK', 'not a readable .npz'),
    ('sets.json', None, 'no such file'),
  ],
)
def test_files_that_are_none(tmp_path, name, content, match):
  if content is not None:
    (tmp_path / name).write_bytes(content)
  with pytest.raises(ValueError) as found:
    image_sets.load_image_sets(tmp_path / name)
  fault(found, match)


class TestFolder:
  FILES = ('b.png', 'a.png', 'c/d.png')

  def test_paths(self, tmp_path):
    folder = make_images(tmp_path)
    paths = image_sets.image_paths(folder, self.FILES)
    assert paths == [folder / name for name in self.FILES]

  def test_images_that_are_missing(self, tmp_path):
    make_images(tmp_path)
    with pytest.raises(ValueError) as found:
      image_sets.image_paths(tmp_path, (*self.FILES, 'e.png', 'f.png'))
    fault(found, "2 of 5 images of the sets are not there, first 'e.png'")
    with pytest.raises(ValueError) as found:
      image_sets.image_paths(tmp_path / 'no', self.FILES)
    fault(found, 'no such folder')

  def test_images_without_set(self, tmp_path):
    make_images(tmp_path)
    with pytest.raises(ValueError) as found:
      image_sets.image_paths(tmp_path, ('b.png',))
    # Not that of c, where no image has a set: it may be a run's figure.
    fault(found, "1 images have no set, first 'a.png'")
    assert image_sets.image_paths(tmp_path, ('b.png',), every=False)
    shutil.copy(tmp_path / 'a.png', tmp_path / 'c' / 'A.JPG')
    with pytest.raises(ValueError) as found:
      image_sets.image_paths(tmp_path, self.FILES)
    fault(found, "1 images have no set, first 'c/A.JPG'")

  def test_links_out_of_the_folder(self, tmp_path):
    folder = make_images(tmp_path / 'images')
    outside = tmp_path / 'outside.png'
    Image.new('RGB', (4, 4)).save(outside)
    (folder / 'e.png').symlink_to(outside)
    with pytest.raises(ValueError) as found:
      image_sets.image_paths(folder, (*self.FILES, 'e.png'))
    fault(found, "'e.png' is a link out of the folder")
