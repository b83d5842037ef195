"""Figures: what they show, saved whole, and drawn from bad predictions."""

import io
import pathlib
import struct
import subprocess
import sys

import matplotlib.figure
import numpy as np
import pytest

from idspn_jax.data import clevr_features
from idspn_jax.data import set_files
from idspn_jax.figures import matching
from idspn_jax.figures import numbering
from idspn_jax.figures import scenes
from idspn_jax.figures import set_panels
from idspn_jax.figures import sets
from idspn_jax.figures import trajectories
from idspn_jax.metrics import numbering_errors

RNG = np.random.default_rng(0)
NAN = float('nan')


def _size(data):
  """Width and height of a PNG file, from its header."""
  assert data[:8] == b'\x89PNG\r\n\x1a\n'
  assert data[-8:-4] == b'IEND'
  return struct.unpack('>II', data[16:24])


def _drawn(figure):
  """Draws a figure into memory; returns its width and height."""
  assert isinstance(figure, matplotlib.figure.Figure)
  file = io.BytesIO()
  figure.savefig(file, format='png')
  width, height = _size(file.getvalue())
  assert min(width, height) > 200
  return width, height


def _titles(figure):
  return [axes.get_title() for axes in figure.axes]


def _scene_sets(examples):
  features = np.zeros((examples, 10, 19), np.float32)
  for row in features.reshape(-1, 19)[::2]:
    row[:2] = RNG.uniform(-1, 1, 2)
    for _, columns in clevr_features.ATTRIBUTES.values():
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
  assert np.all(low <= 0) and np.all(high >= [1.2, 10.2])
  assert np.all(high - low <= 22)


@pytest.mark.parametrize(
  'truth',
  [
    [[0.0, 0.0], [1.0, 10.0]],
    [[1e6, 0.0], [1e6 + 0.01, 3e-3]],
    [[1e6, 0.0], [1e6, 1.0]],
    [[2.0, -5.0]],
    [[0.0, 0.0]],
  ],
)
@pytest.mark.parametrize('shift', [0.0, 0.3, 1e9, NAN])
def test_equal_axes_have_one_span(truth, shift):
  truth = np.array(truth)
  guess = np.concatenate([truth, [[0.5, 0.5]]]) + [shift, 0.0]
  panel = set_panels.make_panel(truth, guess, False)
  free = set_panels.limits_of([panel], equal=False)
  low, high = set_panels.limits_of([panel], equal=True)
  assert high[0] - low[0] == pytest.approx(high[1] - low[1], rel=1e-6)
  assert np.all(low <= truth) and np.all(high >= truth)
  # No wider than needed: a constant coordinate, or far ones, do not count.
  varying = np.ptp(truth, axis=0)
  if varying.max() > 0:
    assert high[0] - low[0] <= 2.2 * varying.max()
    assert free[1, 1] - free[0, 1] <= high[1] - low[1] + 1e-12
  empty = panel._replace(truth_presence=np.zeros(len(truth)))
  low, high = set_panels.limits_of([empty], equal=True)
  assert high[0] - low[0] == pytest.approx(high[1] - low[1], rel=1e-6)


def test_pictures_of_sets_are_not_distorted():
  targets = np.array([[[0.0, 0.0], [1.0, 10.0], [0.5, 3.0]]])
  figure = sets.draw_random_sets(targets, {1: targets, 2: targets + 0.1})
  for axes in figure.axes:
    spans = np.ptp([axes.get_xlim(), axes.get_ylim()], axis=1)
    assert spans[0] == pytest.approx(spans[1])
    assert axes.get_box_aspect() == 1
  axes = sets.draw_random_sets(targets, {1: targets}, equal=False).axes[0]
  assert np.ptp(axes.get_ylim()) > 5 * np.ptp(axes.get_xlim())


@pytest.mark.parametrize(
  'features, examples, columns', [(1, 2, 1), (2, 1, 1), (5, 1, 2)]
)
def test_random_sets(features, examples, columns):
  targets = RNG.normal(size=(examples, 6, features)).astype(np.float32)
  predictions = {10 * t: targets[:, ::-1] + 0.1 for t in range(columns)}
  _drawn(sets.draw_random_sets(targets, predictions))


def test_feature_names_and_the_trained_number_of_steps():
  targets = RNG.normal(size=(2, 4, 3))
  predictions = {20: targets, 10: targets, 40: targets}
  names = ['price in $', 'cost_$_{', 'weight']
  figure = sets.draw_random_sets(
    targets, predictions, feature_names=names, trained_with=20
  )
  heads = [title.splitlines()[0] for title in _titles(figure)]
  assert heads == ['T = 10', 'T = 20 (trained)', 'T = 40'] * 2
  left, below = figure.axes[3], figure.axes[5]
  assert left.get_ylabel() == 'set 2\ncost_$_{'
  assert below.get_xlabel() == 'price in $'
  _drawn(figure)
  figure = sets.draw_random_sets(targets[..., :1], {'a': targets[..., :1]})
  assert figure.axes[1].get_xlabel() == 'feature 1'
  assert figure.axes[1].get_ylabel() == 'set 2\nelements, by value'


@pytest.mark.parametrize('names', [['x'], ['x', 'y', 'presence'], 'xy'])
def test_feature_names_that_do_not_fit(names):
  targets = np.ones((1, 4, 3))
  with pytest.raises(ValueError, match='needs 2 names'):
    sets.draw_sets_with_presence(targets, {1: targets}, feature_names=names)


def test_more_panels_make_a_larger_figure():
  targets = RNG.normal(size=(2, 4, 2))
  one = {1: targets[:1]}
  many = dict.fromkeys(range(3), targets)
  small = _drawn(sets.draw_random_sets(targets[:1], one))
  large = _drawn(sets.draw_random_sets(targets, many))
  assert large[0] > small[0] and large[1] > small[1]


@pytest.mark.parametrize('value, features', [(NAN, 2), (np.inf, 1), (1e30, 2)])
def test_diverged_predictions_are_drawn(value, features):
  targets = RNG.normal(size=(1, 4, features))
  some = targets.copy()
  some[0, 1] = value
  predictions = {1: some, 2: np.full_like(targets, value)}
  _drawn(sets.draw_random_sets(targets, predictions))


@pytest.mark.parametrize('features', [1, 3])
def test_sets_with_presence(features):
  raw = RNG.normal(size=(3, 5, features))
  targets = set_files.with_presence(raw, np.array([5, 1, 0]))
  noisy = targets + 0.3 * RNG.normal(size=targets.shape)
  broken = np.where(RNG.random(targets.shape) < 0.1, NAN, targets)
  predictions = {1: np.zeros_like(targets), 5: noisy, 20: broken}
  _drawn(sets.draw_sets_with_presence(targets, predictions, trained_with=5))


@pytest.mark.parametrize('bad', [NAN, np.inf, -np.inf])
def test_a_presence_that_is_not_finite_does_not_count(bad):
  targets = np.ones((1, 2, 3))
  guess = targets.copy()
  guess[0, 0, -1] = bad
  figure = sets.draw_sets_with_presence(targets, {1: guess})
  assert _titles(figure) == ['T = 1\n1 predicted / 2 true, non-finite']


def test_presence_alone_is_no_feature():
  ones = np.ones((1, 3, 1))
  with pytest.raises(ValueError, match='two features'):
    sets.draw_sets_with_presence(ones, {1: ones})


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
def test_shapes_that_do_not_fit(targets, predictions, words):
  guesses = {t: np.zeros(shape) for t, shape in predictions.items()}
  with pytest.raises(ValueError, match=words):
    sets.draw_random_sets(np.zeros(targets), guesses)


def test_scenes():
  targets = _scene_sets(2)
  noisy = targets + 0.3 * RNG.normal(size=targets.shape)
  noisy[0, 0] = NAN
  noisy[1, 0, :2] = 50.0
  predictions = {1: np.zeros_like(targets), 20: noisy, 40: targets}
  figure = scenes.draw_scenes(targets, predictions, trained_with=20)
  _drawn(figure)
  heads = [title.splitlines()[0] for title in _titles(figure)[:4]]
  assert heads == ['truth', 'T = 1', 'T = 20 (trained)', 'T = 40']


def test_every_class_can_be_drawn():
  assert set(scenes.RGB) == set(clevr_features.COLORS)
  assert set(scenes.OUTLINES) == set(clevr_features.SHAPES)
  assert set(scenes.RADII) == set(clevr_features.SIZES)
  assert set(scenes.EDGES) == set(clevr_features.MATERIALS)


def test_scenes_want_nineteen_features():
  with pytest.raises(ValueError, match='19 features'):
    zeros = np.zeros((1, 10, 18))
    scenes.draw_scenes(zeros, {1: zeros})


@pytest.mark.parametrize('fill', [None, 0.0, NAN])
def test_trajectory(fill):
  energy = np.exp(-np.arange(11)[:, None] / 3) * RNG.lognormal(size=(1, 8))
  energy[5:, 2] = np.inf
  if fill is not None:
    energy[:] = fill
  figure = trajectories.draw_trajectory(
    energy, np.sqrt(energy), trained_with=8 if fill is None else 99
  )
  _drawn(figure)
  marks = [text.get_text() for axes in figure.axes for text in axes.texts]
  assert marks == (['T = 8 (trained)'] * 2 if fill is None else [])


def test_trajectory_shapes():
  with pytest.raises(ValueError, match='residual'):
    trajectories.draw_trajectory(np.ones((3, 2)), np.ones(3))


def test_losses():
  noisy = RNG.lognormal(size=1000)
  noisy[[3, 500]] = NAN, 0.0
  curves = {f'run {i}': ([0, 10, 20], [3.0, 2.0, 1.0]) for i in range(12)}
  curves['noisy'] = (np.arange(1000), noisy)
  curves['_x$_{'] = ([0, 20], [1.0, 2.0])
  figure = trajectories.draw_losses(curves)
  _drawn(figure)
  labels = [text.get_text().strip() for text in figure.legends[0].get_texts()]
  assert labels == list(curves)
  axes = figure.axes[0]
  assert axes.get_yscale() == 'log'
  assert (axes.get_xlabel(), axes.get_ylabel()) == ('training step', 'loss')


def test_losses_without_a_positive_value():
  curves = {'zero': ([0, 1], [0.0, 0.0]), 'nan': ([5], [NAN])}
  _drawn(trajectories.draw_losses(curves))


def test_running_median_by_hand():
  losses = np.array([1.0, 9.0, 2.0, 3.0, 4.0])
  steps, median = trajectories._running_median(np.arange(5) * 10, losses)
  assert steps.tolist() == [0, 10, 20, 30, 40]
  # Windows of three; the curve is reflected at its ends.
  assert median.tolist() == [9.0, 2.0, 3.0, 3.0, 3.0]


@pytest.mark.parametrize('curve', [([], []), ([1, 2], [1.0]), (1, 1.0)])
def test_losses_shapes(curve):
  with pytest.raises(ValueError, match="'bad'"):
    trajectories.draw_losses({'bad': curve})
  with pytest.raises(ValueError, match='no learning curves'):
    trajectories.draw_losses({})


def test_drawing_does_not_load_pyplot():
  names = 'save, scenes, sets, trajectories'
  code = (
    f'import sys; from idspn_jax.figures import {names}; '
    "sys.exit('matplotlib.pyplot' in sys.modules)"
  )
  root = pathlib.Path(__file__).parents[2]
  subprocess.run([sys.executable, '-c', code], cwd=root, check=True)


def test_numberings():
  found = {
    key: numbering_errors.wrong_numbers(
      RNG.integers(0, 3, size), RNG.integers(-1, size, size), 4
    )
    for key, size in ((20, 5), ('large', 40))
  }
  figure = numbering.draw_numberings(found, trained_with=20)
  width, height = _drawn(figure)
  assert height > 2 * width
  assert _titles(figure)[0] == f'T = 20 (trained)\n{found[20].wrong} wrong'
  with pytest.raises(ValueError, match='no numberings'):
    numbering.draw_numberings({})
