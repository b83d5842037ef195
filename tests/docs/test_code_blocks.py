"""The Python blocks of README and docs run as they stand, in order."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = ['README.md', *sorted(f'docs/{p.name}' for p in ROOT.glob('docs/*.md'))]


def python_blocks(page):
  text = (ROOT / page).read_text('utf-8')
  return re.findall(r'^```python\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
  'page', [page for page in PAGES if python_blocks(page)]
)
def test_python_blocks_run(page, tmp_path, monkeypatch, allow_rank_promotion):
  monkeypatch.chdir(tmp_path)
  # Flax looks the module of a class up.
  names = {'__name__': 'builtins'}
  for i, block in enumerate(python_blocks(page)):
    exec(compile(block, f'{page}, block {i + 1}', 'exec'), names)


def test_the_example_of_a_task_is_short():
  block = python_blocks('docs/python_api.md')[-1]
  assert 'SetDecoder' in block
  assert len([line for line in block.splitlines() if line.strip()]) < 60
