"""CLEVR pictures as data of a task: batches, resuming, shares, errors."""

import itertools
import shutil

import numpy as np
import pytest

from configs import own_sets
from idspn_jax import errors
from idspn_jax.data import clevr_tfds
from idspn_jax.data import clevr_tree
from idspn_jax.data import picture_cache
from idspn_jax.tasks import clevr_pictures
from idspn_jax.tasks import clevr_sources

SPLITS = ('train', 'test')


@pytest.fixture
def config(clevr_tree_path):
  """A folder read directly, in batches of two."""
  config = own_sets.get_config().copy_and_resolve_references()
  with config.unlocked():
    config.data = clevr_sources.default_config()
  config.data.source, config.data.data_dir = 'tree', str(clevr_tree_path)
  config.data.image_size = 8
  config.batch_size = config.eval_batch_size = 2
  return config


@pytest.fixture
def tfds_config(config, clevr_tree_path, tmp_path):
  """The same pictures, prepared with TFDS."""
  for package in ('tensorflow_datasets', 'array_record', 'grain'):
    pytest.importorskip(package, reason="needs pip install 'idspn-jax[data]'")
  clevr_tfds.prepare(clevr_tree_path, tmp_path / 'tfds')
  config.data.source = 'tfds'
  config.data.data_dir = str(tmp_path / 'tfds')
  return config


def data_of(config, **options):
  sources = {s: clevr_sources.open_split(config.data, s) for s in SPLITS}
  return clevr_pictures.ClevrPictures(config, 0, sources, **options)


def batches_of(config, first, count, **options):
  with data_of(config, **options).train(first) as batches:
    return list(itertools.islice(batches, count))


def equal(a, b):
  assert len(a) == len(b)
  for one, other in zip(a, b, strict=True):
    for name in ('image', 'target'):
      np.testing.assert_array_equal(one[name], other[name])


class TestTraining:
  def test_batches(self, config):
    found = batches_of(config, 0, 3)
    assert found[0]['image'].shape == (2, 8, 8, 3)
    assert found[0]['image'].dtype == np.uint8
    assert found[0]['target'].shape == (2, 10, 19)
    assert found[0]['target'].dtype == np.float32
    # An epoch: three batches of two out of seven pictures.
    images = {b.tobytes() for batch in found for b in batch['image']}
    assert len(images) == 6

  @pytest.mark.parametrize('cache', [True, False])
  def test_an_interrupted_reading_continues(self, config, cache):
    config.data.cache = cache
    whole = batches_of(config, 0, 9)
    equal(batches_of(config, 4, 5), whole[4:])

  def test_the_cache_changes_nothing(self, config):
    cached = batches_of(config, 2, 5)
    config.data.cache = False
    equal(batches_of(config, 2, 5), cached)

  def test_processes_share_every_batch(self, config):
    whole = batches_of(config, 3, 4)
    parts = [batches_of(config, 3, 4, process=i, processes=2) for i in range(2)]
    joined = [
      {k: np.concatenate([a[k], b[k]]) for k in a}
      for a, b in zip(*parts, strict=True)
    ]
    equal(joined, whole)

  @pytest.mark.parametrize('workers', [0, 1, 2])
  def test_tfds_gives_the_same_batches_with_any_workers(
    self, tfds_config, clevr_tree_path, workers
  ):
    config = tfds_config
    config.data.cache, config.data.workers = False, workers
    found = batches_of(config, 2, 6)
    config.data.source, config.data.data_dir = 'tree', str(clevr_tree_path)
    equal(found, batches_of(config, 2, 6))

  def test_tfds_through_its_cache(self, tfds_config):
    cached = batches_of(tfds_config, 0, 4)
    tfds_config.data.cache, tfds_config.data.workers = False, 0
    equal(batches_of(tfds_config, 0, 4), cached)


class TestEvaluation:
  def test_every_picture_once_in_order(self, config):
    batches = list(data_of(config).evaluate())
    mask = np.concatenate([batch['mask'] for batch in batches])
    images = np.concatenate([batch['image'] for batch in batches])[mask]
    source = clevr_tree.TreePictures(config.data.data_dir, 'val')
    assert len(images) == 5 and len(mask) == 6
    for i, image in enumerate(images):
      np.testing.assert_array_equal(image, source.picture(i, 8))


class TestCache:
  def test_is_made_once(self, config, monkeypatch):
    data_of(config)
    monkeypatch.setattr(picture_cache, 'write', None)
    data_of(config)

  def test_is_enough_by_itself(self, config, tmp_path):
    config.data.cache_dir = str(tmp_path / 'cache')
    before = batches_of(config, 0, 2)
    shutil.rmtree(config.data.data_dir)
    config.data.data_dir = ''
    equal(batches_of(config, 0, 2), before)

  def test_of_another_size_is_refused(self, config, tmp_path):
    config.data.cache_dir = str(tmp_path / 'cache')
    data_of(config)
    config.data.image_size = 16
    with pytest.raises(errors.UserError, match='8×8, not 16×16'):
      data_of(config)

  def test_of_other_pictures_is_refused(self, config):
    data_of(config)
    clevr_tree.pathlib.Path(
      config.data.data_dir, 'images/val/CLEVR_val_000001.png'
    ).unlink()
    with pytest.raises(errors.UserError, match='other pictures'):
      data_of(config)

  def test_without_a_source_it_cannot_be_made(self, config, tmp_path):
    config.data.data_dir, config.data.cache_dir = '', str(tmp_path)
    with pytest.raises(errors.UserError, match='no cache of the split train'):
      data_of(config)


@pytest.mark.parametrize(
  'changes, culprit',
  [
    ({'data.source': 'web'}, 'config.data.source'),
    ({'data.image_size': 0}, 'config.data.image_size'),
    ({'data.workers': -1}, 'config.data.workers'),
    ({'data.data_dir': ''}, 'prepare_clevr'),
    ({'data.source': 'tfds'}, 'not prepared'),
    ({'batch_size': 8}, '7 sets'),
  ],
)
def test_settings_that_do_not_fit(config, changes, culprit):
  config.update_from_flattened_dict(changes)
  with pytest.raises(errors.UserError, match=culprit):
    batches_of(config, 0, 1)


def test_a_batch_that_does_not_divide(config):
  with pytest.raises(errors.UserError, match='among 3 processes'):
    data_of(config, processes=3)
