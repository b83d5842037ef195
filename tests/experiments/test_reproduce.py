"""Tables of the paper: which cells, what is trained, printed and saved."""

import csv
import json
import types

import pytest

from experiments import numbering_tables as tables
from experiments import overrides
from idspn_jax import errors
from idspn_jax.metrics import numbering_errors
from idspn_jax.training import cells as cells_lib

# Small enough that a cell takes seconds.
TINY = tuple(
  f'--override={text}'
  for text in (
    'data.set_size=4',
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
    assert tables.select(cells, None) == tables.select(cells, ['*/*']) == cells
    with pytest.raises(errors.UserError, match='--cells is empty'):
      tables.select(cells, [])

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

  def test_nan_is_lost_too(self):
    results = [
      {'diverged': True, 'metrics': {'a': value}}
      for value in (float('nan'), None)
    ]
    assert cells_lib.summarize(results, 'a', 0.0)['values'] == [0.0, 0.0]
    assert cells_lib.summarize(results, 'a')['values'] == [None, None]

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
  assert worst[0].split() == ['DeepSets', 'iDSPN']
  assert len(worst) == 2 + 4 + 1 + 3  # Headings, numbers, what they are.
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
    (['--table=3'], ['--table=3', '2|4']),
    (['--cells='], ['--cells is empty']),
    (['--cells=mlp'], ["'mlp'", '4/idspn/640']),
    (['--seeds=0'], ['--seeds=0']),
    (['--seeds=1,1'], ['--seeds=1,1']),
    (['--setting=tiny'], ['tiny', 'reduced']),
    (['--override=seed=5'], ['--override=seed=5', '--seeds']),
    # The last of all cells is told of before the first is trained.
    (['--override=model.hidden_dim=20'], ['multiple of 8', '20']),
    (['--table=4', '--override=data.set_size=7'], ['7 classes; got 8']),
    (['--override=batch_size=641'], ['batch_size is 641', '640']),
    (['--override=data.num_classes=3'], ['--cells and --seeds say what']),
    (['--override=data.num_train=16'], ['--cells and --seeds say what']),
    (['--output=/dev/null'], ['--output=/dev/null']),
  ],
)
def test_errors(arguments, culprits, run, tmp_path):
  done = run('reproduce', *arguments, f'--workdir={tmp_path}/runs')
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  (line,) = done.stderr.splitlines()
  assert line.startswith('reproduce: error: ')
  for culprit in culprits:
    assert culprit in line


class TestRunsThatAreThere:
  """What cannot be continued is told of before anything is trained."""

  def config_of(self, seed, **changes):
    config = tables.config_of(tables.read_cells(2)[0], 'reduced', seed)
    config.update(changes)
    return config

  def check(self, directory, **changes):
    cells_lib.check(
      lambda seed: self.config_of(seed, **changes), (0, 1), str(directory)
    )

  def started(self, directory, seed):
    """An interrupted run: a config, a checkpoint, no result."""
    workdir = directory / f'seed{seed}'
    (workdir / 'checkpoints' / '7').mkdir(parents=True)
    (workdir / 'checkpoints' / '7' / '_CHECKPOINT_METADATA').write_text('{}')
    config = self.config_of(seed).to_json()
    (workdir / 'config.json').write_text(config)

  def test_nothing(self, tmp_path):
    self.check(tmp_path)
    assert not list(tmp_path.iterdir())

  @pytest.mark.parametrize(
    'changes, message',
    [
      ({'learning_rate': 0.5}, 'seed1 .*learning_rate: 0.003 -> 0.5'),
      ({'steps': 6}, 'seed1 has a checkpoint of step 7, beyond .*steps=6'),
    ],
  )
  def test_of_any_seed(self, changes, message, tmp_path):
    self.started(tmp_path, 1)
    self.check(tmp_path)
    with pytest.raises(errors.UserError, match=message):
      self.check(tmp_path, **changes)

  def test_broken_files(self, tmp_path):
    self.started(tmp_path, 1)
    (tmp_path / 'seed1' / 'result.json').write_text('{"step": ')
    with pytest.raises(errors.UserError, match='Cannot read .*result.json'):
      self.check(tmp_path)


class TestOverrides:
  @pytest.mark.parametrize(
    'text, value',
    [
      ('steps=7', 7),
      ('learning_rate=1', 1.0),
      ('learning_rate=2e-3', 0.002),
      ('data.permute=true', True),
      ('model.pool=sum', 'sum'),
    ],
  )
  def test_are_applied(self, text, value):
    config = tables.config_of(tables.read_cells(2)[0], 'paper', 0)
    overrides.apply(config, [text])
    found = config[text.split('=')[0]]
    assert found == value and type(found) is type(value)

  @pytest.mark.parametrize(
    'text, message',
    [
      ('model.width=3', "'model.width' is no key .* KEY=VALUE"),
      ('model=3', "'model' is no key"),
      ('steps', 'needs a value like 50000'),
      ('steps=many', 'needs a value like 50000'),
      ('steps=3.7', 'needs a value like 50000'),
      ('steps=true', 'needs a value like 50000'),
      ('steps="7"', 'needs a value like 50000'),
      ('steps=1e400', 'needs a value like 50000'),
      ('learning_rate=NaN', 'needs a value like 0.001'),
      ('data.permute=2', 'needs a value like false'),
      ('seed=1', '--cells and --seeds say what seed is'),
    ],
  )
  def test_are_refused(self, text, message):
    config = tables.config_of(tables.read_cells(2)[0], 'paper', 0)
    with pytest.raises(errors.UserError, match=message) as e:
      overrides.apply(config, [text], ['seed'])
    assert f'--override={text}: ' in str(e.value)


def test_table_8_shows_the_four_classes(tmp_path, monkeypatch):
  cells = tables.select(tables.read_cells(4), ['4/idspn/*', '8/idspn/640'])
  report = tables.Report(4, cells, str(tmp_path))

  class Task:
    def equivariance(self, params, key):
      return dict.fromkeys(('set', 'multiset'), {'error': 0, 'holds': True})

    def worst_numbering(self, params, key):
      return numbering_errors.Numbering([[(0, 0), (0, 1)]], 1)

  def load_run(workdir):
    config = tables.config_of(cells[0], 'reduced', 5)
    return types.SimpleNamespace(
      task=Task(), params=None, step=9, config=config
    )

  monkeypatch.setattr(tables.reports, 'load_run', load_run)
  result = {
    **dict.fromkeys(tables.RUN_KEYS, 1),
    'diverged': False,
    'metrics': {'set_accuracy': 1.0},
    'config': tables.config_of(cells[0], 'reduced', 5).to_dict(),
  }
  for cell in cells:
    report.add(cell, {5: result}, str(tmp_path / cell.name))
  report.save_worst()
  lines = (tmp_path / 'table8.txt').read_text('utf-8').splitlines()
  assert lines[:4] == ['iDSPN', '1 wrong', '(a, 0)', '(a, 0) ≠ 1']
  # Of the cells of a row, the one with most samples.
  assert lines[-1] == 'iDSPN: 4/idspn/64000, seed 5, step 9, of 6,400 test sets'


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
