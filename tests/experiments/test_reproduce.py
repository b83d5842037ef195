"""Tables of the paper: which cells, what is trained, printed and saved."""

import csv
import json

import pytest

from experiments import numbering_tables as tables
from idspn_jax import errors
from idspn_jax.training import cells as cells_lib

# Small enough that a cell takes seconds.
TINY = tuple(
  f'--override={text}'
  for text in (
    'data.set_size=4',
    'data.num_classes=2',
    'data.distinct_classes=2',
    'data.num_train=16',
    'data.num_validation=8',
    'data.num_test=8',
    'model.hidden_dim=8',
    'model.latent_dim=8',
    'model.iterations=2',
    'batch_size=8',
    'eval_batch_size=8',
    'eval_every=2',
    'checkpoint_every=2',
    'log_every=2',
  )
)


class TestCells:
  def test_are_those_of_the_paper(self):
    with open(tables.PAPER, encoding='utf-8', newline='') as f:
      paper = list(csv.DictReader(f))
    cells = tables.read_cells(4)
    assert len(cells) == len(paper) == 45
    assert len({cell.name for cell in cells}) == 45
    for cell, row in zip(cells, paper, strict=True):
      assert cell.mean == float(row['accuracy_mean'])
      assert cell.augmented == cell.row.endswith(' + DA')

  def test_table_2_is_a_part_of_table_4(self):
    cells = tables.read_cells(2)
    assert len(cells) == 21 and set(cells) < set(tables.read_cells(4))
    assert {cell.classes for cell in cells} == {4}
    assert not any(cell.augmented for cell in cells)

  @pytest.mark.parametrize(
    'patterns, names',
    [
      (['4/idspn/640'], ['4/idspn/640']),
      (
        ['idspn'],
        [f'{k}/idspn/{n}' for k in (4, 8) for n in (640, 6400, 64000)],
      ),
      (
        ['8/dspn/*', '8/bilstm+da/640'],
        ['8/bilstm+da/640', *(f'8/dspn/{n}' for n in (640, 6400, 64000))],
      ),
    ],
  )
  def test_are_picked_by_pattern(self, patterns, names):
    picked = tables.select(tables.read_cells(4), patterns)
    assert [cell.name for cell in picked] == names

  def test_of_one_size(self):
    picked = tables.select(tables.read_cells(4), ['*/640'])
    assert len(picked) == 15
    assert all(cell.samples == 640 for cell in picked)

  def test_patterns_that_fit_nothing(self):
    with pytest.raises(errors.UserError, match="'5/\\*' fits none of 4/deep"):
      tables.select(tables.read_cells(4), ['idspn', '5/*'])

  def test_all_of_them_without_a_pattern(self):
    cells = tables.read_cells(2)
    assert tables.select(cells, []) == tables.select(cells, ['*']) == cells

  def test_configs_are_the_papers(self):
    for cell in tables.read_cells(4):
      config = tables.config_of(cell, 'paper', 3)
      assert config.model_name == cell.model and config.seed == 3
      assert config.data.num_train == cell.samples
      assert config.data.num_classes == cell.classes
      assert config.data.permute == cell.augmented
      assert config.data.set_size == 64 and config.steps == 50_000
      assert config.eval_every == 500
      assert config.data.num_validation == 6_400
      assert config.data.num_test == 64_000


class TestSummary:
  RESULTS = (
    {'diverged': False, 'metrics': {'a': 0.5}},
    {'diverged': True, 'metrics': {}},
    {'diverged': True, 'metrics': {'a': 1.0}},
  )

  def test_diverged_seeds_count(self):
    found = cells_lib.summarize(self.RESULTS, 'a', lost=0.0)
    assert found['mean'] == 0.5 and found['std'] == 0.5
    assert found['seeds'] == 3 and found['diverged'] == 2
    assert found['values'] == [0.5, 0.0, 1.0]

  def test_or_are_shown_as_missing(self):
    found = cells_lib.summarize(self.RESULTS, 'a')
    assert found['mean'] == 0.75 and found['values'] == [0.5, None, 1.0]
    assert found['seeds'] == 3 and found['diverged'] == 2

  def test_one_seed_has_no_deviation(self):
    found = cells_lib.summarize(self.RESULTS[:1], 'a')
    assert found['mean'] == 0.5 and found['std'] is None
    assert cells_lib.summarize(self.RESULTS[1:2], 'a')['mean'] is None


def _entry(cell, values, diverged=0, holds=(True, True)):
  names = ('set_accuracy', 'multiset_accuracy', 'element_accuracy')
  results = [
    {'diverged': i < diverged, 'metrics': dict.fromkeys(names, value)}
    for i, value in enumerate(values)
  ]
  return {
    'cell': cell,
    'here': {'set_accuracy': cells_lib.summarize(results, 'set_accuracy')},
    'equivariance': {
      name: {'holds': held}
      for name, held in zip(('set', 'multiset'), holds, strict=True)
    },
  }


def test_table_text():
  cells = tables.select(tables.read_cells(2), ['idspn', 'deep_sets'])
  entries = [
    _entry('4/deep_sets/640', [0.0]),
    _entry('4/idspn/640', [0.9, 1.0], diverged=1, holds=(False, True)),
    _entry('4/idspn/6400', [0.5, 0.5], holds=(True, True)),
  ]
  lines = tables.format_table(cells, entries).splitlines()
  assert lines[0] == '4 classes'
  head, _, deep_sets, idspn = (
    [cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:]
  )
  assert head[:5] == [
    'Model',
    'Set-equivariant',
    'Multiset-equivariant',
    '640 samples: paper',
    'here',
  ]
  assert deep_sets[:5] == ['DeepSets', '✓', '✓', '0.0 ± 0.0', '0.0 (1 seed)']
  assert deep_sets[5:] == ['0.0 ± 0.0', '–', '0.0 ± 0.0', '–']
  # Two cells of a model that disagree are shown to.
  assert idspn[:3] == ['iDSPN', '?', '✓']
  assert idspn[3:7] == [
    '96.8 ± 0.6',
    '95.0 ± 7.1 (2 seeds, 1 diverged)',
    '98.1 ± 0.3',
    '50.0 ± 0.0 (2 seeds)',
  ]


@pytest.fixture(scope='module')
def reproduced(run, tmp_path_factory):
  """Two cells with one seed; then a second seed; what each call printed."""
  directory = tmp_path_factory.mktemp('table')
  arguments = (
    '--table=2',
    '--setting=reduced',
    '--cells=4/idspn/640,4/deep_sets/640',
    '--steps=4',
    f'--workdir={directory}/runs',
    f'--output={directory}/table',
    *TINY,
  )
  outputs = []
  for seeds in ('1', '0,1'):
    done = run('reproduce', *arguments, f'--seeds={seeds}')
    assert done.returncode == 0, done.stderr
    assert 'Traceback' not in done.stderr
    outputs.append(done)
  return directory, outputs


def test_what_is_left_behind(reproduced):
  directory, (_, done) = reproduced
  names = {path.name for path in (directory / 'table').iterdir()}
  assert names == {'table2.md', 'table2.json', 'table8.txt', 'table8.png'}
  for name in names:
    assert f'Saved {directory}/table/{name}' in done.stdout
  text = (directory / 'table' / 'table2.md').read_text('utf-8')
  assert text in done.stdout
  assert '| DeepSets' in text and '(2 seeds)' in text and 'sets of 4' in text
  content = json.loads((directory / 'table' / 'table2.json').read_text())
  assert content['table'] == 2 and {'device', 'versions', 'date'} <= {*content}
  assert [one['cell'] for one in content['cells']] == [
    '4/deep_sets/640',
    '4/idspn/640',
  ]
  for one in content['cells']:
    assert [r['seed'] for r in one['runs']] == [0, 1]
    assert one['here']['set_accuracy']['values'] == [
      r['metrics']['set_accuracy'] for r in one['runs']
    ]
    assert all(r['selected']['step'] in (2, 4) for r in one['runs'])
    assert one['config']['data']['set_size'] == 4
  assert content['cells'][1]['paper'] == {'mean': 96.8, 'std': 0.6, 'seeds': 6}
  worst = (directory / 'table' / 'table8.txt').read_text('utf-8').splitlines()
  assert worst[0].split() == ['DeepSets', 'iDSPN'] and len(worst) == 2 + 4
  assert (directory / 'table' / 'table8.png').read_bytes()[:4] == b'\x89PNG'


def test_only_what_is_missing_is_trained(reproduced):
  directory, _ = reproduced
  for model in ('idspn', 'deep_sets'):
    runs = directory / 'runs' / '4' / model / '640'
    assert {path.name for path in runs.iterdir()} == {'seed0', 'seed1'}
    alone = [
      json.loads((runs / f'seed{i}' / 'result.json').read_text())
      for i in range(2)
    ]
    # The first call trained seed 0; the second one left it as it was.
    assert [result['seeds_in_lockstep'] for result in alone] == [1, 1]
    assert [result['config']['seed'] for result in alone] == [0, 1]


@pytest.mark.parametrize(
  'arguments, culprits',
  [
    (['--table=3'], ['--table=3', '2 and 4']),
    (['--cells=mlp'], ["'mlp'", '4/idspn/640']),
    (['--seeds=0'], ['--seeds=0']),
    (['--seeds=1,1'], ['--seeds=1,1']),
    (['--setting=tiny'], ['tiny', 'reduced']),
    (['--override=model.width=3'], ['model.width=3', 'KEY=VALUE']),
    (['--override=steps=many'], ['steps=many']),
    (['--override=data.num_classes=65'], ['64 classes; got 65']),
  ],
)
def test_errors(arguments, culprits, run, tmp_path):
  done = run('reproduce', *arguments, f'--workdir={tmp_path}/runs')
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  (line,) = done.stderr.splitlines()
  assert line.startswith('reproduce: error: ')
  for culprit in culprits:
    assert culprit in line


def test_another_setting_needs_another_directory(reproduced, run):
  directory, _ = reproduced
  done = run(
    'reproduce',
    '--setting=reduced',
    '--cells=4/idspn/640',
    '--seeds=1',
    f'--workdir={directory}/runs',
  )
  assert done.returncode == 2 and done.stderr.count('\n') == 1
  assert 'another config' in done.stderr and '--workdir' in done.stderr


def test_the_list(run):
  done = run('reproduce', '--table=4', '--list', '--cells=8/*')
  names = done.stdout.split()
  assert len(names) == 15 and names[0] == '8/transformer_random_pe+da/640'
