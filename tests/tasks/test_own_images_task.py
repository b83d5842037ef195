"""One's own images: training, resuming, records, predictions, drawing."""

import json
import shutil

import jax
import numpy as np
from PIL import Image
import pytest

from configs import own_images as own_images_config
from idspn_jax import errors
from idspn_jax.data import set_layout
from idspn_jax.figures import save
from idspn_jax.runs import directory
from idspn_jax.runs import loading
from idspn_jax.studies import evaluations
from idspn_jax.studies import predictions
from idspn_jax.tasks import own_images
from idspn_jax.tasks import own_images_data
from idspn_jax.training import loop

KEY = jax.random.key(0)
COLOURS = {'blue': (0, 0, 255), 'red': (255, 0, 0)}


def make_dots(folder, count=12, seed=0, drop=()):
  """Images of 0 to 2 coloured points, and their file; returns its path."""
  rng = np.random.default_rng(seed)
  (folder / 'images').mkdir(parents=True)
  images = []
  for i in range(count):
    pixels = np.full((20, 20, 3), 128, np.uint8)
    elements = []
    for _ in range(i % 3):
      x, y = rng.integers(2, 18, 2).tolist()
      colour = str(rng.choice(list(COLOURS)))
      pixels[y - 2 : y + 2, x - 2 : x + 2] = COLOURS[colour]
      element = {'x': x / 20, 'y': y / 20, 'colour': colour}
      elements.append({k: v for k, v in element.items() if k not in drop})
    Image.fromarray(pixels).save(folder / 'images' / f'{i}.png')
    images.append({'file': f'{i}.png', 'elements': elements})
  path = folder / 'sets.json'
  path.write_text(json.dumps({'images': images}), 'utf-8')
  return path


def small_config(path, arguments='size=16'):
  """Seconds to train: 16×16 pixels, one block of four channels."""
  config = own_images_config.get_config(arguments)
  config.data.path = str(path)
  config.data.images = str(path.parent / 'images')
  config.batch_size = config.eval_batch_size = 3
  config.steps, config.log_every = 4, 2
  config.eval_every = config.checkpoint_every = 2
  config.ema_decay = 0.5
  config.cooldown = 0.0
  config.model.hidden_dim = config.model.latent_dim = 16
  config.model.iterations = 2
  config.model.image_encoder.blocks = (1,)
  config.model.image_encoder.width = 4
  return config


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  """Images that are shared by this file's tests."""
  return make_dots(tmp_path_factory.mktemp('dots'))


@pytest.fixture
def config(path):
  """A small configuration on them."""
  return small_config(path)


@pytest.fixture(scope='module')
def trained(tmp_path_factory, path):
  """A finished run: its directory and result."""
  workdir = str(tmp_path_factory.mktemp('run'))
  return workdir, loop.train_and_evaluate(small_config(path), workdir)


class TestTraining:
  def test_reports_precision_and_accuracy(self, trained):
    metrics = trained[1]['metrics']
    assert metrics['images'] == 2
    for name in ('ap_inf', 'ap_0.0625', 'ap_per_image_0.25', 'ap_1_low'):
      assert 0 <= metrics[name] <= 1
    for name in ('colour', 'attributes', 'set_size'):
      assert 0 <= metrics[f'{name}_accuracy'] <= 1
    assert np.isfinite(metrics['median_distance'])

  def test_a_run_is_continued(self, trained, path, tmp_path):
    workdir = str(tmp_path / 'run')
    shutil.copytree(trained[0], workdir)
    config = small_config(path)
    config.steps = 5
    assert loop.train_and_evaluate(config, workdir)['step'] == 5
    config.data.split_seed = 1
    with pytest.raises(errors.UserError, match='split_seed'):
      loop.train_and_evaluate(config, workdir)

  def test_batches_follow_from_the_step(self, config):
    data = own_images.build(config).data(0)
    with data.train(0) as batches, data.train(3) as later:
      for _ in range(3):
        before = next(batches)
      same, other = next(batches), next(later)
    np.testing.assert_array_equal(same['image'], other['image'])
    np.testing.assert_array_equal(same['target'], other['target'])
    assert not np.array_equal(before['image'], other['image'])


class TestData:
  def test_features_are_standardised_by_the_training_images(self, config):
    built = own_images.build(config)
    data = built.data(0)
    train = data.splits['train']
    assert train['image'].dtype == np.uint8
    assert train['image'].shape == (10, 16, 16, 3)
    layout = built.task.layout
    found = layout.decode(train['target'])
    exists = layout.mask_of(train['target'])
    np.testing.assert_allclose(found.values[exists].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(found.values[exists].std(0), 1, atol=1e-6)
    units = data.in_units(train['target'])
    steps = 20 * units.values[exists]
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-5)
    # Each point's colour is that of the image at its place.
    images, rows = np.nonzero(exists)
    for i, n in zip(images, rows, strict=True):
      x, y = (16 * units.values[i, n]).astype(int)
      pixel = train['image'][i, y, x].astype(int)
      assert (pixel[2] < pixel[0]) == bool(units.classes['colour'][i, n])

  def test_seeds_share_the_split_but_not_the_order(self, config):
    built = own_images.build(config)
    one, other = built.data(0), built.data(1)
    assert one.splits is other.splits
    with one.train(0) as a, other.train(0) as b:
      assert not np.array_equal(next(a)['image'], next(b)['image'])

  def test_damaged_images_are_found_before_training(self, tmp_path):
    config = small_config(make_dots(tmp_path))
    (tmp_path / 'images' / '7.png').write_bytes(b'\x89PNG')
    data = own_images.build(config).data(0)
    with pytest.raises(errors.UserError, match=r'7\.png: cannot be decoded'):
      data.train(0)

  def test_the_limit_of_memory(self, config, monkeypatch):
    monkeypatch.setattr(own_images_data, 'MOST_BYTES', 9_000)
    with pytest.raises(errors.UserError, match='image_size'):
      own_images.build(config)

  def test_the_folder_is_the_files_own_by_default(self, path, config, tmp_path):
    shutil.copytree(path.parent / 'images', tmp_path / 'all')
    shutil.copy(path, tmp_path / 'all' / 'sets.json')
    config.data.path = str(tmp_path / 'all' / 'sets.json')
    config.data.images = ''
    record = own_images.build(config).record
    assert record['images'] == str(tmp_path / 'all')

  @pytest.mark.parametrize('drop', [('x', 'y'), ('colour',)])
  def test_categories_alone_and_numbers_alone(self, drop, tmp_path):
    config = small_config(make_dots(tmp_path, drop=drop))
    built = own_images.build(config)
    target = built.data(0).splits['train']['target']
    loss = np.zeros(len(target))
    found = built.task.summarize(
      {'prediction': target, 'target': target, 'loss': loss}
    )
    assert found['ap_0.0625'] == found['ap_per_image_inf'] == 1
    assert ('median_distance' in found) == ('x' not in drop)
    assert ('colour_accuracy' in found) == ('x' in drop)


class TestRecord:
  @pytest.fixture
  def run(self, trained, path, tmp_path):
    """A copy of the run and of its images, which may be changed."""
    workdir = tmp_path / 'run'
    shutil.copytree(trained[0], workdir)
    shutil.copytree(path.parent, tmp_path / 'dots')
    stored = json.loads((workdir / 'config.json').read_text('utf-8'))
    stored['data']['path'] = str(tmp_path / 'dots' / 'sets.json')
    stored['data']['images'] = str(tmp_path / 'dots' / 'images')
    (workdir / 'config.json').write_text(json.dumps(stored), 'utf-8')
    return workdir, tmp_path / 'dots'

  def test_holds_split_statistics_and_layout(self, trained):
    record = directory.read_record(trained[0])
    assert record['layout'] == {
      'continuous': ['x', 'y'],
      'categories': {'colour': ['blue', 'red']},
    }
    assert len(record['test_images']) == 2 and record['count'] == 12

  def test_changed_sets_or_images_are_refused(self, run):
    workdir, dots = run
    loading.load_run(str(workdir))
    with open(dots / 'images' / '3.png', 'ab') as f:
      f.write(b'0')
    with pytest.raises(errors.UserError, match='have changed.*--data='):
      loading.load_run(str(workdir))
    shutil.copy(dots / 'images' / '4.png', dots / 'images' / 'more.png')
    with pytest.raises(errors.UserError, match='1 images have no set'):
      loading.load_run(str(workdir))

  def test_paths_of_another_directory(self, run, monkeypatch):
    workdir, dots = run
    monkeypatch.chdir(dots)
    shutil.copy('sets.json', 'images')
    config = small_config(dots / 'sets.json')
    config.data.path, config.data.images = 'images/sets.json', ''
    record = own_images.build(config).record
    monkeypatch.chdir(workdir)
    assert own_images.build(config, record).record == record

  def test_moved_files_are_the_same(self, trained, run, tmp_path):
    workdir, dots = run
    expected = trained[1]['metrics']
    shutil.move(dots, tmp_path / 'elsewhere')
    new = str(tmp_path / 'elsewhere' / 'sets.json')
    opened = loading.load_run(str(workdir), data_path=new)
    assert opened.other_file is None
    (row,) = evaluations.evaluate_at(opened, [2])['rows']
    assert row['ap_inf'] == pytest.approx(expected['ap_inf'])
    assert row['images'] == 2

  def test_without_files_a_run_still_predicts(self, trained, run, path):
    workdir, dots = run
    shutil.rmtree(dots)
    record = directory.read_record(str(workdir))
    record['path'] = str(dots / 'sets.json')
    (workdir / 'data.json').write_text(json.dumps(record), 'utf-8')
    opened = loading.load_run(str(workdir))
    inputs = opened.data.read_images([str(path.parent / 'images' / '2.png')])
    assert predictions.predict(opened, inputs)['sets'].shape == (1, 2, 2)
    with pytest.raises(errors.UserError, match='no such file'):
      evaluations.evaluate_at(opened, [2])

  def test_other_files_are_scored_whole(self, trained, tmp_path):
    other = make_dots(tmp_path, count=5, seed=1)
    content = json.loads(other.read_text('utf-8'))
    content['categories'] = {'colour': ['red', 'blue']}
    other.write_text(json.dumps(content), 'utf-8')
    run = loading.load_run(trained[0], data_path=str(other))
    assert run.other_file == str(other)
    (row,) = evaluations.evaluate_at(run, [2])['rows']
    assert row['images'] == 5
    # In the run's order of classes.
    batch = next(run.data.evaluate())
    found = run.data.in_units(batch['target'])
    labels = [
      ('blue', 'red')[k] for k in found.classes['colour'][found.presence > 0.5]
    ]
    kept = content['images'][: len(batch['target'])]
    assert labels == [e['colour'] for i in kept for e in i['elements']]

  @pytest.mark.parametrize(
    'change, match',
    [
      ({'colour': 'green'}, "class 'green'"),
      ({'z': 1}, "numbers \\['x', 'y', 'z'\\]"),
    ],
  )
  def test_other_files_that_do_not_fit(self, trained, tmp_path, change, match):
    other = make_dots(tmp_path, count=5)
    content = json.loads(other.read_text('utf-8'))
    for image in content['images']:
      for element in image['elements']:
        element.update(change)
    other.write_text(json.dumps(content), 'utf-8')
    with pytest.raises(errors.UserError, match=match):
      loading.load_run(trained[0], data_path=str(other))


class TestPrediction:
  def test_in_the_words_of_the_file(self, trained, path, tmp_path):
    run = loading.load_run(trained[0])
    files = [str(path.parent / 'images' / f'{i}.png') for i in range(4)]
    inputs = run.data.read_images(files)
    assert inputs['image'].shape == (4, 16, 16, 3)
    found = predictions.predict(run, inputs, batch_size=3)
    assert found['sets'].shape == (4, 2, 2)
    assert found['feature_names'].tolist() == ['x', 'y']
    assert found['classes_colour'].tolist() == ['blue', 'red']
    assert set(found['category_colour'].flat) <= {0, 1}
    predictions.save(run, found, str(tmp_path / 'out.npz'))
    found['presence'] = np.asarray([[0.9, 0.1]] * 4)
    predictions.save(run, found, str(tmp_path / 'out.json'))
    written = json.loads((tmp_path / 'out.json').read_text('utf-8'))
    assert len(written['images']) == 4
    for i, image in enumerate(written['images']):
      assert {'energy', 'residual'} <= set(image)
      (element,) = image['elements']
      assert list(element) == ['x', 'y', 'colour', 'presence', 'margin']
      assert element['margin'] == found['margins'][i, 0]
      assert image['margin'] == min(found['margins'][i])
      assert element['colour'] in COLOURS
      np.testing.assert_allclose(element['x'], found['sets'][i, 0, 0])

  def test_several_starts(self, trained, path, tmp_path):
    run = loading.load_run(trained[0])
    files = [str(path.parent / 'images' / f'{i}.png') for i in range(2)]
    found = predictions.predict(run, run.data.read_images(files), restarts=3)
    np.testing.assert_allclose(
      found['energy_spread'], np.std(found['start_energies'], axis=1)
    )
    predictions.save(run, found, str(tmp_path / 'out.json'))
    written = json.loads((tmp_path / 'out.json').read_text('utf-8'))
    assert [len(image['start_energies']) for image in written['images']] == [
      3,
      3,
    ]
    assert all(image['energy_spread'] >= 0 for image in written['images'])

  def test_of_a_file_of_sets(self, trained):
    run = loading.load_run(trained[0])
    with pytest.raises(errors.UserError, match='--images'):
      run.data.read_inputs('sets.json')


class TestDrawing:
  def test_places_in_pixels(self, config, tmp_path):
    config.data.draw_units = 'pixels'
    built = own_images.build(config)
    data, variables = built.data(0), built.task.init(KEY)
    found = built.task.draw(variables, data, KEY, (1,))['images']
    # The limits are those of the places, from the upper left corner.
    assert found.axes[0].get_xlim() == (0, 20)
    assert found.axes[0].get_ylim() == (20, 0)
    save.save_figure(found, tmp_path / 'a.png')
    assert (tmp_path / 'a.png').stat().st_size > 1_000

  @pytest.mark.parametrize('drop', [(), ('x', 'y')])
  def test_categories_are_listed(self, drop, tmp_path):
    config = small_config(make_dots(tmp_path, drop=drop))
    built = own_images.build(config)
    data = built.data(0)
    found = built.task.draw(built.task.init(KEY), data, KEY, (1,))['images']
    batch = data.examples(1)
    reds = int(np.sum(batch['target'][0, :, -2]))
    text = found.axes[0].get_xlabel().splitlines()[0]
    assert text.startswith('true: ') and (f'{reds} red' in text) == (reds > 0)

  def test_other_features_as_points(self, config):
    config.data.draw_x = 'elsewhere'
    built = own_images.build(config)
    data = built.data(0)
    found = built.task.draw(built.task.init(KEY), data, KEY, (1,))
    assert set(found) == {'sets'}


@pytest.mark.parametrize(
  'changes, culprit',
  [
    ({'data.path': ''}, 'config.data.path'),
    ({'data.path': 'no.json'}, 'no.json: no such file'),
    ({'data.images': 'no'}, 'no such folder'),
    ({'data.distance_unit': 0.0}, 'distance_unit'),
    ({'data.test_fraction': 1.5}, 'test_fraction'),
    ({'data.draw_units': 'inches'}, 'draw_units'),
    ({'data.image_size': 18}, 'image_encoder'),
    ({'batch_size': 11}, 'batch_size is 11'),
    ({'model.name': 'slot_mlp'}, 'config.model.name'),
  ],
)
def test_settings_that_do_not_fit(config, changes, culprit):
  config.unlock()
  config.update_from_flattened_dict(changes)
  with pytest.raises(errors.UserError, match=culprit):
    own_images.build(config)


def test_unit_of_distances(config):
  config.data.distance_unit = 0.5
  layout = own_images.build(config).task.layout
  assert layout.distance_scale == 2.0
  assert layout.categories == (set_layout.Category('colour', ('blue', 'red')),)
