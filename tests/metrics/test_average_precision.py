"""Average precision against a slow independent version, and by hand."""

import math

import numpy as np
import pytest

from idspn_jax.data import clevr_features
from idspn_jax.metrics import average_precision
from idspn_jax.metrics import object_accuracy
from idspn_jax.metrics import scene_scores

THRESHOLDS = average_precision.THRESHOLDS
GROUPS = ((3, 5), (5, 13), (13, 16), (16, 18))


def classes(row):
  return tuple(int(np.argmax(row[a:b])) for a, b in GROUPS)


def distance(a, b):
  return math.sqrt(
    sum((3 * (x - y)) ** 2 for x, y in zip(a[:3], b[:3], strict=True))
  )


def area(hits, total):
  """Of the envelope of precision over recall; `hits` are ranked."""
  found, points = 0, []
  for rank, hit in enumerate(hits, 1):
    found += hit
    points.append((found / total, found / rank))
  value, before = 0.0, 0.0
  for i, (recall, _) in enumerate(points):
    if recall > before:
      value += (recall - before) * max(p for _, p in points[i:])
      before = recall
  return value


def ranked(rows):
  """Rows with their place, by presence; NaN last, ties by place."""

  def key(pair):
    presence = pair[1][-1]
    return math.inf if math.isnan(presence) else -presence

  return sorted(rows, key=key)


def candidates(row, target):
  """Places of the objects that a prediction may stand for, nearest first."""
  if not np.all(np.isfinite(row[:-1])):
    return []
  found = [
    (distance(row, truth), place)
    for place, truth in enumerate(target)
    if truth[-1] > 0.5 and classes(truth) == classes(row)
  ]
  return sorted(found)


def slow_dataset(prediction, target, threshold):
  rows = [(image, row) for image, rows in enumerate(prediction) for row in rows]
  taken, hits = set(), []
  for image, row in ranked(rows):
    near = candidates(row, target[image])
    hit = bool(near) and near[0][0] < threshold
    hit = hit and (image, near[0][1]) not in taken
    if hit:
      taken.add((image, near[0][1]))
    hits.append(hit)
  return area(hits, np.sum(target[..., -1] > 0.5))


def slow_image(prediction, target, threshold):
  left, hits = set(range(len(target))), []
  for _, row in ranked(list(enumerate(prediction))):
    near = [pair for pair in candidates(row, target) if pair[1] in left]
    hits.append(bool(near) and near[0][0] < threshold)
    if near:
      left.remove(near[0][1])
  return area(hits, np.sum(target[..., -1] > 0.5))


def make_scenes(rng, count=12, size=5, predictions=6):
  """Few classes and coarse numbers, so that ties and duplicates are common."""
  sizes = rng.integers(1, size + 1, count)
  choice = {
    key: rng.integers(0, 2, (count, size)) * (key in ('color', 'shape'))
    for key in clevr_features.ATTRIBUTES
  }
  coordinates = rng.integers(-2, 3, (count, size, 3)) / 8.0
  target = clevr_features.encode(
    clevr_features.Objects(
      coordinates, choice, np.arange(size) < sizes[:, None]
    )
  ).astype(np.float64)
  rows = rng.integers(0, size, (count, predictions))
  prediction = np.take_along_axis(target, rows[..., None], axis=1)
  prediction[..., :3] += rng.integers(-2, 3, (count, predictions, 3)) / 64.0
  prediction[..., -1] = rng.integers(0, 4, (count, predictions)) / 4.0
  return prediction, target


def both(prediction, target, thresholds=THRESHOLDS):
  found = average_precision.detect(prediction, target, thresholds)
  return (
    average_precision.dataset_average_precision(found),
    average_precision.image_average_precision(found),
  )


def agree(prediction, target):
  dataset, image = both(prediction, target)
  slow = [slow_dataset(prediction, target, t) for t in THRESHOLDS]
  np.testing.assert_allclose(dataset, slow, rtol=0, atol=1e-12)
  some = np.sum(target[..., -1] > 0.5, axis=1) > 0
  assert np.all(np.isnan(image[~some]))
  slow = [
    [slow_image(p, y, t) for t in THRESHOLDS]
    for p, y in zip(prediction[some], target[some], strict=True)
  ]
  np.testing.assert_allclose(image[some], slow, rtol=0, atol=1e-12)


class TestAgainstTheSlowVersion:
  @pytest.mark.parametrize('seed', range(8))
  def test_ties_and_duplicates(self, seed):
    prediction, target = make_scenes(np.random.default_rng(seed))
    dataset, image = both(prediction, target)
    assert 0 < dataset[4] < dataset[0] < 1  # The scenes tell something.
    assert np.any(image[:, 2] != image[:, 4])
    agree(prediction, target)

  def test_noise(self, rng):
    prediction, target = make_scenes(rng, predictions=9)
    agree(prediction + 0.3 * rng.normal(size=prediction.shape), target)

  @pytest.mark.parametrize('column', [0, 7, 17, 18])
  @pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
  def test_numbers_that_are_not_finite(self, column, value, rng):
    prediction, target = make_scenes(rng)
    prediction[::2, ::3, column] = value
    agree(prediction, target)

  def test_empty_images(self, rng):
    prediction, target = make_scenes(rng)
    target[[0, 5]] = 0
    agree(prediction, target)

  def test_fewer_and_more_predictions_than_objects(self, rng):
    for predictions in (1, 2, 12):
      agree(*make_scenes(rng, predictions=predictions))


def one_object(x, presence=1.0, color=0):
  row = np.zeros(19)
  row[[3, 5 + color, 13, 16]] = 1
  row[0], row[18] = x / 3, presence
  return row


class TestByHand:
  def test_what_the_definitions_differ_in(self):
    # Both predictions are nearest to the first object, which is at 0.
    target = np.asarray([[one_object(0), one_object(2)]])
    prediction = np.asarray([[one_object(0.1, 0.9), one_object(0.7, 0.8)]])
    dataset, image = both(prediction, target, (math.inf, 1.0))
    # The second one finds nothing new: one of two objects, at precision 1.
    np.testing.assert_allclose(dataset, [0.5, 0.5])
    # It stands for the second object, 1.3 away.
    np.testing.assert_allclose(image, [[1.0, 0.5]])

  def test_a_detection_beyond_the_threshold_uses_its_object_up_per_image(self):
    target = np.asarray([[one_object(0)]])
    prediction = np.asarray([[one_object(1.5, 0.9), one_object(0.1, 0.8)]])
    dataset, image = both(prediction, target, (1.0,))
    np.testing.assert_allclose(dataset, [0.5])
    np.testing.assert_allclose(image, [[0.0]])

  def test_the_threshold_itself_is_too_far(self):
    target = np.asarray([[one_object(0)]])
    prediction = np.asarray([[one_object(0.75)]])  # A quarter, exactly.
    dataset, image = both(prediction, target, (0.75, 0.7500001))
    np.testing.assert_allclose(dataset, [0, 1])
    np.testing.assert_allclose(image, [[0, 1]])

  def test_confidence_is_ranked_over_all_images(self):
    target = np.asarray([[one_object(0)], [one_object(0)]])
    prediction = np.asarray(
      [[one_object(0, 0.5)], [one_object(0, 0.9, color=1)]]
    )
    dataset, image = both(prediction, target, (1.0,))
    # The wrong one ranks first: precision 1/2 at recall 1/2.
    np.testing.assert_allclose(dataset, [0.25])
    np.testing.assert_allclose(image, [[1.0], [0.0]])

  def test_no_objects_at_all(self):
    dataset, image = both(np.ones((2, 3, 19)), np.zeros((2, 3, 19)))
    assert np.all(np.isnan(dataset)) and np.all(np.isnan(image))

  def test_no_predictions_and_no_rows(self):
    dataset, _ = both(np.zeros((1, 0, 19)), one_object(0)[None, None])
    np.testing.assert_array_equal(dataset, 0)
    dataset, _ = both(one_object(0)[None, None], np.zeros((1, 0, 19)))
    assert np.all(np.isnan(dataset))


class TestStreaming:
  def test_batches_and_padding_change_nothing(self, rng):
    prediction, target = make_scenes(rng)
    collected = average_precision.AveragePrecision()
    for start in range(0, 12, 5):
      rows = np.minimum(np.arange(start, start + 5), 11)
      mask = np.arange(start, start + 5) < 12
      collected.add(prediction[rows], target[rows], mask)
    dataset, image = both(prediction, target)
    found = collected.finish()
    np.testing.assert_array_equal(found[0], dataset)
    np.testing.assert_allclose(found[1], image.mean(0), rtol=1e-12)

  def test_nothing_was_added(self):
    with pytest.raises(ValueError, match='no images'):
      average_precision.AveragePrecision().finish()

  @pytest.mark.parametrize(
    'prediction, target, culprit',
    [
      ((2, 3, 18), (2, 3, 19), 'predictions'),
      ((2, 3, 19), (3, 19), 'targets'),
      ((2, 3, 19), (1, 3, 19), '2 images'),
    ],
  )
  def test_shapes_that_do_not_fit(self, prediction, target, culprit):
    with pytest.raises(ValueError, match=culprit):
      average_precision.detect(np.zeros(prediction), np.zeros(target))

  @pytest.mark.parametrize('thresholds', [(), (0.0,), (math.nan,), 1.0])
  def test_thresholds_that_are_none(self, thresholds):
    with pytest.raises(ValueError, match='positive'):
      average_precision.AveragePrecision(thresholds)


class TestBootstrap:
  def test_weights_are_repetitions(self, rng):
    prediction, target = make_scenes(rng, count=6)
    # No ties across images, where repetitions would be ranked side by side.
    prediction[..., -1] = rng.random(prediction.shape[:2])
    found = average_precision.detect(prediction, target)
    weights = np.asarray([0.0, 2, 1, 0, 3, 1])
    rows = np.repeat(np.arange(6), weights.astype(int))
    fast = average_precision._Ranking(found).average_precision(weights)
    slow = [slow_dataset(prediction[rows], target[rows], t) for t in THRESHOLDS]
    # Copies of one image have equal presences; each finds its own object.
    np.testing.assert_allclose(fast, slow, atol=0.03)
    image = average_precision.image_average_precision(found)
    np.testing.assert_allclose(
      average_precision.mean_over_images(image, weights),
      image[rows].mean(0),
    )

  def test_intervals_hold_the_estimate_and_follow_the_seed(self, rng):
    prediction, target = make_scenes(rng, count=40)
    found = average_precision.detect(prediction, target)
    ends = average_precision.bootstrap(found, 200, seed=3)
    dataset = average_precision.dataset_average_precision(found)
    image = average_precision.image_average_precision(found).mean(0)
    assert np.all((ends.dataset_low < dataset) & (dataset < ends.dataset_high))
    assert np.all((ends.image_low < image) & (image < ends.image_high))
    again = average_precision.bootstrap(found, 200, seed=3)
    np.testing.assert_array_equal(again, ends)
    other = average_precision.bootstrap(found, 200, seed=4)
    assert np.any(other.dataset_low != ends.dataset_low)

  def test_more_images_give_narrower_intervals(self):
    widths = []
    for count in (10, 160):
      scenes = make_scenes(np.random.default_rng(1), count)
      ends = average_precision.bootstrap(average_precision.detect(*scenes), 100)
      widths.append(ends.image_high - ends.image_low)
    assert np.all(widths[1] < 0.6 * widths[0])

  @pytest.mark.parametrize('options', [{'resamples': 0}, {'level': 1.0}])
  def test_impossible_settings(self, options, rng):
    found = average_precision.detect(*make_scenes(rng))
    with pytest.raises(ValueError, match='bootstrap'):
      average_precision.bootstrap(found, **options)


class TestObjectAccuracy:
  def test_by_hand(self):
    target = np.asarray([[one_object(0), one_object(2), np.zeros(19)]] * 2)
    prediction = target.copy()
    # Rows in another order, one colour wrong, one object half a unit off.
    prediction[0] = prediction[0, ::-1]
    prediction[0, 1, :3] += [0.5 / 3, 0, 0]
    prediction[1, 0, 5:7] = [0, 1]
    prediction[1, 2, 18] = 0.6  # An object too many.
    found = object_accuracy.summarize(
      object_accuracy.match_objects(prediction, target)
    )
    assert found['set_size_accuracy'] == 0.5
    assert found['color_accuracy'] == found['attributes_accuracy'] == 0.75
    assert found['shape_accuracy'] == found['material_accuracy'] == 1
    assert found['median_distance'] == 0

  def test_a_broken_prediction_is_wrong_and_infinitely_far(self):
    target = np.asarray([[one_object(0)]])
    prediction = target.copy()
    prediction[0, 0, 1] = np.nan
    found = object_accuracy.summarize(
      object_accuracy.match_objects(prediction, target)
    )
    assert found['median_distance'] == np.inf
    assert {v for k, v in found.items() if k.endswith('accuracy')} == {0.0}

  def test_no_objects(self):
    found = object_accuracy.summarize(
      object_accuracy.match_objects(np.zeros((2, 3, 19)), np.zeros((2, 3, 19)))
    )
    assert found['set_size_accuracy'] == 1
    assert math.isnan(found['shape_accuracy'])
    assert math.isnan(found['median_distance'])


class TestSceneScores:
  def test_names_and_batches(self, rng):
    prediction, target = make_scenes(rng)
    found = scene_scores.scene_scores(
      prediction, target, resamples=20, batch_size=5
    )
    dataset, image = both(prediction, target)
    assert found['ap_inf'] == dataset[0]
    assert found[scene_scores.HEADLINE] == dataset[4]
    assert found['ap_per_image_0.0625'] == pytest.approx(image[:, 5].mean())
    assert found['ap_1_low'] < found['ap_1'] < found['ap_1_high']
    assert {'set_size_accuracy', 'color_accuracy', 'median_distance'} <= set(
      found
    )

  def test_scenes_without_partner(self, rng):
    prediction, target = make_scenes(rng)
    with pytest.raises(ValueError, match='11 predicted scenes for 12'):
      scene_scores.scene_scores(prediction[1:], target)
