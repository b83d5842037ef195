"""Links between pages, and from pages to files, lead somewhere."""

import re

import pytest

from tests.docs import pages

_LINK = re.compile(r'\]\((?!https?:)([^)\s]*)\)')
# What is not copied for the tests of an installed wheel.
_ELSEWHERE = ('idspn_jax', 'results', 'LICENSE')


def anchors(path):
  """Anchors of a page's headings, as MyST and GitHub make them."""
  found = set()
  for heading in re.findall(r'^#+ (.*)$', path.read_text('utf-8'), re.M):
    kept = re.sub(r'[^\w\- ]', '', heading.lower())
    found.add(kept.replace(' ', '-'))
  return found


@pytest.mark.parametrize('page', pages.PAGES)
def test_lead_to_files_and_headings(page):
  folder = (pages.ROOT / page).parent
  for link in _LINK.findall(re.sub('`[^`]*`', '', pages.text_of(page))):
    place, _, anchor = link.partition('#')
    target = (folder / place).resolve() if place else pages.ROOT / page
    top = target.relative_to(pages.ROOT.resolve()).parts[0]
    if top in _ELSEWHERE and not (pages.ROOT / top).exists():
      continue
    assert target.exists(), link
    if anchor:
      assert anchor in anchors(target), link


def test_every_page_is_in_the_table_of_contents():
  index = pages.text_of('docs/index.md')
  listed = set()
  for tree in re.findall(r'```\{toctree\}\n(.*?)```', index, re.DOTALL):
    listed |= {line for line in tree.splitlines() if not line.startswith(':')}
  for page in pages.PAGES:
    name = page.removeprefix('docs/').removesuffix('.md')
    if page.startswith('docs/') and name != 'index':
      assert name in listed, page
  assert 'notebooks/*' in listed


@pytest.mark.parametrize('name', pages.NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_name_files_that_exist(name):
  for module in re.findall(r'experiments\.(\w+)', name.read_text('utf-8')):
    assert (pages.ROOT / 'experiments' / f'{module}.py').exists(), module
