"""A run's directory: its lock, and files that are not what they should be."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from configs import random_multisets
from idspn_jax import errors
from idspn_jax.runs import directory
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.runs import scalars
from idspn_jax.studies import evaluations
from idspn_jax.training import loop

OLD = pathlib.Path(__file__).parent / 'old'
HOLD = """
import sys, time
from idspn_jax.runs import directory
with directory.locked(sys.argv[1]):
  print('locked', flush=True)
  time.sleep(300)
"""


@pytest.fixture
def holder(tmp_path):
  """Another process that holds the lock of `tmp_path / 'run'`."""
  workdir = tmp_path / 'run'
  workdir.mkdir()
  process = subprocess.Popen(
    [sys.executable, '-c', HOLD, str(workdir)],
    cwd=pathlib.Path(directory.__file__).parents[2],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == 'locked\n'
  yield workdir, process
  process.kill()
  process.communicate()


class TestLock:
  def test_names_its_holder_until_that_is_killed(self, holder):
    workdir, process = holder
    config = random_multisets.get_config()
    for refused in (
      lambda: directory.locked(str(workdir)).__enter__(),
      lambda: directory.check(config, str(workdir)),
      lambda: loop.train_and_evaluate(config, str(workdir)),
    ):
      with pytest.raises(errors.UserError, match=f'process {process.pid} on'):
        refused()
    assert os.listdir(workdir) == ['lock']
    process.send_signal(signal.SIGKILL)
    process.wait()
    directory.check(config, str(workdir))
    with directory.locked(str(workdir)):
      assert f'process {os.getpid()} on' in (workdir / 'lock').read_text()

  def test_one_of_two_seeds(self, holder):
    workdir, process = holder
    configs = [random_multisets.get_config(f'seed={seed}') for seed in (0, 1)]
    first = workdir.parent / 'first'
    with pytest.raises(errors.UserError, match=f'process {process.pid} on'):
      loop.train_seeds(configs, [str(first), str(workdir)])
    assert os.listdir(first) == ['lock']

  def test_is_not_left_behind(self, tmp_path):
    for _ in range(2):
      with directory.locked(str(tmp_path)):
        with pytest.raises(errors.UserError, match='in use'):
          directory.check_free(str(tmp_path))
      directory.check_free(str(tmp_path))
    directory.check_free(str(tmp_path / 'absent'))

  def test_of_a_directory_that_cannot_be_written(self, tmp_path):
    (tmp_path / 'lock').mkdir()
    with pytest.raises(errors.UserError, match='Cannot write .*lock'):
      with directory.locked(str(tmp_path)):
        pass


@pytest.fixture
def workdir(tmp_path):
  """A copy of a run."""
  return pathlib.Path(shutil.copytree(OLD / 'multisets', tmp_path / 'run'))


def config_with(**values):
  stored = json.loads((OLD / 'multisets' / 'config.json').read_text('utf-8'))
  return json.dumps({**stored, **values})


BROKEN = {
  'empty': '',
  'truncated': '{"seed": 3, "lo',
  'a list': '[1, 2]',
  'deep': '[' * 100_000,
  'no task': '{"seed": 3}',
}
BROKEN_CONFIGS = {
  **BROKEN,
  'a model that is a number': config_with(model=5),
  'a gradient that is a list': config_with(model={'gradient_options': []}),
  'data that is null': config_with(data=None),
  'steps that are a text': config_with(steps='many'),
  'a seed that is a text': config_with(seed='3'),
  'a negative rate': config_with(learning_rate=-1.0),
  'a name with a dot': config_with(**{'learning.rate': 1.0}),
}


class TestDamagedFiles:
  @pytest.mark.parametrize(
    'content', BROKEN_CONFIGS.values(), ids=BROKEN_CONFIGS.keys()
  )
  def test_config(self, content, workdir):
    (workdir / 'config.json').write_text(content, 'utf-8')
    config = random_multisets.get_config()
    for refused in (
      lambda: loading.load_run(str(workdir)),
      lambda: directory.check(config, str(workdir)),
      lambda: loop.train_and_evaluate(config, str(workdir)),
    ):
      with pytest.raises(errors.UserError, match=r'config\.json is damaged'):
        refused()

  def test_no_config_but_checkpoints(self, workdir):
    (workdir / 'config.json').unlink()
    with pytest.raises(errors.UserError, match='no config.json; restore'):
      directory.check(random_multisets.get_config(), str(workdir))
    with pytest.raises(errors.UserError, match='holds no run'):
      loading.load_run(str(workdir))

  @pytest.mark.parametrize('content', BROKEN.values(), ids=BROKEN.keys())
  def test_result(self, content, workdir):
    (workdir / 'result.json').write_text(content, 'utf-8')
    with pytest.raises(errors.UserError, match=r'result\.json is damaged'):
      directory.read_result(str(workdir))

  @pytest.mark.parametrize('content', ['', '{"dig', '[]', '3'])
  def test_record(self, content, workdir):
    (workdir / 'data.json').write_text(content, 'utf-8')
    with pytest.raises(errors.UserError, match=r'data\.json is damaged'):
      loading.load_run(str(workdir))

  @pytest.mark.parametrize(
    'tail', [b'{"step": 20, "train/lo', b'\xff\xfe', b'[1]\n3\n{"a": 1}\n']
  )
  def test_log(self, tail, workdir):
    path = workdir / 'scalars.jsonl'
    before = scalars.read_rows(str(workdir))
    path.write_bytes(path.read_bytes() + tail)
    assert scalars.read_rows(str(workdir)) == before
    path.unlink()
    assert scalars.read_rows(str(workdir)) == []
    path.mkdir()
    with pytest.raises(errors.UserError, match='scalars.jsonl'):
      scalars.read_rows(str(workdir))


class TestOutput:
  def test_of_an_evaluation_is_told_before_it_is_computed(self, workdir):
    run = loading.load_run(str(workdir))
    place = evaluations.default_output(run)
    (workdir / 'evaluation').touch()
    with pytest.raises(errors.UserError, match='place in the run.*--output='):
      evaluations.check_output(place, given=False)
    with pytest.raises(errors.UserError, match='Cannot create --output='):
      evaluations.check_output(place, given=True)

  @pytest.mark.parametrize('stop', [KeyboardInterrupt, ValueError, OSError])
  def test_appears_whole_or_not_at_all(self, stop, tmp_path):
    path = tmp_path / 'file'
    path.write_text('before')
    kind = errors.UserError if stop is OSError else stop
    with pytest.raises(kind):
      with files.replacing(str(path)) as f:
        f.write('half')
        raise stop
    assert path.read_text() == 'before'
    assert os.listdir(tmp_path) == ['file']

  @pytest.mark.parametrize('kind', ['gs', 's3', 'https'])
  def test_remote_places(self, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.UserError, match=f'--workdir.*{kind}://.*remote'):
      directory.prepare(f'{kind}://bucket/run')
    assert os.listdir(tmp_path) == []

  def test_home(self, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    assert directory.prepare('~/run') == str(tmp_path / 'run')


def test_logging_stops_in_one_line_where_nothing_can_be_written(
  tmp_path, monkeypatch
):
  log = scalars.ScalarLog(str(tmp_path), 0)
  log.write(1, {'a': 1.0})
  before = (tmp_path / 'scalars.jsonl').read_bytes()

  class FullDisk:
    """Writes a part of a line before it fails."""

    def __init__(self, file):
      self.file = file
      self.room = 5

    def write(self, text):
      if not self.room:
        raise OSError(28, 'No space left on device')
      written = self.file.write(text[: self.room])
      self.room = 0
      return written

    def __getattr__(self, name):
      return getattr(self.file, name)

  monkeypatch.setattr(log, '_file', FullDisk(log._file))
  with pytest.raises(errors.UserError, match='No space left.*continues'):
    log.write(2, {'a': 1.0})
  log.close()
  assert (tmp_path / 'scalars.jsonl').read_bytes() == before
