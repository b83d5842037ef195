"""Figures: they appear whole, need no display, and survive bad predictions."""

import pathlib
import struct
import subprocess
import sys

import numpy as np
import pytest

from idspn_jax.data import clevr_scenes
from idspn_jax.data import set_files
from idspn_jax.figures import matching
from idspn_jax.figures import numbering
from idspn_jax.figures import save
from idspn_jax.figures import scenes
from idspn_jax.figures import set_panels
from idspn_jax.figures import sets
from idspn_jax.figures import trajectories
from idspn_jax.metrics import numbering_errors

RNG = np.random.default_rng(0)
NAN = float('nan')


def _size(path):
  """Width and height of a PNG file, from its header."""
  data = path.read_bytes()
  assert data[:8] == b'\x89PNG\r\n\x1a\n'
  assert data[-8:-4] == b'IEND'
  return struct.unpack('>II', data[16:24])


def _drawn(draw, path, *arguments):
  """Calls `draw` and checks that it leaves one whole file and no more."""
  assert draw(*arguments, path) == pathlib.Path(path)
  assert [p.name for p in path.parent.iterdir()] == [path.name]
  width, height = _size(path)
  assert min(width, height) > 300
  return width, height


def _scene_sets(examples):
  features = np.zeros((examples, 10, 19), np.float32)
  for row in features.reshape(-1, 19)[::2]:
    row[:2] = RNG.uniform(-1, 1, 2)
    for _, columns in clevr_scenes.ATTRIBUTES.values():
      row[RNG.integers(columns.start, columns.stop)] = 1.0
    row[18] = 1.0
  return features


def test_match_by_hand():
  prediction = np.array([[0.0, 0.0], [3.0, 1.0]])
  target = np.array([[1.0, 1.0], [0.0, 0.5]])
  pairs = matching.match(prediction, target)
  # (0, 0)-(0, 0.5) costs (0 + 1/8) / 2; (3, 1)-(1, 1) costs (1.5 + 0) / 2.
  assert pairs.predictions.tolist() == [0, 1]
  assert pairs.targets.tolist() == [1, 0]
  assert pairs.loss == pytest.approx((1 / 16 + 3 / 4) / 2)


def test_match_of_diverged_prediction_is_empty():
  pairs = matching.match(np.array([[NAN], [1.0]]), np.zeros((2, 1)))
  assert not len(pairs.predictions) and np.isnan(pairs.loss)


def test_one_feature_stands_at_its_targets_rank():
  panel = set_panels.make_panel(
    np.array([[3.0], [1.0], [2.0]]), np.array([[1.1], [2.9], [2.1]]), False
  )
  assert panel.truth.tolist() == [[3, 2], [1, 0], [2, 1]]
  assert panel.guess.tolist() == [[1.1, 0], [2.9, 2], [2.1, 1]]


def test_presence_is_matched_but_not_placed():
  truth = np.array([[5.0, 2.0, 1.0], [0.0, 0.0, 0.0]])
  guess = np.array([[0.0, 0.0, 0.0], [5.0, 2.0, 0.8]])
  panel = set_panels.make_panel(truth, guess, True)
  assert panel.truth.tolist() == [[5, 2], [0, 0]]
  assert panel.guess_presence.tolist() == [0.0, 0.8]
  assert panel.pairs.targets.tolist() == [1, 0]
  assert panel.pairs.loss == pytest.approx(0.5 * 0.2**2 / 3 / 2)


def test_far_predictions_do_not_set_the_scale():
  truth = np.array([[0.0, 0.0], [1.0, 10.0]])
  near = set_panels.make_panel(truth, truth + 0.2, False)
  far = set_panels.make_panel(truth, truth * 1e6 + [np.inf, 0], False)
  low, high = set_panels.limits_of([near, far], equal=False)
  assert np.all(low <= 0) and np.all(high >= [1.2, 10.2])
  assert np.all(low >= [-0.6, -6]) and np.all(high <= [1.6, 16])
  low, high = set_panels.limits_of([near, far], equal=True)
  assert np.all(low >= [-6, -6]) and np.all(high <= [7, 16])


@pytest.mark.parametrize(
  'features, examples, columns', [(1, 2, 1), (2, 1, 1), (5, 1, 2)]
)
def test_random_sets(tmp_path, features, examples, columns):
  targets = RNG.normal(size=(examples, 6, features)).astype(np.float32)
  predictions = {10 * t: targets[:, ::-1] + 0.1 for t in range(columns)}
  path = tmp_path / 'new' / 'folder' / 'sets.png'
  _drawn(sets.draw_random_sets, path, targets, predictions)


def test_more_panels_make_a_larger_figure(tmp_path):
  targets = RNG.normal(size=(2, 4, 2))
  one = {1: targets[:1]}
  many = dict.fromkeys(range(3), targets)
  small = _drawn(sets.draw_random_sets, tmp_path / 'a.png', targets[:1], one)
  (tmp_path / 'a.png').unlink()
  large = _drawn(sets.draw_random_sets, tmp_path / 'b.png', targets, many)
  assert large[0] > small[0] and large[1] > small[1]


@pytest.mark.parametrize('value, features', [(NAN, 2), (np.inf, 1), (1e30, 2)])
def test_diverged_predictions_are_drawn(tmp_path, value, features):
  targets = RNG.normal(size=(1, 4, features))
  some = targets.copy()
  some[0, 1] = value
  predictions = {1: some, 2: np.full_like(targets, value)}
  path = tmp_path / 'sets.png'
  _drawn(sets.draw_random_sets, path, targets, predictions)


@pytest.mark.parametrize('features', [1, 3])
def test_sets_with_presence(tmp_path, features):
  raw = RNG.normal(size=(3, 5, features))
  targets = set_files.with_presence(raw, np.array([5, 1, 0]))
  noisy = targets + 0.3 * RNG.normal(size=targets.shape)
  broken = np.where(RNG.random(targets.shape) < 0.1, NAN, targets)
  predictions = {1: np.zeros_like(targets), 5: noisy, 20: broken}
  path = tmp_path / 'sets.png'
  _drawn(sets.draw_sets_with_presence, path, targets, predictions)


def test_presence_alone_is_no_feature(tmp_path):
  ones = np.ones((1, 3, 1))
  with pytest.raises(ValueError, match='two features'):
    sets.draw_sets_with_presence(ones, {1: ones}, tmp_path / 'a.png')


@pytest.mark.parametrize(
  'targets, predictions, words',
  [
    ((2, 3), {1: (2, 3)}, 'Targets'),
    ((0, 3, 2), {1: (0, 3, 2)}, 'Targets'),
    ((2, 3, 2), {}, 'no predictions'),
    ((2, 3, 2), {5: (1, 3, 2)}, 'for T = 5 have shape'),
    ((2, 3, 2), {5: (2, 3, 3)}, 'for T = 5 have shape'),
    ((2, 3, 2), {5: (2, 0, 2)}, 'for T = 5 have shape'),
  ],
)
def test_shapes_that_do_not_fit(tmp_path, targets, predictions, words):
  guesses = {t: np.zeros(shape) for t, shape in predictions.items()}
  with pytest.raises(ValueError, match=words):
    sets.draw_random_sets(np.zeros(targets), guesses, tmp_path / 'a.png')
  assert not list(tmp_path.iterdir())


def test_scenes(tmp_path):
  targets = _scene_sets(2)
  noisy = targets + 0.3 * RNG.normal(size=targets.shape)
  noisy[0, 0] = NAN
  noisy[1, 0, :2] = 50.0
  predictions = {1: np.zeros_like(targets), 20: noisy, 40: targets}
  _drawn(scenes.draw_scenes, tmp_path / 'scenes.png', targets, predictions)


def test_every_class_can_be_drawn():
  assert set(scenes.RGB) == set(clevr_scenes.COLORS)
  assert set(scenes.OUTLINES) == set(clevr_scenes.SHAPES)
  assert set(scenes.RADII) == set(clevr_scenes.SIZES)
  assert set(scenes.EDGES) == set(clevr_scenes.MATERIALS)


def test_scenes_want_nineteen_features(tmp_path):
  with pytest.raises(ValueError, match='19 features'):
    zeros = np.zeros((1, 10, 18))
    scenes.draw_scenes(zeros, {1: zeros}, tmp_path / 'a.png')


@pytest.mark.parametrize('fill', [None, 0.0, NAN])
def test_trajectory(tmp_path, fill):
  energy = np.exp(-np.arange(11)[:, None] / 3) * RNG.lognormal(size=(1, 8))
  energy[5:, 2] = np.inf
  if fill is not None:
    energy[:] = fill
  path = tmp_path / 'trajectory.png'
  _drawn(trajectories.draw_trajectory, path, energy, np.sqrt(energy))


def test_trajectory_shapes(tmp_path):
  with pytest.raises(ValueError, match='residual'):
    trajectories.draw_trajectory(
      np.ones((3, 2)), np.ones(3), tmp_path / 'a.png'
    )


def test_losses(tmp_path):
  noisy = RNG.lognormal(size=1000)
  noisy[[3, 500]] = NAN, 0.0
  curves = {f'run {i}': ([0, 10, 20], [3.0, 2.0, 1.0]) for i in range(12)}
  curves['noisy'] = (np.arange(1000), noisy)
  _drawn(trajectories.draw_losses, tmp_path / 'losses.png', curves)


def test_losses_without_a_positive_value(tmp_path):
  curves = {'zero': ([0, 1], [0.0, 0.0]), 'nan': ([5], [NAN])}
  _drawn(trajectories.draw_losses, tmp_path / 'losses.png', curves)


def test_running_median_by_hand():
  losses = np.array([1.0, 9.0, 2.0, 3.0, 4.0])
  steps, median = trajectories._running_median(np.arange(5) * 10, losses)
  assert steps.tolist() == [0, 10, 20, 30, 40]
  # Windows of three; the curve is reflected at its ends.
  assert median.tolist() == [9.0, 2.0, 3.0, 3.0, 3.0]


@pytest.mark.parametrize('curve', [([], []), ([1, 2], [1.0]), (1, 1.0)])
def test_losses_shapes(tmp_path, curve):
  with pytest.raises(ValueError, match="'bad'"):
    trajectories.draw_losses({'bad': curve}, tmp_path / 'a.png')
  with pytest.raises(ValueError, match='no learning curves'):
    trajectories.draw_losses({}, tmp_path / 'a.png')


def test_a_failed_write_keeps_the_old_file(tmp_path):
  class Broken:
    """A figure whose disk fills up."""

    def savefig(self, path, **_):
      path.write_bytes(b'half')
      raise OSError('disk full')

    def clear(self):
      pass

  path = tmp_path / 'a.png'
  path.write_bytes(b'old')
  with pytest.raises(OSError, match='disk full'):
    save.save_png(Broken(), path)
  assert path.read_bytes() == b'old'
  assert list(tmp_path.iterdir()) == [path]


def test_drawing_does_not_load_pyplot():
  names = 'save, scenes, sets, trajectories'
  code = (
    f'import sys; from idspn_jax.figures import {names}; '
    "sys.exit('matplotlib.pyplot' in sys.modules)"
  )
  root = pathlib.Path(__file__).parents[2]
  subprocess.run([sys.executable, '-c', code], cwd=root, check=True)


def test_numberings(tmp_path):
  sets = {
    label: numbering_errors.wrong_numbers(
      RNG.integers(0, 3, size), RNG.integers(0, size, size), 4
    )
    for label, size in (('small', 5), ('large', 40))
  }
  width, height = _drawn(
    lambda path: numbering.draw_numberings(sets, path), tmp_path / 'a.png'
  )
  assert height > 2 * width
