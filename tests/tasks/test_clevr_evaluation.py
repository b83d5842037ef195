"""CLEVR runs on other pictures, on some numbers of objects, on new pictures."""

import json
import shutil

import jax
import numpy as np
from PIL import Image
import pytest

from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.data import pictures
from idspn_jax.runs import loading
from idspn_jax.studies import evaluations
from idspn_jax.studies import predictions
from idspn_jax.tasks import clevr
from idspn_jax.training import loop
from tests.tasks.test_clevr_task import small_config


def counts_of(data):
  """Numbers of objects of the test scenes."""
  batches = list(data.evaluate())
  targets = np.concatenate([b['target'][b['mask']] for b in batches])
  assert targets.shape[1:] == (4, 19)
  return clevr_features.mask_of(targets).sum(1).tolist()


@pytest.fixture(scope='module')
def folder(tmp_path_factory, write_clevr_tree):
  """A tiny run whose own pictures are gone, and another archive."""
  folder = tmp_path_factory.mktemp('runs')
  tree = write_clevr_tree(folder / 'own')
  config = small_config(tree)
  config.steps = 2
  loop.train_and_evaluate(config, str(folder / 'run'))
  shutil.rmtree(folder / 'own')
  write_clevr_tree(folder / 'other', num_val=8, most=6)
  return folder


@pytest.fixture
def config(clevr_tree_path):
  """A small configuration on noise pictures."""
  return small_config(clevr_tree_path)


@pytest.fixture(scope='module')
def run(folder):
  """The run, on the other archive."""
  return loading.load_run(
    str(folder / 'run'),
    data_path=str(folder / 'other' / ''),
    num_objects=(1, 4),
  )


@pytest.fixture(scope='module')
def paths(tmp_path_factory, folder):
  """A picture of the archive, and a JPEG of another shape."""
  first = folder / 'other/CLEVR_v1.0/images/val/CLEVR_val_000000.png'
  second = tmp_path_factory.mktemp('pictures') / 'b.jpg'
  Image.new('RGB', (30, 7), (9, 99, 200)).save(second)
  return [str(first), str(second)]


class TestNumbersOfObjects:
  def test_of_another_archive(self, config, tmp_path, write_clevr_tree):
    """Scene i has 1 + i mod 6 objects."""
    other = write_clevr_tree(tmp_path / 'c', num_val=8, most=6).parent
    build = clevr.build
    for chosen, expected in (((2, 3), [2, 3, 2]), ((3, 3), [3])):
      data = build(config, data_path=str(other), num_objects=chosen).data(0)
      assert counts_of(data) == expected
    config.data.leave_out, config.data.min_objects = True, 2
    assert counts_of(build(config, data_path=str(other)).data(0)) == [
      2,
      3,
      4,
      2,
    ]

  def test_of_the_runs_own_pictures(self, config):
    assert counts_of(clevr.build(config).data(0)) == [1, 2, 3, 4, 1]
    data = clevr.build(config, num_objects=(1, 2)).data(0)
    assert counts_of(data) == [1, 2, 1]

  def test_training_pictures_stay_as_they_are(self, config):
    data = clevr.build(config, num_objects=(1, 2)).data(0)
    assert len(data.sources['train']) == 7

  def test_nothing_is_rendered_to_test_on_others(
    self, config, tmp_path, write_clevr_tree
  ):
    other = write_clevr_tree(tmp_path / 'c', num_val=3, most=3)
    config.data.source = 'rendered'
    config.data.cache_dir = str(tmp_path / 'rendered')
    data = clevr.build(config, data_path=str(other)).data(0)
    assert counts_of(data) == [1, 2, 3]
    assert not (tmp_path / 'rendered').exists()

  def test_too_many_without_a_choice(self, config, tmp_path, write_clevr_tree):
    other = write_clevr_tree(tmp_path / 'c', num_val=8, most=6)
    data = clevr.build(config, data_path=str(other)).data(0)
    with pytest.raises(errors.UserError, match=r'--num_objects=1\.\.4'):
      counts_of(data)

  @pytest.mark.parametrize('chosen', [(3, 5), (3, 2), (-1, 2)])
  def test_impossible_ranges(self, config, chosen):
    with pytest.raises(errors.UserError, match='--num_objects=.*give'):
      clevr.build(config, num_objects=chosen)

  def test_none_left(self, config):
    config.data.max_objects = 10
    data = clevr.build(config, num_objects=(8, 10)).data(0)
    with pytest.raises(errors.UserError, match='8 to 10'):
      counts_of(data)


class TestEvaluate:
  def test_needs_none_of_its_own_pictures(self, folder, run):
    table = evaluations.evaluate_at(run, [2])
    assert table['num_objects'] == [1, 4]
    assert table['rows'][0]['images'] == 6
    text = evaluations.format_table(table)
    assert 'Only scenes of 1 to 4 objects.' in text
    found = evaluations.json_table(run, table)
    assert found['source'] == 'other' and found['images'] == 6
    assert found['rows'][0]['dataset_ap'].keys() >= {'inf', '0.0625'}
    assert found['workdir'] == run.workdir and found['step'] == 2
    figures = run.task.draw(run.variables, run.data, jax.random.key(0), [1])
    assert set(figures) == {'predictions', 'scenes'}
    titles = [axes.get_title() for axes in figures['predictions'].axes]
    # Four examples: picture, truth, prediction.
    assert sum(title.startswith('T = 1\n') for title in titles) == 4
    assert not (folder / 'own').exists()

  def test_has_a_place_of_its_own(self, folder, run):
    place = evaluations.default_output(run)
    assert place == str(folder / 'run' / 'evaluation_other_1to4_objects')
    tree = run._replace(other_file=str(folder / 'other' / 'CLEVR_v1.0'))
    assert evaluations.default_output(tree).endswith(
      'evaluation_CLEVR_v1.0_1to4_objects'
    )

  def test_a_wrong_folder_is_told_at_once(self, folder):
    for wrong, culprit in (
      (folder / 'absent', 'no such file or folder'),
      (folder / 'run', 'no folder `images`'),
    ):
      with pytest.raises(errors.UserError, match=culprit):
        loading.load_run(str(folder / 'run'), data_path=str(wrong))


class TestPredict:
  def test_pictures_of_any_size(self, folder, paths, tmp_path):
    run = loading.load_run(str(folder / 'run'))
    inputs = run.data.read_images(paths)
    assert inputs['image'].shape == (2, 16, 16, 3)
    np.testing.assert_array_equal(
      inputs['image'][1], pictures.decode(paths[1], 16)
    )
    found = predictions.predict(run, inputs, restarts=3)
    np.testing.assert_allclose(
      found['energy_spread'], np.std(found['start_energies'], axis=1)
    )
    found['names'] = np.asarray(['a.png', 'b.jpg'])
    predictions.save(run, found, str(tmp_path / 'out.json'))
    scenes = json.loads((tmp_path / 'out.json').read_text('utf-8'))['scenes']
    assert [s['image_filename'] for s in scenes] == ['a.png', 'b.jpg']
    assert len(scenes[0]['start_energies']) == 3
    assert scenes[1]['energy_spread'] >= 0
    margins = clevr_features.LAYOUT.margins(found['sets'])
    np.testing.assert_array_equal(found['margins'], margins)
    for scene, own, rows in zip(scenes, margins, found['sets'], strict=True):
      assert scene['margin'] == min(own)
      present = own[clevr_features.mask_of(rows)].tolist()
      assert [thing['margin'] for thing in scene['objects']] == present
    predictions.save(run, found, str(tmp_path / 'out.npz'))
    with np.load(tmp_path / 'out.npz') as stored:
      assert stored['names'].tolist() == ['a.png', 'b.jpg']

  def test_models_without_energies(self, config, tmp_path):
    data = clevr.build(config).data(0)
    found = data.to_units({'sets': np.ones((2, 4, 19))})
    (one, _) = data.to_json(found)['scenes']
    assert set(one) == {'objects', 'margin'} and len(one['objects']) == 4

  def test_no_file_of_inputs(self, config):
    with pytest.raises(errors.UserError, match='--images'):
      clevr.build(config).data(0).read_inputs('x.npz')
