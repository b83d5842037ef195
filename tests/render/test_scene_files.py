"""Scene files: real ones are reproduced, wrong ones are told."""

import json
import pathlib

import jax
import numpy as np
import pytest

from idspn_jax.render import camera as camera_lib
from idspn_jax.render import scene_files

REAL = pathlib.Path(__file__).parent / 'real'


@pytest.fixture(scope='module')
def entries():
  return scene_files.entries(REAL / 'scenes.json')


@pytest.fixture(scope='module')
def scenes():
  return scene_files.load(REAL / 'scenes.json', REAL / 'facts.json')[0]


class TestRealScenes:
  def test_are_described_as_in_their_file(self, entries, scenes):
    for n, entry in enumerate(entries):
      scene = jax.tree.map(lambda a, n=n: a[n], scenes)
      found = scene_files.describe(scene, 'val', n)
      assert found.keys() == entry.keys()
      assert found['relationships'] == entry['relationships']
      assert found['image_filename'] == entry['image_filename']
      for name, direction in entry['directions'].items():
        np.testing.assert_allclose(
          found['directions'][name], direction, atol=1e-6
        )
      for a, b in zip(found['objects'], entry['objects'], strict=True):
        assert a.keys() == b.keys()
        assert a['pixel_coords'][:2] == b['pixel_coords'][:2]
        assert a['pixel_coords'][2] == pytest.approx(b['pixel_coords'][2])
        assert a['3d_coords'] == pytest.approx(b['3d_coords'])
        assert a['rotation'] == pytest.approx(b['rotation'])
        for key in ('shape', 'size', 'material', 'color'):
          assert a[key] == b[key]

  def test_the_device_projects_alike(self, entries, scenes):
    for n, entry in enumerate(entries):
      camera = camera_lib.look_at_origin(scenes.camera[n])
      points = np.array([o['3d_coords'] for o in entry['objects']], np.float32)
      x, y, depth = camera_lib.project(camera, tuple(points.T))
      expected = np.array([o['pixel_coords'] for o in entry['objects']])
      assert np.max(np.abs(np.asarray(x) - expected[:, 0])) <= 0.51
      assert np.max(np.abs(np.asarray(y) - expected[:, 1])) <= 0.51
      np.testing.assert_allclose(depth, expected[:, 2], rtol=1e-5)


class TestErrors:
  def write(self, path, change):
    content = json.loads((REAL / 'scenes.json').read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path

  @pytest.mark.parametrize(
    'change, message',
    [
      (lambda c: c.pop('scenes'), "no 'scenes'"),
      (lambda c: c['scenes'][1].pop('objects'), "scene 1: no list 'objects'"),
      (
        lambda c: c['scenes'][0]['objects'][0].update(color='pink'),
        "scene 0: object 0: 'color' is 'pink'",
      ),
      (
        lambda c: c['scenes'][0]['objects'][2].update(rotation='left'),
        "object 2: 'rotation' is 'left'",
      ),
      (
        lambda c: c['scenes'][0].update(image_filename='../x.png'),
        'plain name',
      ),
      (
        lambda c: c['scenes'][0].update(image_filename='other.png'),
        "no entry 'other.png'",
      ),
      (
        lambda c: c['scenes'][0].update(objects=c['scenes'][0]['objects'] * 2),
        'do not fit into 10 rows',
      ),
    ],
  )
  def test_name_the_place(self, tmp_path, change, message):
    path = self.write(tmp_path / 'scenes.json', change)
    with pytest.raises(ValueError, match=message):
      scene_files.load(path, REAL / 'facts.json')

  def test_a_missing_file_is_told(self, tmp_path):
    with pytest.raises(ValueError, match='cannot be read'):
      scene_files.load(tmp_path / 'none.json')

  def test_without_facts_nothing_is_jittered(self):
    scenes, _ = scene_files.load(REAL / 'scenes.json')
    assert np.ptp(scenes.camera, axis=0).max() == 0
