"""Tables of the paper: which cells, what is trained, printed and saved."""

import json

import pytest

from configs import class_numbering as config_file
from experiments import overrides
from idspn_jax import errors

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
    assert [result['vectorized_seeds'] for result in alone] == [1, 1]
    assert [result['config']['seed'] for result in alone] == [0, 1]


TINY_MULTISETS = (
  '--steps=4',
  '--override=data.num_train=32',
  '--override=data.num_test=16',
  *(text for text in TINY if 'data.' not in text and 'iter' not in text),
)


@pytest.fixture(scope='module')
def multisets(run, tmp_path_factory):
  directory = tmp_path_factory.mktemp('multisets')
  arguments = (
    '--table=5',
    '--cells=2x2/10/idspn*',
    '--restarts=1,4',
    f'--workdir={directory}/runs',
    f'--output={directory}/table',
    *TINY_MULTISETS,
  )
  outputs = []
  for seeds in ('1', '2'):
    done = run('reproduce', *arguments, f'--seeds={seeds}')
    assert done.returncode == 0, done.stderr
    outputs.append(done)
  return directory, outputs


class TestMultisets:
  """Tables 5 and 6."""

  def test_what_is_left_behind(self, multisets):
    directory, (_, done) = multisets
    names = {path.name for path in (directory / 'table').iterdir()}
    figures = {f'figure{i}.png' for i in (1, 2, 3)}
    assert names == {'table5.md', 'table5.json', *figures}
    for name in names:
      assert f'Saved {directory}/table/{name}' in done.stdout
    content = json.loads((directory / 'table' / 'table5.json').read_text())
    assert content['table'] == 5 and {'device', 'versions', 'date'} <= {
      *content
    }
    assert [one['cell'] for one in content['cells']] == [
      '2x2/10/idspn_momentum',
      '2x2/10/idspn',
    ]
    for one in content['cells']:
      assert [r['seed'] for r in one['runs']] == [0, 1]
      losses = one['here']['1']['values']
      assert losses == [r['metrics']['loss'] for r in one['runs']]
      assert {*one['here']} == {'1', '4'}
      assert one['here']['4']['values'] != losses
    assert content['cells'][0]['paper'] == {
      'mean': 6e-5,
      'std': 4e-5,
      'seeds': 8,
    }

  def test_losses_are_those_of_the_evaluation(self, multisets, run):
    directory, _ = multisets
    cell = '2x2/10/idspn_momentum'
    workdir = directory / 'runs' / cell / 'seed1'
    done = run(
      'evaluate',
      f'--workdir={workdir}',
      '--iterations=10',
      '--restarts=4',
      '--nofigures',
      f'--output={directory}/evaluation',
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((directory / 'evaluation' / 'table.json').read_text())
    content = json.loads((directory / 'table' / 'table5.json').read_text())
    here = content['cells'][0]['here']
    for row in rows['rows']:
      found = here[str(row['restarts'])]['values'][1]
      assert found == pytest.approx(row['loss'], rel=1e-6)

  def test_cells_of_an_earlier_table_need_no_runs(self, multisets, run):
    directory, _ = multisets
    earlier = directory / 'table' / 'table5.json'
    arguments = (
      f'--earlier={earlier}',
      '--cells=2x2/10/idspn*',
      f'--workdir={directory}/nothing',
      f'--output={directory}/again',
    )
    done = run('reproduce', '--table=5', *arguments, *TINY_MULTISETS)
    assert done.returncode == 0, done.stderr
    assert not (directory / 'nothing').exists()
    before, after = (
      json.loads((directory / name / 'table5.json').read_text())['cells']
      for name in ('table', 'again')
    )
    assert before == after
    done = run('reproduce', '--table=6', *arguments[:1])
    assert done.returncode == 2 and 'set --table=5' in done.stderr
    for steps, culprit in (
      ((), 'batch_size: 8 -> 128'),
      (('--steps=5',), 'steps: 4 -> 5'),
    ):
      other = (*TINY_MULTISETS[1:], *steps) if steps else ()
      done = run('reproduce', '--table=5', *arguments, *other)
      assert done.returncode == 2 and culprit in done.stderr


@pytest.mark.parametrize(
  'arguments, culprits',
  [
    (['--earlier=README.md'], ['Cannot read README.md']),
    (['--earlier=x', '--results=y'], ['--earlier does not go with --results']),
    (['--table=9'], ['--table=9', '2|3|4|5|6|7']),
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
    (['--table=5', '--setting=reduced'], ['--setting=reduced', '5 and 6']),
    (['--table=5', '--restarts=0'], ['--restarts', '1 to 1000']),
    (['--table=6', '--restarts=few'], ['--restarts', '1,2,4,8']),
    (['--table=2', '--restarts=1,4'], ['--restarts is not of Tables 2 and 4']),
    (['--table=5', '--cells=9x9/*'], ["'9x9/*'", '2x2/10/', '175 more']),
    (['--table=5', '--override=model.momentum=0.5'], ['--cells and --seeds']),
    (['--table=6', '--cells=4x4/10/idspn'], ["'4x4/10/idspn' fits none"]),
  ],
)
def test_errors(arguments, culprits, run, tmp_path):
  done = run('reproduce', *arguments, f'--workdir={tmp_path}/runs')
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  (line,) = done.stderr.splitlines()
  assert line.startswith('reproduce: error: ')
  for culprit in culprits:
    assert culprit in line


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
    config = config_file.get_config('model=deep_sets')
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
    config = config_file.get_config('model=deep_sets')
    with pytest.raises(errors.UserError, match=message) as e:
      overrides.apply(config, [text], ['seed'])
    assert f'--override={text}: ' in str(e.value)


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
