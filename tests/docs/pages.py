"""The pages of the documentation, and the blocks of code in them."""

import pathlib
import re
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
PAGES = ['README.md', *sorted(f'docs/{p.name}' for p in ROOT.glob('docs/*.md'))]
# Where it is not a copy for the tests of an installed wheel.
if (ROOT / 'CONTRIBUTING.md').exists():
  PAGES.insert(1, 'CONTRIBUTING.md')
NOTEBOOKS = sorted((ROOT / 'experiments' / 'notebooks').glob('[0-9]*.py'))

_BLOCK = re.compile(
  r'^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>[\w{}-]*)\n'
  r'(?P<code>.*?)^```$',
  re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
  """A fenced block.

  Attributes:
    language: after the fence.
    code: inside.
    mark: the comment on the line before, '' if there is none.
  """

  language: str
  code: str
  mark: str

  @property
  def deep(self) -> bool:
    """Whether it takes more than ten seconds."""
    return self.mark == 'deep'

  @property
  def needs(self) -> str | None:
    """The package that may be missing."""
    found = re.fullmatch(r'needs: (\w+)', self.mark)
    return found and found[1]


def text_of(page: str) -> str:
  """A page's source."""
  return (ROOT / page).read_text('utf-8')


def blocks(page: str, language: str) -> list[Block]:
  """A page's blocks in a language, in order."""
  found = [
    Block(m['language'], m['code'], m['mark'] or '')
    for m in _BLOCK.finditer(text_of(page))
  ]
  return [block for block in found if block.language == language]
