"""The Python blocks of README and docs run as they stand, in order."""

import importlib.util

import jax
import pytest

from tests.docs import pages


def run(page, with_deep):
  # Flax looks the module of a class up.
  names = {'__name__': 'builtins'}
  for i, block in enumerate(pages.blocks(page, 'python')):
    assert not block.mark or block.deep or block.needs, block.mark
    if block.deep and not with_deep:
      continue
    if block.needs and not importlib.util.find_spec(block.needs):
      continue
    exec(compile(block.code, f'{page}, block {i + 1}', 'exec'), names)


WITH_CODE = [page for page in pages.PAGES if pages.blocks(page, 'python')]
WITH_DEEP = [
  page
  for page in WITH_CODE
  if any(block.deep for block in pages.blocks(page, 'python'))
]


@pytest.fixture(autouse=True)
def in_own_directory(tmp_path, monkeypatch, allow_rank_promotion):
  monkeypatch.chdir(tmp_path)


# Pages whose blocks take more than ten seconds together, mostly of compiling.
SLOW = {
  f'docs/{name}.md'
  for name in (
    'constraints',
    'gradients',
    'inner_problem',
    'own_encoder',
    'rendering',
    'variable_sizes',
    'without_flax',
  )
}


@pytest.mark.parametrize(
  'page',
  [
    pytest.param(page, marks=pytest.mark.deep) if page in SLOW else page
    for page in WITH_CODE
  ],
)
def test_python_blocks_run(page):
  run(page, with_deep=False)


@pytest.mark.deep
@pytest.mark.parametrize('page', WITH_DEEP)
def test_python_blocks_run_with_slow_ones(page):
  run(page, with_deep=True)


def test_slow_pages_exist():
  assert SLOW <= {*WITH_CODE}


def test_the_example_of_a_task_is_short():
  block = pages.blocks('docs/python_api.md', 'python')[-1].code
  assert 'SetDecoder' in block
  assert len([line for line in block.splitlines() if line.strip()]) < 60


def test_the_readme_s_first_example_is_short():
  block = pages.blocks('README.md', 'python')[0].code
  lines = [line for line in block.splitlines() if line.strip()]
  assert 'SetDecoder' in block and len(lines) <= 16
  assert not jax.config.jax_enable_x64
