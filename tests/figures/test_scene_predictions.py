"""Predicted scenes beside pictures: what is compared, what is written."""

import io

import numpy as np
import pytest

from idspn_jax.data import clevr_features
from idspn_jax.figures import scene_predictions
from idspn_jax.render import camera
from idspn_jax.render import constants

NAN = float('nan')
# Where the camera's right is: y grows to the right and away.
THINGS = [
  ((1.0, 2.0, 0.7), 'metal', 'red', 'cube', 'large'),
  ((-1.0, -2.0, 0.35), 'rubber', 'blue', 'sphere', 'small'),
  ((0.0, 0.0, 0.35), 'rubber', 'gray', 'cylinder', 'small'),
]


def features(things, rows=5):
  objects = [
    {'3d_coords': list(t[0])}
    | dict(zip(('material', 'color', 'shape', 'size'), t[1:], strict=True))
    for t in things
  ]
  return clevr_features.features_of(objects, rows).astype(np.float64)


@pytest.fixture
def truth():
  return features(THINGS)


def texts(figure):
  """All words in all panels and lists."""
  return [t.get_text() for axes in figure.axes for t in axes.texts]


def red(figure):
  """The words that are marked."""
  return [
    t.get_text()
    for axes in figure.axes
    for t in axes.texts
    if t.get_color() == '#e00000'
  ]


def drawn(truth, predictions, **options):
  images = np.full((1, 16, 16, 3), 90, np.uint8)
  sets = {k: np.asarray(v)[None] for k, v in predictions.items()}
  figure = scene_predictions.draw_predictions(
    images, truth[None], sets, **options
  )
  figure.savefig(io.BytesIO(), format='png', dpi=40)
  return figure


class TestCompare:
  def test_from_left_to_right_whatever_the_order(self, truth):
    found = scene_predictions.compare(truth[::-1], truth)
    position = np.array(constants.CAMERA)
    columns = [
      camera.pixel_coords(np.array(one.truth['3d_coords']), position)[0]
      for one in found
    ]
    assert columns == sorted(columns) and len(found) == 3
    assert all(one.right and one.distance < 1e-6 for one in found)

  def test_distances_and_attributes(self, truth):
    moved = truth.copy()
    moved[0, 0] += 0.3 / 3  # 0.3 scene units.
    moved[1, clevr_features.COLOR] = np.eye(8)[4]
    found = scene_predictions.compare(moved, truth)
    by_color = {one.truth['color']: one for one in found}
    assert by_color['red'].distance == pytest.approx(0.3)
    assert not by_color['red'].right and by_color['red'].wrong == ()
    assert by_color['blue'].wrong == ('color',)
    assert by_color['blue'].guess['color'] == 'red'
    assert by_color['gray'].right

  def test_missing_and_needless(self, truth):
    guess = truth.copy()
    guess[0, 18] = 0.4
    guess[4] = features([((2, -2, 0.7), 'metal', 'cyan', 'cube', 'large')])[0]
    found = scene_predictions.compare(guess, truth)
    (missing,) = (one for one in found if one.guess is None)
    assert missing.truth['color'] == 'red' and not missing.right
    assert found[-1].truth is None and found[-1].guess['color'] == 'cyan'
    assert len(found) == 4

  def test_not_finite(self, truth):
    guess = truth.copy()
    guess[0, 0] = NAN
    found = scene_predictions.compare(guess, truth)
    assert len(found) == 3 and all(one.guess is None for one in found)


class TestDraw:
  def test_what_is_wrong_is_marked(self, truth):
    guess = truth.copy()
    guess[1, clevr_features.SHAPE] = np.eye(3)[1]
    guess[2, :2] += 1
    guess[0, 18] = 0.0
    figure = drawn(truth, {10: guess, 20: truth}, trained_with=20)
    assert set(red(figure)) == {'cube', 'd = 4.24', '3', 'missing'}
    titles = [axes.get_title() for axes in figure.axes]
    assert 'T = 10\n0 of 3 right, 1 missing' in titles
    assert 'T = 20 (trained)\n3 of 3 right' in titles
    assert 'truth\n3 objects' in titles

  def test_needless_and_outside(self, truth):
    guess = truth.copy()
    guess[4] = features([((90, 0, 0), 'metal', 'cyan', 'cube', 'large')])[0]
    figure = drawn(truth, {'prediction': guess})
    assert 'needless' in red(figure) and 'cyan' in red(figure)
    assert '1 outside' in texts(figure)

  def test_diverged(self, truth):
    figure = drawn(truth, {1: np.full_like(truth, NAN)})
    titles = [axes.get_title() for axes in figure.axes]
    assert 'T = 1\nnot finite' in titles

  def test_an_empty_scene(self, truth):
    assert drawn(np.zeros_like(truth), {1: np.zeros_like(truth)})

  def test_shapes_that_do_not_fit(self, truth):
    for images in (np.zeros((2, 8, 8, 3)), np.zeros((1, 8, 8))):
      with pytest.raises(ValueError, match='need images'):
        scene_predictions.draw_predictions(
          images, truth[None], {1: truth[None]}
        )
