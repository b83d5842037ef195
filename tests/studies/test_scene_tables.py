"""Tables of predicted scenes: percent, intervals, settings side by side."""

import itertools

import pytest

from idspn_jax.metrics import scene_scores
from idspn_jax.studies import evaluations
from idspn_jax.studies import scene_tables

NAMES = ('inf', '1', '0.5', '0.25', '0.125', '0.0625')


def _row(iterations, restarts, rng):
  features = rng.normal(size=(6, 4, 19))
  target = rng.uniform(size=(6, 4, 19)).round()
  return {
    'iterations': iterations,
    'restarts': restarts,
    'loss': 0.12345,
    **scene_scores.scene_scores(features, target, resamples=10),
    'images': 6.0,
  }


@pytest.fixture
def table(rng):
  settings = itertools.product((1, 4), (10, 20, 40))
  rows = [_row(t, starts, rng) for starts, t in settings]
  return {'rows': rows, 'trained_with_iterations': 20}


def test_shares_in_percent(table):
  row = table['rows'][1]
  found = scene_tables.percent_row(row)
  assert (found['iterations'], found['restarts'], found['images']) == (20, 1, 6)
  assert isinstance(found['images'], int)
  for name, kind in (('dataset_ap', 'ap'), ('per_image_ap', 'ap_per_image')):
    for end in ('', '_low', '_high'):
      assert tuple(found[name + end]) == NAMES
      for t in NAMES:
        assert found[name + end][t] == 100 * row[f'{kind}_{t}{end}']
  assert found['loss'] == 0.12345
  assert found['median_distance'] == row['median_distance']
  assert found['accuracy']['set_size'] == 100 * row['set_size_accuracy']
  assert set(found['accuracy']) == {
    'set_size',
    'material',
    'color',
    'shape',
    'size',
    'attributes',
  }


def test_text(table):
  text = evaluations.format_table(table)
  blocks = text.split('\n\n')
  assert [block.splitlines()[0].split()[-3:] for block in blocks] == [
    ['10', '20*', '40']
  ] * 2
  assert blocks[0].splitlines()[1].split() == ['starts', '1', '1', '1']
  assert blocks[1].splitlines()[1].split() == ['starts', '4', '4', '4']
  assert blocks[1].splitlines()[2].split()[-3:] == ['40', '80', '160']
  assert max(map(len, text.splitlines())) <= 120
  row = table['rows'][0]
  expected = '{:.1f} [{:.1f}, {:.1f}]'.format(
    *(100 * row[f'ap_0.125{end}'] for end in ('', '_low', '_high'))
  )
  line = next(line for line in blocks[0].splitlines() if '< 0.125 ' in line)
  assert expected in line


def test_models_without_inner_steps(table):
  rows = [{**table['rows'][0], 'iterations': None}]
  one = {'rows': rows, 'trained_with_iterations': None}
  lines = scene_tables.format_table(one).splitlines()
  assert lines[0].split() == ['inner', 'steps', 'T', '–']
  assert 'starts' not in lines[1]
  assert scene_tables.percent_row(rows[0])['iterations'] is None


def test_which_scenes_are_told(table):
  data = {'leave_out': True, 'min_objects': 3, 'max_objects': 6}
  table['config'] = {'data': data}
  text = evaluations.format_table(table | {'other_file': '/data/clevr'})
  assert 'Only scenes of 3 to 6 objects.' in text
  assert 'The val pictures of /data/clevr' in text
  text = evaluations.format_table(table | {'num_objects': [4, 5]})
  assert 'Only scenes of 4 to 5 objects.' in text
  data['leave_out'] = False
  assert 'Only scenes' not in evaluations.format_table(table)


def test_what_has_no_scores():
  assert not scene_tables.has_scores({'iterations': 1, 'loss': 1.0})
