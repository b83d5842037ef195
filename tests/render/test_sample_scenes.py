"""Sampled scenes obey CLEVR's rules."""

import jax
import numpy as np
import pytest

from idspn_jax.data import clevr_features
from idspn_jax.render import batches
from idspn_jax.render import constants
from idspn_jax.render import sample_scenes
from idspn_jax.render import scenes as scenes_lib

COUNT = 250
# Large ones among all objects of 400 scenes of the official generator. They are
# fewer than half, because large objects find a place less often.
LARGE, OFFICIAL = 1212, 2626


@pytest.fixture(scope='module')
def scenes():
  return jax.device_get(sample_scenes.sample_scenes(jax.random.key(0), COUNT))


def check_rules(scenes):
  """Asserts every rule but visibility."""
  present = scenes.presence
  counts = present.sum(-1)
  assert counts.min() == 3 and counts.max() == 10
  np.testing.assert_array_equal(present, np.arange(10)[None] < counts[:, None])
  radii = np.asarray(constants.RADII)[scenes.sizes]
  where = scenes.coordinates.astype(np.float64)
  assert np.all(np.abs(where[present][:, :2]) <= 3)
  np.testing.assert_allclose(where[..., 2][present], radii[present], rtol=1e-6)
  assert np.all((scenes.rotations >= 0) & (scenes.rotations < 360))
  pairs = present[:, :, None] & present[:, None] & ~np.eye(10, dtype=bool)
  offset = where[:, :, None, :2] - where[:, None, :, :2]
  gaps = np.linalg.norm(offset, axis=-1)
  gaps = gaps - radii[:, :, None] - radii[:, None]
  assert gaps[pairs].min() >= 0.25 - 1e-5
  for axis in (constants.BEHIND, constants.RIGHT):
    along = np.abs(offset @ np.asarray(axis[:2]))
    assert along[pairs].min() >= 0.4 - 1e-5
  assert np.all(np.abs(scenes.camera - constants.CAMERA) <= 0.5)
  assert np.all(np.abs(scenes.lamps - np.array(constants.LAMPS)) <= 1)
  # Rows without an object hold zeros.
  for field in scenes[:6]:
    assert not np.any(field[~present])


def check_frequencies(scenes):
  """Asserts how often classes occur, to four standard errors."""
  present = scenes.presence
  total = present.sum()

  def check(found, expected, sampled=np.inf):
    """Expected is exact, or a mean of so many objects itself."""
    error = np.sqrt(expected * (1 - expected) * (1 / total + 1 / sampled))
    assert abs(found - expected) < 4 * error

  for values, names in (
    (scenes.materials, clevr_features.MATERIALS),
    (scenes.colors, clevr_features.COLORS),
    (scenes.shapes, clevr_features.SHAPES),
  ):
    for k in range(len(names)):
      check(np.mean(values[present] == k), 1 / len(names))
  check(np.mean(scenes.sizes[present] == 0), LARGE / OFFICIAL, OFFICIAL)


class TestRules:
  def test_hold(self, scenes):
    check_rules(scenes)

  def test_every_object_shows_200_pixels(self, scenes):
    count = jax.jit(lambda s: jax.lax.map(sample_scenes.visible_pixels, s))
    pixels = np.asarray(count(scenes))
    assert pixels[scenes.presence].min() >= 200

  def test_frequencies(self, scenes):
    check_frequencies(scenes)

  def test_other_scenes_are_found_out(self, scenes):
    moved = scenes._replace(coordinates=scenes.coordinates * 0.5)
    with pytest.raises(AssertionError):
      check_rules(moved)

  @pytest.mark.deep
  def test_hold_for_10000_scenes(self):
    scenes = jax.device_get(
      sample_scenes.sample_scenes(jax.random.key(1), 10_000)
    )
    check_rules(scenes)
    check_frequencies(scenes)
    numbers = np.bincount(scenes.presence.sum(-1), minlength=11)[3:]
    assert np.all(np.abs(numbers - 1250) < 4 * np.sqrt(1250))
    count = jax.jit(lambda s: jax.lax.map(sample_scenes.visible_pixels, s))
    pixels = np.asarray(count(scenes))
    assert pixels[scenes.presence].min() >= 200


class TestKeys:
  def test_a_part_equals_the_whole(self, scenes):
    part = sample_scenes.sample_scenes(jax.random.key(0), COUNT, 7)
    for a, b in zip(scenes, part, strict=True):
      np.testing.assert_array_equal(a[7:], np.asarray(b)[: COUNT - 7])

  def test_another_key_gives_other_scenes(self, scenes):
    other = sample_scenes.sample_scenes(jax.random.key(1), COUNT)
    assert np.all(scenes.camera[:, 0] != np.asarray(other.camera)[:, 0])


class TestPrecision:
  def test_scenes_are_the_same_in_programs_in_float64(self, scenes):
    def few(key):
      drawn = sample_scenes.sample_scenes(key, COUNT)
      return drawn, scenes_lib.features_of(drawn)

    expected = few(jax.random.key(0))
    with jax.enable_x64(True):
      found = few(jax.random.key(0))
      inside = jax.jit(few)(jax.random.key(0))
    for a, b, c in zip(
      *map(jax.tree.leaves, (expected, found, inside)), strict=True
    ):
      assert a.dtype == b.dtype == c.dtype
      np.testing.assert_array_equal(a, b)
      np.testing.assert_array_equal(a, c)

  def test_pictures_are_in_float32_too(self):
    with jax.enable_x64(True):
      pictures, features = jax.eval_shape(
        lambda key: batches.batch(key, 2, (8, 8)), jax.random.key(0)
      )
    assert pictures.dtype == np.uint8 and features.dtype == np.float32


@pytest.mark.deep
def test_a_scene_alone_is_the_one_among_others():
  """Pictures too, of which one in 64 had another pixel once."""
  draw = jax.jit(
    lambda first, count: batches.batch(
      jax.random.key(0), count, (64, 64), first, (3, 4)
    ),
    static_argnums=1,
  )
  for first in range(0, 64, 4):
    among = draw(first, 4)
    for i in range(4):
      for a, b in zip(draw(first + i, 1), among, strict=True):
        np.testing.assert_array_equal(a[0], b[i])


class TestNumObjects:
  @pytest.mark.parametrize('bad', [(0, 3), (5, 4), (3, 11)])
  def test_impossible_ranges_are_refused(self, bad):
    with pytest.raises(ValueError, match='1 to 10'):
      sample_scenes.sample_scene(jax.random.key(0), bad)


def test_features_are_those_of_the_scene_files(scenes):
  found = np.asarray(scenes_lib.features_of(scenes))
  classes = {
    'material': scenes.materials,
    'color': scenes.colors,
    'shape': scenes.shapes,
    'size': scenes.sizes,
  }
  expected = clevr_features.encode(
    clevr_features.Objects(
      scenes.coordinates, classes, scenes.presence.astype(np.float32)
    )
  )
  np.testing.assert_allclose(found, expected, rtol=1e-6)
