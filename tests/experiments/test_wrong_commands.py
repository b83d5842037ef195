"""Many wrong command lines: one line each, which names the place and a remedy.

They run in one process that forks, because starting takes seconds.
"""

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
OLD = ROOT / 'tests' / 'runs' / 'old'
MULTISETS = '--config=configs/random_multisets.py'
NUMBERING = '--config=configs/class_numbering.py'
OWN = '--config=configs/own_sets.py'
RUN = f'--workdir={OLD / "multisets"}'
NUMBERS = f'--workdir={OLD / "numbering"}'
SETS = f'{OLD / "sets.npz"}'

# What follows the config in `train`, and parts of the line that answers.
OVERRIDES = {
  '--config.stepz=3': ["'stepz'", "'steps'"],
  '--config.modle.iterations=3': ["'modle'", "'model'"],
  '--config.model.zzz=3': ["'zzz'", 'hidden_dim'],
  '--config.steps.more=3': ['config.steps.more', "'more'"],
  '--config.=3': ['config.', 'dots'],
  '--config.optimizer.drops[0]=0.5': ['drops[0]', "'(0.5, 0.9)'"],
  '--config.steps=abc': ['config.steps=abc', 'an integer'],
  '--config.steps=1.5': ['config.steps=1.5', 'an integer'],
  '--config.steps=': ['config.steps', 'an integer'],
  '--config.steps': ['config.steps', 'value'],
  '--config.steps=-3': ['config.steps', '-3', 'positive'],
  '--config.steps=99999999999': ['config.steps', '2**31'],
  '--config.model.iterations=99999999999': ['model.iterations', '2**31'],
  '--config.batch_size=true': ['batch_size=true', 'an integer'],
  '--config.learning_rate=fast': ['learning_rate=fast', 'a number'],
  '--config.learning_rate=nan': ['learning_rate', 'finite'],
  '--config.learning_rate=inf': ['learning_rate', 'finite'],
  '--config.learning_rate=-1': ['learning_rate', 'positive'],
  '--config.model.momentum=nan': ['model.momentum', 'finite'],
  '--config.seed=4294967296': ['config.seed', '2**32'],
  '--config.optimizer=sgd': ['config.optimizer', 'one by one'],
  "--config.optimizer={'name':'sgd'}": ['config.optimizer', 'one by one'],
  '--config.model=5': ['config.model', 'one by one'],
  '--config.model.gradient_options={}': ['gradient_options', 'one by one'],
  '--config.optimizer.drops=x': ['optimizer.drops', "'x'"],
  '--config.optimizer.drops=2.0': ['optimizer.drops', '2.0'],
  '--config.optimizer.name=rms': ['optimizer.name', 'adam'],
  '--config.optimizer.schedule=up': ['optimizer.schedule', 'cosine'],
  '--config.optimizer.warmup_steps=-1': ['warmup_steps', '-1'],
  '--config.iterations_schedule=up': ['iterations_schedule', '20,40@0.5'],
  '--config.restarts_schedule=up': ['restarts_schedule', '1,4@0.5'],
  '--config.model.restarts=0': ['model.restarts', '0'],
  '--config.model.restart_scale=-1': ['restart_scale', '-1'],
  '--config.parallel=tpu': ['config.parallel', 'pmap'],
  '--config.loss=l7': ['config.loss', 'chamfer'],
  '--config.task=l7': ['config.task', 'own_sets'],
  '--config.model.gradient=magic': ['model.gradient', 'neumann'],
  '--config.model.gradient_options.terms=3': ['terms', 'jacobian_free'],
  '--config.model.gradient_options.terms=many': ['terms=many', 'an integer'],
  '--config.model.gradient_options.ridge=nan': ['ridge', 'finite'],
  '--config.model.gradient_options.checkpoint=maybe': ['maybe', 'true'],
  '--config.data.num_train=1': ['1 sets', 'batch_size'],
  '--config.data.set_size=-1': ['data.set_size', '-1'],
  '--confg.steps=3': ["'confg.steps'", '--help'],
  '--workdir=gs://bucket/run': ['gs://bucket/run', 'pip install gcsfs'],
  '--workdir=/dev/null': ['--workdir=/dev/null', 'file'],
  '--workdir=': ['--workdir=DIR'],
  'steps=3': ["'steps=3'", '--name=value'],
}
# Further command lines.
COMMANDS = {
  'train --config=README.md': ['README.md, line', 'not Python', 'configs/'],
  f'train {MULTISETS}:model=dspn --config.model.optimizer=line_search': [
    'line_search',
    "'unrolled' cannot differentiate",
  ],
  'train --config=configs': ['configs is a directory', 'configs/'],
  'train --config=absent.py': ['absent.py', 'no such file'],
  'train --config=': ['--config is empty'],
  'train --config=configs/__init__.py': ['no function get_config'],
  'train --config=gs://b/c.py': ['gs://b/c.py', 'remote'],
  'train --config=~/absent.py': ['/absent.py', 'no such file'],
  'train --config=BROKEN': ['BROKEN, line 2', 'ZeroDivisionError'],
  'train --config=LIST': ['LIST', 'list', 'ConfigDict'],
  f'train {MULTISETS}:n=4,n=5': ['n is given twice'],
  f'train {MULTISETS}:n=': ['n needs int'],
  f'train {MULTISETS}:zzz=1': ['zzz=1', 'model'],
  f'train {MULTISETS}:model=zzz': ['zzz', 'idspn'],
  f'train {NUMBERING}:permute=2': ['permute', '2'],
  f'train {NUMBERING}:setting=zzz': ['setting', 'reduced'],
  f'train {OWN} --config.data.path=gs://b/s.npz': ['gs://b/s.npz', 'remote'],
  f'train {OWN} --config.data.path=~/absent.npz': ['absent.npz', 'such file'],
  f'train {OWN} --config.data.path={SETS} --config.data.test_fraction=nan': [
    'test_fraction',
    'finite',
  ],
  f'train {OWN} --config.data.path={SETS} --config.data.split_seed=-1': [
    'split_seed',
    '-1',
  ],
  'evaluate --workdir=gs://b/r': ['gs://b/r', 'pip install gcsfs'],
  f'evaluate {RUN} --output=gs://b/o': ['--output', 'remote'],
  f'evaluate {RUN} --output=/dev/null': ['--output=/dev/null', 'file'],
  f'evaluate {RUN} --data={SETS}': ['random_multisets reads no data file'],
  f'evaluate {RUN} --iterations=': ['--iterations needs', '5,10,20'],
  f'evaluate {RUN} --restarts=': ['--restarts needs', '1,2,4,8'],
  f'evaluate {RUN} --iterations=2,x': ['--iterations', "'x'"],
  f'evaluate {RUN} --iterations=99999999999999': ['--iterations', '1000000'],
  f'evaluate {RUN} --step=3': ['no checkpoint of step 3', 'has 6'],
  f'evaluate {RUN} --seed=-1': ['seed', '-1'],
  f'evaluate {RUN} --noema': ['no moving average', '--noema'],
  'evaluate --pretrained=clevr_state --noema': ['--noema', 'one set'],
  f'evaluate --workdir={OLD / "own_seed3"}': ['sets.npz', '--data=FILE'],
  f'evaluate --workdir={OLD / "own_seed3"} --data=gs://b/s.npz': ['remote'],
  f'evaluate {RUN} --pretrained=clevr_state': ['--workdir', '--pretrained'],
  'evaluate --pretrained=resnet': ["'resnet'", 'clevr_state'],
  'evaluate --pretrained=clevr_state --step=3': ['--step=3', '--workdir'],
  'export_weights': ['--workdir'],
  f'export_weights {RUN}': ['--output'],
  f'export_weights {RUN} --output=OUT.txt': ['OUT.txt', 'NAME.npz'],
  'predict': ['--workdir', '--pretrained'],
  f'predict {NUMBERS}': ['--inputs'],
  f'predict {NUMBERS} --inputs={SETS}': ['--output'],
  f'predict {NUMBERS} --inputs={SETS} --output=OUT.txt': ['.npz or .json'],
  f'predict {NUMBERS} --inputs={SETS} --output=DIR.npz': ['is a directory'],
  f'predict {NUMBERS} --inputs={SETS} --output=gs://b/o.npz': ['remote'],
  f'predict {NUMBERS} --inputs=gs://b/i.npz --output=OUT.npz': ['remote'],
  f'predict {NUMBERS} --inputs={SETS} --output=OUT.npz': ["'classes'"],
  f'predict {RUN} --inputs={SETS} --output=OUT.npz': ['cannot predict'],
  f'predict {NUMBERS} --inputs={SETS} --output=/dev/null/o.npz': ['--output'],
  'reproduce --workdir=gs://b/r': ['--workdir', 'remote'],
  'reproduce --output=gs://b/r': ['--output', 'remote'],
  'reproduce --override=model.gradient_options.terms=x': ['terms=x', '3'],
  'reproduce --override=optimizer=3': ["'optimizer' is no key"],
  'demo --workdir=': ['--workdir=DIR'],
  'demo --workdir=gs://b/r': ['--workdir', 'remote'],
  'benchmark --json=gs://b/o.json': ['--json', 'remote'],
  'benchmark --json=DIR.npz': ['--json', 'directory'],
  'parity gs://b/o.npz': ['gs://b/o.npz', 'remote'],
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Where the commands may write."""
  folder = tmp_path_factory.mktemp('commands')
  (folder / 'DIR.npz').mkdir()
  (folder / 'BROKEN').write_text('def get_config():\n  return 1 / 0\n')
  (folder / 'LIST').write_text('def get_config():\n  return []\n')
  return folder


@pytest.fixture(scope='module')
def answers(folder, run):
  """What every command line leaves."""
  commands = {}
  for i, override in enumerate(OVERRIDES):
    workdir = f'--workdir={folder / str(i)}'
    commands[override] = ['train', MULTISETS, workdir, override]
  for i, line in enumerate(COMMANDS):
    words = line
    for name in ('OUT', 'DIR', 'BROKEN', 'LIST'):
      words = words.replace(f'={name}', f'={folder / name}')
    commands[line] = words.split()
    if commands[line][0] == 'train':
      commands[line].append(f'--workdir={folder / f"c{i}"}')
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('HOME', str(folder))
    return {line: run(*command) for line, command in commands.items()}


@pytest.mark.parametrize('line', [*OVERRIDES, *COMMANDS])
def test_is_answered_in_one_line(line, answers):
  done = answers[line]
  assert done.returncode == 2, done.stderr[-2000:]
  assert done.stdout == ''
  (answer,) = done.stderr.splitlines()
  assert ': error: ' in answer
  for part in {**OVERRIDES, **COMMANDS}[line]:
    assert part in answer


def test_nothing_is_written(answers, folder):
  assert len(answers) > 80
  assert not list(folder.rglob('config.json'))
  assert not list(folder.rglob('*.npz/*'))
  assert not (ROOT / 'gs:').exists()
  assert not list(folder.glob('OUT*'))
