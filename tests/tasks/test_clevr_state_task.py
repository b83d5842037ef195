"""Scene-state autoencoding: sampling, units, metrics, resuming, errors."""

import functools
import itertools
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import clevr_state as clevr_state_config
from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.data import clevr_scenes
from idspn_jax.metrics import scene_scores
from idspn_jax.runs import loading
from idspn_jax.studies import evaluations
from idspn_jax.studies import predictions
from idspn_jax.tasks import clevr_state
from idspn_jax.training import iterations
from idspn_jax.training import loop
from tests.tasks.conftest import SCENES

KEY = jax.random.key(0)


def sample(key, count):
  """Objects anywhere, one to four of ten rows."""
  keys = jax.random.split(key, 6)
  rows = 10
  parts = [jax.random.uniform(keys[0], (count, rows, 3), minval=-1.0)]
  for own, (names, _) in zip(
    keys[1:5], clevr_features.ATTRIBUTES.values(), strict=True
  ):
    index = jax.random.randint(own, (count, rows), 0, len(names))
    parts.append(jax.nn.one_hot(index, len(names)))
  number = jax.random.randint(keys[5], (count, 1), 1, 5)
  mask = (jnp.arange(rows)[None] < number).astype(jnp.float32)[..., None]
  return jnp.concatenate([*parts, mask], -1) * mask


build = functools.partial(clevr_state.build, sample=sample)


def small_config():
  """Seconds to train."""
  config = clevr_state_config.get_config('T=2')
  config.data.num_train, config.data.num_test = 20, 6
  config.data.scene_dir = ''
  config.batch_size = config.eval_batch_size = 4
  config.model.hidden_dim = config.model.latent_dim = 16
  config.steps, config.log_every = 6, 2
  config.eval_every = config.checkpoint_every = 3
  # Both would make the beginning depend on the number of steps.
  config.cooldown, config.iterations_schedule = 0.0, ''
  return config


@pytest.fixture
def config():
  """A small configuration of its own for each test."""
  return small_config()


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """A finished run on scenes drawn anew: its directory and result."""
  config = small_config()
  config.data.num_train = 0
  workdir = str(tmp_path_factory.mktemp('run'))
  return workdir, loop.train_and_evaluate(config, workdir, task=build)


@pytest.mark.parametrize('given, counts', [('', (20, 40)), ('T=1', (1,))])
def test_inner_steps_of_the_config(given, counts):
  config = clevr_state_config.get_config(given)
  assert iterations.Schedule(config).counts == counts
  assert config.model.iterations == counts[-1]


class TestScenes:
  def test_splits_and_seeds_differ_and_repeat(self):
    scenes = {
      (seed, split): clevr_state.sample_scenes(sample, 5, seed, split)
      for seed in (0, 1)
      for split in ('train', 'test')
    }
    assert len({a.tobytes() for a in scenes.values()}) == 4
    again = clevr_state.sample_scenes(sample, 5, 1, 'test')
    np.testing.assert_array_equal(again, scenes[1, 'test'])

  def test_a_larger_split_begins_like_a_smaller_one(self):
    few = clevr_state.sample_scenes(sample, 3, 0, 'train')
    many = clevr_state.sample_scenes(sample, 1001, 0, 'train')
    assert many.shape == (1001, 10, 19) and many.dtype == np.float32
    np.testing.assert_array_equal(many[:3], few)
    assert not np.array_equal(many[1000], many[0])

  def test_held_scenes_are_used_as_they_are(self, config):
    experiment = build(config)
    with experiment.data(0).train(0) as batches:
      batch = next(batches)
    assert experiment.task.prepare(batch, KEY) is batch
    assert batch['input'].shape == (4, 10, 19)

  def test_new_scenes_for_every_step(self, config):
    config.data.num_train = 0
    experiment = build(config)
    with experiment.data(0).train(5) as batches:
      first, second = itertools.islice(batches, 2)
    np.testing.assert_array_equal(first['row'], second['row'])
    one, other = (
      experiment.task.prepare(first, jax.random.key(i))['input']
      for i in range(2)
    )
    assert one.shape == other.shape == (4, 10, 19)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(one, sample(KEY, 4))


class TestTheRenderersSampler:
  def test_scenes_have_the_configured_numbers_of_objects(
    self, config, tmp_path, monkeypatch
  ):
    monkeypatch.setattr(clevr_state, '_PIECE', 20)
    config.data.min_objects, config.data.max_objects = 2, 4
    config.data.num_train = config.data.num_test = 20
    config.data.scene_dir = str(tmp_path)
    data = clevr_state.build(config).data(3)
    with data.train(0):
      pass
    for split in ('train', 'test'):
      scenes = data.splits[split]['input']
      assert scenes.shape == (20, 4, 19)
      counts = clevr_features.mask_of(scenes).sum(1)
      assert set(counts) == {2, 3, 4}
      # Large and small objects stand on the ground.
      large = clevr_features.decode(scenes).classes['size'] == 0
      z = 3 * scenes[..., 2]
      np.testing.assert_allclose(
        z, np.where(large, 0.7, 0.35) * (scenes[..., 18] > 0), rtol=1e-5
      )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
      'test_20_of_2-4_seed3_v1.npz',
      'train_20_of_2-4_seed3_v1.npz',
    ]
    again = clevr_state.build(config).data(3)
    monkeypatch.setattr(clevr_state, 'sample_scenes', lambda *_: 1 / 0)
    np.testing.assert_array_equal(
      again.examples(20)['input'], data.splits['test']['input']
    )

  def test_other_numbers_of_objects_are_refused(self, config):
    config.data.max_objects = 11
    with pytest.raises(errors.UserError, match='max_objects.*11'):
      clevr_state.build(config)


class TestUnits:
  def test_coordinates_enter_the_model_in_their_unit(self, config, monkeypatch):
    config.data.coordinate_unit = 0.5
    task = build(config).task
    seen = {}

    def decode(self, variables, sets, key, **options):
      seen['sets'] = sets
      return types.SimpleNamespace(
        set=sets, _replace=lambda set: types.SimpleNamespace(set=set)
      )

    monkeypatch.setattr(
      clevr_state.autoencoding.SetAutoencoding, 'decode', decode
    )
    scenes = sample(KEY, 3)
    found = task.decode({}, scenes, KEY).set
    np.testing.assert_allclose(found, scenes, rtol=1e-6)
    np.testing.assert_allclose(
      seen['sets'][..., :3], scenes[..., :3] * 3 / 0.5, rtol=1e-6
    )
    np.testing.assert_array_equal(seen['sets'][..., 3:], scenes[..., 3:])

  def test_the_papers_unit_changes_nothing(self, config):
    config.data.coordinate_unit = 3.0
    task = build(config).task
    variables = task.init(KEY)
    scenes = sample(KEY, 3)
    expected = super(clevr_state.ClevrState, task).decode(
      variables, scenes, KEY
    )
    np.testing.assert_array_equal(
      task.decode(variables, scenes, KEY).set, expected.set
    )


def test_trains_with_several_starts(config, tmp_path):
  """Evaluated with one start, as `config.model.restarts` says."""
  config.restarts_schedule = '1,2@0.5'
  result = loop.train_and_evaluate(config, str(tmp_path), task=build)
  assert result['step'] == 6 and np.isfinite(result['metrics']['loss'])


def test_metrics_are_those_of_the_whole_data_set(config, monkeypatch):
  task = build(config).task
  scenes = sample(KEY, 6)
  guess = np.array(scenes)
  guess[..., 0] += 0.1  # 0.3 scene units.
  monkeypatch.setattr(
    task, 'decode', lambda *_, **__: types.SimpleNamespace(set=guess)
  )
  rows = jax.tree.map(np.asarray, task.evaluate({}, {'input': scenes}, KEY))
  found = task.summarize(rows)
  # 0.3 in one of 19 features, smooth L1.
  np.testing.assert_allclose(found['loss'], 0.3**2 / 2 / 19, rtol=1e-5)
  assert found['ap_0.5'] == 1 and found['ap_0.25'] == 0
  assert found['ap_0.5_low'] == 1 and found['set_size_accuracy'] == 1
  np.testing.assert_allclose(found['median_distance'], 0.3, rtol=1e-5)
  assert task.headline == 'ap_0.125' and task.headline in found
  assert set(scene_scores.scene_scores(guess, scenes)) < set(found)


class TestRuns:
  def test_an_interrupted_run_continues(self, config, trained, tmp_path):
    config.data.num_train, config.steps = 0, 3
    loop.train_and_evaluate(config, str(tmp_path), task=build)
    config.steps = 6
    resumed = loop.train_and_evaluate(config, str(tmp_path), task=build)
    assert resumed['metrics'] == trained[1]['metrics']
    assert 0 <= resumed['metrics']['ap_0.125'] <= 1

  def test_a_scene_file_is_evaluated_and_predicted(self, trained):
    workdir, _ = trained
    run = loading.load_run(workdir, data_path=str(SCENES), task=build)
    table = evaluations.evaluate_at(run, [2])
    assert table['other_file'] == str(SCENES)
    assert table['rows'][0]['set_size_accuracy'] <= 1
    lines = evaluations.format_table(table).splitlines()
    assert lines[0].split() == ['inner', 'steps', 'T', '2*']
    line, _ = (line for line in lines if '< 0.125 ' in line)
    assert float(line.split('[')[0].split()[-1]) == pytest.approx(
      100 * table['rows'][0]['ap_0.125'], abs=0.05
    )
    inputs = run.data.read_inputs(str(SCENES))
    expected = clevr_scenes.load_scenes(SCENES)
    np.testing.assert_array_equal(inputs['input'], expected)
    found = predictions.predict(run, inputs)
    assert found['coordinates'].shape == (len(expected), 10, 3)
    assert len(run.data.to_json(found)['scenes']) == len(expected)
    figures = run.task.draw(run.variables, run.data, KEY, [2])
    assert list(figures) == ['scenes']


@pytest.mark.parametrize(
  'changes, culprit',
  [
    ({'num_train': -1}, 'num_train'),
    ({'num_train': 3}, 'batch_size is 4'),
    ({'num_test': 0}, 'num_test'),
    ({'min_objects': 11}, 'min_objects is 11'),
    ({'coordinate_unit': 0.0}, 'coordinate_unit'),
  ],
)
def test_settings_that_do_not_fit(config, changes, culprit):
  config.data.update(changes)
  with pytest.raises(errors.UserError, match=culprit):
    build(config)


def test_a_scene_file_that_does_not_fit(config, tmp_path):
  config.data.path = str(tmp_path / 'absent.json')
  with pytest.raises(errors.UserError, match='absent.json'):
    build(config).data(0)
  thing = json.loads(SCENES.read_text())['scenes'][0]['objects'][0]
  path = tmp_path / 'many.json'
  path.write_text(json.dumps({'scenes': [{'objects': [thing] * 11}]}))
  config.data.path = str(path)
  with pytest.raises(errors.UserError, match='11 objects'):
    build(config).data(0)
