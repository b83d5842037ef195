"""CLEVR from images: training, resuming, units, metrics, other pictures."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import clevr as clevr_config
from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.data import clevr_tree
from idspn_jax.losses import set_losses
from idspn_jax.metrics import scene_scores
from idspn_jax.runs import loading
from idspn_jax.studies import evaluations
from idspn_jax.studies import predictions
from idspn_jax.tasks import clevr
from idspn_jax.training import loop

KEY = jax.random.key(0)


def small_config(tree, arguments=''):
  """Seconds to train: 16×16 pixels, one block of four channels."""
  separator = ',' if arguments else ''
  config = clevr_config.get_config(f'data=tree{separator}{arguments}')
  config.data.data_dir = str(tree)
  config.data.image_size = 16
  config.data.max_objects, config.data.min_objects = 4, 1
  config.data.coordinate_unit = 1.0
  config.batch_size = config.eval_batch_size = 3
  config.steps, config.log_every = 4, 2
  config.eval_every = config.checkpoint_every = 2
  config.iterations_schedule, config.optimizer.schedule = '', 'constant'
  config.ema_decay = 0.5
  config.model.hidden_dim = config.model.latent_dim = 16
  config.model.iterations = 2
  config.model.image_encoder.stem = 'patch'
  config.model.image_encoder.blocks = (1,)
  config.model.image_encoder.width = 4
  config.model.slots.update({'width': 4, 'slot_dim': 8, 'mlp_dim': 8})
  config.model.slots.pooled = 2
  return config


@pytest.fixture
def config(clevr_tree_path):
  """A small configuration on noise pictures."""
  return small_config(clevr_tree_path)


@pytest.fixture(scope='module')
def tree(tmp_path_factory, write_clevr_tree):
  """Noise pictures that are shared by this file's tests."""
  return write_clevr_tree(tmp_path_factory.mktemp('clevr'))


@pytest.fixture(scope='module')
def trained(tmp_path_factory, tree):
  """A finished run: its directory and result."""
  workdir = str(tmp_path_factory.mktemp('run'))
  return workdir, loop.train_and_evaluate(small_config(tree), workdir)


def batch_of(config):
  with clevr.build(config).data(0).train(0) as batches:
    return next(batches)


class TestTraining:
  def test_reports_both_average_precisions(self, trained):
    metrics = trained[1]['metrics']
    assert metrics['images'] == 5
    for name in ('inf', '1', '0.5', '0.25', '0.125', '0.0625'):
      for kind in ('ap', 'ap_per_image'):
        assert 0 <= metrics[f'{kind}_{name}'] <= 1
    assert np.isfinite(metrics['loss'])

  def test_resumes_as_if_it_had_not_stopped(self, trained, tree, tmp_path):
    config = small_config(tree)
    config.steps = 3
    loop.train_and_evaluate(config, str(tmp_path))
    config.steps = 4
    result = loop.train_and_evaluate(config, str(tmp_path))
    assert result['metrics'] == trained[1]['metrics']
    whole, resumed = (
      loading.load_run(str(d)).variables for d in (trained[0], tmp_path)
    )
    assert set(whole) == {'params', 'batch_stats'}
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)

  def test_batch_statistics_move(self, trained, tree):
    fresh = clevr.Clevr(small_config(tree)).init(KEY)['batch_stats']
    found = loading.load_run(trained[0]).variables['batch_stats']
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), fresh, found)
    assert all(jax.tree.leaves(moved))

  @pytest.mark.parametrize(
    'name',
    [
      'idspn',
      'dspn_momentum',
      'idspn_rnfs',
      'slot_attention_scene',
      'slot_mlp',
    ],
  )
  def test_every_model_has_finite_gradients(self, tree, name):
    config = small_config(tree, f'model={name}')
    task = clevr.Clevr(config)
    variables = task.init(KEY)
    batch = batch_of(config)

    def loss(params):
      stats = {k: v for k, v in variables.items() if k != 'params'}
      return task.loss(params, stats, batch, KEY)[0]

    gradient = jax.jit(jax.grad(loss))(variables['params'])
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(gradient))
    assert any(np.any(g != 0) for g in jax.tree.leaves(gradient))


class TestUnits:
  def test_losses_are_in_the_configured_unit(self, config):
    task = clevr.Clevr(config)
    batch = batch_of(config)
    found = task.evaluate(task.init(KEY), batch, KEY)
    scale = np.ones((1, 1, 19), np.float32)
    scale[..., :3] = 3.0
    expected = set_losses.hungarian_loss(
      found['prediction'] * scale, batch['target'] * scale
    )
    np.testing.assert_allclose(found['loss'], expected, rtol=1e-6)

  def test_predictions_are_features_whatever_the_unit(self, config):
    """The decoder's own set, in units, is `scale` times the features."""
    config.data.coordinate_unit = 0.5
    task = clevr.Clevr(config)
    variables, batch = task.init(KEY), batch_of(config)
    features = task.evaluate(variables, batch, KEY)['prediction']
    inner = task.model.module.apply(
      variables, batch['image'], rngs={'initial_set': KEY}
    )
    ratio = np.asarray(inner / features)
    np.testing.assert_allclose(ratio[..., :3], 6.0, rtol=1e-5)
    np.testing.assert_allclose(ratio[..., 3:], 1.0, rtol=1e-5)


class TestSlots:
  def test_loss_of_the_last_iteration_or_of_all(self, tree):
    losses = {}
    for loss_at in ('last', 'all'):
      config = small_config(tree, 'model=slot_attention')
      config.model.slots.loss_at = loss_at
      task, batch = clevr.Clevr(config), batch_of(config)
      variables = task.init(KEY)
      stages = task.model.module.apply(
        variables,
        batch['image'],
        method='all_iterations',
        rngs={'initial_set': KEY},
      )
      # In [0, 1], and padding is zero.
      target = batch['target'].copy()
      target[..., :3] = 0.5 + 0.5 * target[..., :3]
      target *= batch['target'][..., -1:]
      own = []
      for stage in stages[-1:] if loss_at == 'last' else stages:
        moved = jnp.concatenate(
          [0.5 + 0.5 * stage[..., :3], stage[..., 3:]], axis=-1
        )
        own.append(jnp.mean(set_losses.hungarian_loss(moved, target)))
      losses[loss_at] = task.loss(variables['params'], {}, batch, KEY)[0]
      np.testing.assert_allclose(losses[loss_at], np.mean(own), rtol=1e-5)
    assert losses['last'] != losses['all']

  def test_has_no_inner_steps(self, tree):
    task = clevr.Clevr(small_config(tree, 'model=slot_attention'))
    assert not task.iterates
    found = task.predict(
      task.init(KEY), {'image': np.zeros((2, 16, 16, 3))}, KEY
    )
    assert set(found) == {'sets'} and found['sets'].shape == (2, 4, 19)


class TestEvaluation:
  def test_the_summary_is_that_of_the_scores(self, config):
    task = clevr.Clevr(config)
    batch = batch_of(config)
    rows = jax.device_get(task.evaluate(task.init(KEY), batch, KEY))
    found = task.summarize(rows)
    scores = scene_scores.scene_scores(rows['prediction'], rows['target'])
    assert {k: found[k] for k in scores} == scores
    assert found['images'] == 3

  def test_another_archive(self, trained, tmp_path, write_clevr_tree):
    other = write_clevr_tree(tmp_path, num_val=8, most=6)
    with pytest.raises(errors.UserError, match='leave_out|objects'):
      run = loading.load_run(trained[0], data_path=str(other))
      evaluations.evaluate_at(run, [2])
    smaller = write_clevr_tree(tmp_path / 'b', num_val=6, most=3)
    run = loading.load_run(trained[0], data_path=str(smaller))
    table = evaluations.evaluate_at(run, [1, 2], [1, 2])
    assert [row['images'] for row in table['rows']] == [6] * 4
    assert table['other_file'] == str(smaller)
    targets = clevr_tree.TreePictures(smaller, 'val', 4).targets
    batches = list(run.data.evaluate())
    found = np.concatenate([b['target'][b['mask']] for b in batches])
    np.testing.assert_array_equal(found, targets)

  def test_scenes_of_other_numbers_of_objects_may_be_left_out(
    self, config, tmp_path, write_clevr_tree
  ):
    other = write_clevr_tree(tmp_path / 'c', num_val=8, most=6)
    config.data.leave_out, config.data.min_objects = True, 2
    data = clevr.build(config, data_path=str(other)).data(0)
    batches = list(data.evaluate())
    targets = np.concatenate([b['target'][b['mask']] for b in batches])
    counts = clevr_features.mask_of(targets).sum(1)
    assert targets.shape[1:] == (4, 19)
    # Scene i has 1 + i mod 6 objects.
    np.testing.assert_array_equal(counts, [2, 3, 4, 2])


class TestPrediction:
  def test_energies_of_all_starts(self, trained):
    run = loading.load_run(trained[0])
    images = np.zeros((5, 16, 16, 3), np.uint8)
    found = predictions.predict(
      run, {'image': images}, batch_size=2, restarts=3
    )
    assert found['start_energies'].shape == (5, 3)
    assert found['coordinates'].shape == (5, 4, 3)
    assert found['color'].shape == (5, 4)
    assert np.all(np.isfinite(found['energy']))

  def test_as_scenes(self, trained, tmp_path):
    run = loading.load_run(trained[0])
    found = predictions.predict(run, {'image': np.zeros((2, 16, 16, 3))})
    predictions.save(run, found, str(tmp_path / 'out.json'))
    written = json.loads((tmp_path / 'out.json').read_text('utf-8'))
    assert len(written['scenes']) == 2
    assert 'energy' in written['scenes'][0]


class TestAugmentation:
  def test_changes_images_alone(self, config):
    config.augmentation.brightness, config.augmentation.noise = 0.2, 0.05
    task, batch = clevr.Clevr(config), batch_of(config)
    found = task.prepare(batch, KEY)
    np.testing.assert_array_equal(found['target'], batch['target'])
    image = batch['image'] / np.float32(255)
    assert found['image'].dtype == jnp.float32
    assert np.min(found['image']) >= 0 and np.max(found['image']) <= 1
    change = np.abs(found['image'] - image)
    assert 0.01 < np.mean(change) < 0.2
    other = task.prepare(batch, jax.random.key(1))['image']
    assert not np.array_equal(found['image'], other)

  def test_none_by_default(self, config):
    batch = batch_of(config)
    assert clevr.Clevr(config).prepare(batch, KEY)['image'] is batch['image']


class TestRendered:
  @pytest.fixture
  def rendered(self, config, tmp_path):
    config.data.source = 'rendered'
    config.data.cache_dir = str(tmp_path)
    config.data.num_train, config.data.num_test = 5, 4
    config.data.min_objects = 3
    config.data.workers = 0
    return config

  def test_pictures_are_made_once_and_kept(self, rendered):
    batch = batch_of(rendered)
    assert batch['image'].shape == (3, 16, 16, 3)
    assert batch['target'].shape == (3, 4, 19)
    counts = clevr_features.mask_of(batch['target']).sum(1)
    assert set(counts) <= {3, 4}
    np.testing.assert_array_equal(batch_of(rendered)['image'], batch['image'])

  @pytest.mark.deep
  def test_pictures_are_made_anew_for_every_step(self, rendered):
    rendered.data.num_train = 0
    task, data = clevr.build(rendered).task, clevr.build(rendered).data(0)
    with data.train(7) as batches:
      bare = next(batches)
    assert set(bare) == {'row'}
    one, other = (jax.jit(task.fill)(bare, jax.random.key(i)) for i in range(2))
    assert one['image'].shape == (3, 16, 16, 3)
    assert one['image'].dtype == jnp.uint8
    assert one['target'].shape == (3, 4, 19)
    assert not np.array_equal(one['image'], other['image'])


@pytest.mark.parametrize(
  'changes, culprit',
  [
    ({'model.name': 'cnn'}, 'config.model.name'),
    ({'model.image_encoder.stem': 'big'}, 'image_encoder.stem'),
    ({'model.image_encoder.width': 0}, 'image_encoder.width'),
    ({'model.image_encoder.convolution': 'fft'}, 'convolution'),
    ({'model.latent_dim': 18}, 'latent_dim'),
    ({'data.image_size': 18}, 'image_encoder'),
    ({'data.coordinate_unit': 0.0}, 'coordinate_unit'),
    ({'data.min_objects': 5}, 'min_objects'),
    ({'data.source': 'rendered', 'data.num_train': 2}, 'num_train'),
    ({'data.source': 'rendered', 'data.max_objects': 11}, 'max_objects'),
    ({'augmentation.noise': -1.0}, 'augmentation.noise'),
    ({'model.name': 'slot_mlp', 'model.slots.pooled': 3}, 'pooled'),
    (
      {'model.name': 'slot_attention', 'model.slots.coordinates': 'cm'},
      'slots.coordinates',
    ),
    (
      {'model.name': 'slot_attention', 'model.slots.loss_at': 'first'},
      'slots.loss_at',
    ),
  ],
)
def test_settings_that_do_not_fit(config, changes, culprit):
  config.unlock()
  config.update_from_flattened_dict(changes)
  with pytest.raises(errors.UserError, match=culprit):
    clevr.build(config)


@pytest.mark.parametrize('arguments', ['model=mlp', 'data=web', 'setting=x'])
def test_arguments_that_do_not_exist(arguments):
  with pytest.raises(errors.UserError, match=arguments.split('=')[1]):
    clevr_config.get_config(arguments)
