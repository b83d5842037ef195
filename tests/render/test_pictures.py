"""Rendered pictures against real ones, and what must not change them."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from idspn_jax.data import clevr_features
from idspn_jax.render import batches
from idspn_jax.render import constants
from idspn_jax.render import image
from idspn_jax.render import scene_files
from idspn_jax.render import scenes as scenes_lib

REAL = pathlib.Path(__file__).parent / 'real'
COUNT = 6


@pytest.fixture(scope='module')
def scenes():
  found, _ = scene_files.load(REAL / 'scenes.json', REAL / 'facts.json')
  return jax.tree.map(lambda a: a[:COUNT], found)


def read(name):
  with PIL.Image.open(REAL / name) as picture:
    return np.asarray(picture.convert('RGB'))


def render(scenes, size=(128, 128)):
  pictures = image.render(scenes, constants.Look(), *size)
  return np.asarray(image.as_bytes(pictures))


@pytest.fixture(scope='module')
def rendered(scenes):
  return render(scenes)


class TestRealPictures:
  def test_are_met(self, rendered):
    real = np.stack([read(f'CLEVR_val_{n:06d}.png') for n in range(COUNT)])
    real = real.astype(np.float32)
    apart = np.abs(real - rendered)
    mask = np.mean(np.abs(real - read('median.png')[None]), -1) > 25
    assert np.mean(mask) > 0.05
    assert np.mean(apart) <= 1.3
    assert np.mean(apart[mask]) <= 4.0


class TestScenes:
  def test_a_batch_is_its_scenes(self, scenes, rendered):
    turned = jax.tree.map(lambda a: a[::-1], scenes)
    np.testing.assert_array_equal(render(turned), rendered[::-1])

  def test_empty_rows_do_not_matter(self, scenes, rendered):
    def fill(a):
      return np.where(
        scenes.presence.reshape(*scenes.presence.shape, *[1] * (a.ndim - 2)),
        a,
        a[:, :1],
      )

    fields = [fill(a) for a in scenes[:6]]
    filled = scenes_lib.Scenes(*fields, *scenes[6:])
    np.testing.assert_array_equal(render(filled), rendered)

  def test_their_order_hardly_matters(self, scenes, rendered):
    counts = scenes.presence.sum(-1)
    order = np.stack(
      [np.r_[np.arange(n)[::-1], np.arange(n, 10)] for n in counts]
    )

    def turn(a):
      return np.stack([x[o] for x, o in zip(a, order, strict=True)])

    turned = scenes_lib.Scenes(*(turn(a) for a in scenes[:7]), *scenes[7:])
    apart = np.abs(render(turned).astype(int) - rendered)
    assert np.mean(apart) < 0.05

  def test_every_change_shows(self, scenes, rendered):
    for field in ('rotations', 'materials', 'colors', 'shapes', 'sizes'):
      values = getattr(scenes, field)
      limit = {'colors': 8, 'shapes': 3}.get(field, 2)
      changed = (
        values + 1 if field == 'rotations' else (values + 1) % limit
      ).astype(values.dtype)
      other = render(scenes._replace(**{field: changed}))
      assert np.all(np.any(other != rendered, axis=(1, 2, 3))), field
    for field in ('camera', 'lamps'):
      other = render(scenes._replace(**{field: getattr(scenes, field) + 0.1}))
      assert np.all(np.any(other != rendered, axis=(1, 2, 3))), field


class TestTogether:
  @pytest.mark.deep
  def test_pictures_are_those_of_one_after_another(self, scenes, rendered):
    found = image.render(scenes, constants.Look(), 128, 128, batch_size=3)
    apart = np.abs(np.asarray(image.as_bytes(found)).astype(int) - rendered)
    assert np.max(apart) <= 1
    assert np.mean(apart > 0) <= 1e-4

  def test_none_at_a_time_is_refused(self, scenes):
    with pytest.raises(ValueError, match='batch_size is 0'):
      image.render(scenes, constants.Look(), 8, 8, batch_size=0)


class TestSize:
  @pytest.mark.deep
  def test_another_size_is_the_view_squashed(self, scenes, rendered):
    small = render(scenes, (50, 38))
    assert small.shape == (COUNT, 38, 50, 3)
    resized = np.stack(
      [
        np.asarray(
          PIL.Image.fromarray(p).resize((50, 38), PIL.Image.Resampling.BILINEAR)
        )
        for p in rendered
      ]
    )
    assert np.mean(np.abs(small.astype(int) - resized)) < 1.5


class TestBatch:
  def test_is_determined_by_key_and_number(self):
    key = jax.random.key(5)
    pictures, features = batches.batch(key, COUNT, (128, 128))
    assert pictures.dtype == jnp.uint8
    assert pictures.shape == (COUNT, 128, 128, 3)
    assert features.shape == (COUNT, 10, clevr_features.NUM_FEATURES)
    later, their = batches.batch(key, COUNT, (128, 128), 2)
    np.testing.assert_array_equal(pictures[2:], later[:-2])
    np.testing.assert_array_equal(features[2:], their[:-2])
    assert np.any(np.asarray(pictures[0]) != np.asarray(pictures[1]))


class TestFilter:
  def test_is_that_of_pil(self):
    rng = np.random.default_rng(0)
    samples = rng.uniform(0, 1, (16, 12)).astype(np.float32)
    found = image._shrink(jnp.asarray(samples), 6, 8, 0.125)
    expected = PIL.Image.fromarray(samples).resize(
      (6, 8), PIL.Image.Resampling.BILINEAR
    )
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-5)

  def test_encoding_is_srgb(self):
    values = np.array([0.0, 0.002, 0.2140411, 1.0, 3.0], np.float32)
    np.testing.assert_allclose(
      image.encode(jnp.asarray(values)), [0, 0.02584, 0.5, 1, 1], atol=1e-4
    )
