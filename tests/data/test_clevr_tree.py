"""A CLEVR folder read directly, and what is wrong with others."""

import json
import shutil

import numpy as np
from PIL import Image
import pytest

from idspn_jax import errors
from idspn_jax.data import clevr_archive
from idspn_jax.data import clevr_features
from idspn_jax.data import clevr_tree


def edit_scenes(tree, change, split='val'):
  path = clevr_tree.scenes_path(tree, split)
  content = json.loads(path.read_text())
  change(content['scenes'])
  path.write_text(json.dumps(content))


def refused(culprits, call, *arguments):
  with pytest.raises(errors.UserError) as e:
    call(*arguments)
  message = str(e.value)
  assert '\n' not in message
  for culprit in culprits:
    assert culprit in message, message


class TestReading:
  @pytest.mark.parametrize('parent', [False, True])
  def test_pictures_and_objects_belong_together(self, clevr_tree_path, parent):
    path = clevr_tree_path.parent if parent else clevr_tree_path
    found = clevr_tree.TreePictures(path, 'val')
    assert len(found) == 5 and found.targets.shape == (5, 10, 19)
    scenes = json.loads(
      clevr_tree.scenes_path(clevr_tree_path, 'val').read_text()
    )['scenes']
    for i, scene in enumerate(scenes):
      assert found.names[i] == scene['image_filename']
      objects = clevr_features.objects_of(found.targets[i])
      assert [o['color'] for o in objects] == [
        o['color'] for o in scene['objects']
      ]
      with Image.open(clevr_tree_path / 'images/val' / found.names[i]) as image:
        expected = image.convert('RGB').resize((8, 8), Image.BILINEAR)
      np.testing.assert_array_equal(found.picture(i, 8), np.asarray(expected))

  def test_scenes_go_by_name_not_by_order(self, clevr_tree_path):
    before = clevr_tree.TreePictures(clevr_tree_path, 'val').targets
    edit_scenes(clevr_tree_path, list.reverse)
    after = clevr_tree.TreePictures(clevr_tree_path, 'val').targets
    np.testing.assert_array_equal(after, before)

  def test_a_part_of_the_pictures_is_enough(self, clevr_tree_path):
    before = clevr_tree.TreePictures(clevr_tree_path, 'train').targets
    (clevr_tree_path / 'images/train/CLEVR_train_000002.png').unlink()
    found = clevr_tree.TreePictures(clevr_tree_path, 'train')
    np.testing.assert_array_equal(found.targets, np.delete(before, 2, axis=0))

  def test_the_identity_changes_with_scenes_and_pictures(self, clevr_tree_path):
    seen = {clevr_tree.identity(clevr_tree_path, 'val')}
    edit_scenes(clevr_tree_path, lambda scenes: scenes[0]['objects'].pop())
    seen.add(clevr_tree.identity(clevr_tree_path, 'val'))
    (clevr_tree_path / 'images/val/CLEVR_val_000004.png').unlink()
    seen.add(clevr_tree.identity(clevr_tree_path, 'val'))
    assert len(seen) == 3
    assert clevr_tree.identity(clevr_tree_path, 'val') in seen


class TestErrors:
  def test_no_such_folder(self, tmp_path):
    refused(['absent', 'no such'], clevr_tree.find_tree, tmp_path / 'absent')
    refused([str(tmp_path), 'images'], clevr_tree.find_tree, tmp_path)
    refused(['gs://a', 'remote'], clevr_tree.find_tree, 'gs://a')

  def test_missing_scene_file(self, clevr_tree_path):
    path = clevr_tree.scenes_path(clevr_tree_path, 'val')
    path.unlink()
    for call in (clevr_tree.TreePictures, clevr_tree.identity):
      refused([str(path), 'missing'], call, clevr_tree_path, 'val')

  def test_an_image_without_a_scene(self, clevr_tree_path):
    edit_scenes(clevr_tree_path, lambda scenes: scenes.pop(3))
    refused(
      ['CLEVR_val_000003.png', '1 of 5', 'CLEVR_val_scenes.json'],
      clevr_tree.TreePictures,
      clevr_tree_path,
      'val',
    )

  def test_more_objects_than_slots(self, clevr_tree_path):
    refused(
      ['4 objects', 'at most 3', 'CLEVR_val_000003'],
      clevr_tree.TreePictures,
      clevr_tree_path,
      'val',
      3,
    )

  @pytest.mark.parametrize(
    'change, culprit',
    [
      (lambda s: s[1].pop('image_filename'), 'scene 1'),
      (lambda s: s.append(s[0]), 'CLEVR_val_000000.png'),
      (lambda s: s[2]['objects'][0].update(color='pink'), 'pink'),
    ],
  )
  def test_wrong_scenes(self, clevr_tree_path, change, culprit):
    edit_scenes(clevr_tree_path, change)
    refused([culprit], clevr_tree.TreePictures, clevr_tree_path, 'val')

  def test_no_pictures(self, clevr_tree_path):
    folder = clevr_tree_path / 'images/val'
    shutil.rmtree(folder)
    refused([str(folder)], clevr_tree.TreePictures, clevr_tree_path, 'val')
    folder.mkdir()
    refused(['no .png'], clevr_tree.TreePictures, clevr_tree_path, 'val')

  def test_a_split_without_scenes(self, clevr_tree_path):
    refused(['test'], clevr_tree.TreePictures, clevr_tree_path, 'test')

  def test_a_damaged_picture(self, clevr_tree_path):
    path = clevr_tree_path / 'images/val/CLEVR_val_000001.png'
    path.write_bytes(path.read_bytes()[:60])
    found = clevr_tree.TreePictures(clevr_tree_path, 'val')
    refused([str(path)], found.picture, 1, 8)


class TestWhatTheBuilderNeeds:
  def test_a_complete_folder_passes(self, clevr_tree_path):
    clevr_archive.check(clevr_tree_path)

  @pytest.mark.parametrize(
    'change, culprits',
    [
      (
        lambda tree: (tree / 'questions/CLEVR_test_questions.json').unlink(),
        ['CLEVR_test_questions.json', '{"questions": []}'],
      ),
      (
        lambda tree: (tree / 'images/val/.DS_Store').touch(),
        ['.DS_Store', 'remove'],
      ),
      (
        lambda tree: edit_scenes(tree, lambda s: s.reverse()),
        ['CLEVR_val_scenes.json', 'order'],
      ),
      (
        lambda tree: (tree / 'images/val/CLEVR_val_000002.png').unlink(),
        ['no image CLEVR_val_000002.png'],
      ),
      (lambda tree: edit_scenes(tree, lambda s: s.pop()), ['no scene']),
      (lambda tree: shutil.rmtree(tree / 'images/train'), ['images/train']),
    ],
  )
  def test_what_would_be_prepared_wrongly(
    self, clevr_tree_path, change, culprits
  ):
    change(clevr_tree_path)
    refused(culprits, clevr_archive.check, clevr_tree_path)


class TestZip:
  def zipped(self, tree, tmp_path):
    return shutil.make_archive(
      str(tmp_path / 'CLEVR'), 'zip', tree.parent, tree.name
    )

  def opened(self, path, tmp_path):
    with clevr_archive.opened(clevr_tree.pathlib.Path(path), tmp_path) as found:
      return sorted(p.name for p in (found / clevr_tree.TOP).rglob('*.*'))

  def test_gives_the_same_files_as_the_folder(self, clevr_tree_path, tmp_path):
    path = self.zipped(clevr_tree_path, tmp_path)
    found = self.opened(path, tmp_path)
    assert found == sorted(p.name for p in clevr_tree_path.rglob('*.*'))
    assert found == self.opened(clevr_tree_path, tmp_path)
    assert not list(tmp_path.glob('clevr_source_*'))

  @pytest.mark.parametrize('keep', [0, 100, 0.5, -1])
  def test_truncated(self, clevr_tree_path, tmp_path, keep):
    path = clevr_tree.pathlib.Path(self.zipped(clevr_tree_path, tmp_path))
    content = path.read_bytes()
    keep = int(keep * len(content)) if keep == 0.5 else keep
    path.write_bytes(content[:keep])
    refused([str(path), 'complete'], self.opened, path, tmp_path)
    assert not list(tmp_path.glob('clevr_source_*'))

  def test_damaged_inside(self, clevr_tree_path, tmp_path):
    path = clevr_tree.pathlib.Path(self.zipped(clevr_tree_path, tmp_path))
    content = bytearray(path.read_bytes())
    place = content.index(b'IDAT')
    content[place : place + 40] = bytes(40)
    path.write_bytes(bytes(content))
    refused([str(path)], self.opened, path, tmp_path)

  def test_another_archive(self, tmp_path):
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x/a.txt').write_text('a')
    path = shutil.make_archive(str(tmp_path / 'y'), 'zip', tmp_path, 'x')
    refused(['CLEVR_v1.0'], self.opened, path, tmp_path)
