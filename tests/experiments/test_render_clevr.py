"""Wrong commands of the renderer end in one line."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

WRONG = {
  (): '--out=DIR',
  ('--out=x', '--cache=y'): 'by one of',
  ('--cache=x', '--scenes=y'): '--scenes needs --out',
  ('--compare=x',): '--facts',
  ('--cache=x', '--results=y'): '--results needs --compare',
  ('--out={tmp}',): '--num_train',
  ('--out={tmp}', '--num_val=1', '--size=480'): '--size=480',
  ('--out={tmp}', '--num_val=1', '--size=4x4'): '--size=4x4',
  ('--out={tmp}', '--num_val=1', '--num_objects=5..3'): '5..3',
  ('--out={tmp}', '--num_val=1', '--num_objects=3..11'): '3..11',
  ('--out={tmp}', '--scenes={tmp}/none.json'): 'none.json',
}


@pytest.mark.parametrize('flags', WRONG, ids=' '.join)
def test_is_one_line(flags, tmp_path):
  flags = [flag.format(tmp=tmp_path) for flag in flags]
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.render_clevr', *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )
  template = [flag.replace(str(tmp_path), '{tmp}') for flag in flags]
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1
  assert WRONG[tuple(template)] in done.stderr
  assert not any(tmp_path.iterdir())
