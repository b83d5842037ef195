"""One self-contained HTML page: images are inside, nothing is fetched."""

import base64
from collections.abc import Iterable
import html
import pathlib

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #202124;
       max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h2 { border-bottom: 1px solid #dadce0; margin-top: 2.5rem; }
figure { margin: 1.5rem 0; }
figure img { max-width: 100%; height: auto; }
figcaption { color: #5f6368; font-size: 0.9rem; }
table { border-collapse: collapse; font-size: 0.85rem; margin: 0.5rem 0; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid #e8eaed;
         text-align: right; }
th:first-child, td:first-child { text-align: left; }
summary { cursor: pointer; font-weight: 600; margin: 0.5rem 0; }
details { overflow-x: auto; }
"""


class Page:
  """Collects the parts of a page in their order."""

  def __init__(self, title: str):
    """Starts an empty page under a title."""
    self._title = html.escape(title)
    self._parts: list[str] = [f'<h1>{self._title}</h1>']

  def heading(self, text: str) -> None:
    """Starts a section."""
    self._parts.append(f'<h2>{html.escape(text)}</h2>')

  def items(self, texts: Iterable[str]) -> None:
    """Adds a list of sentences."""
    lines = ''.join(f'<li>{html.escape(text)}</li>' for text in texts)
    self._parts.append(f'<ul>{lines}</ul>')

  def figure(self, path: str, caption: str) -> None:
    """Adds a PNG file, as part of the page."""
    data = base64.b64encode(pathlib.Path(path).read_bytes()).decode('ascii')
    text = html.escape(caption)
    self._parts.append(
      f'<figure><img alt="{html.escape(caption, quote=True)}" '
      f'src="data:image/png;base64,{data}"><figcaption>{text}</figcaption>'
      '</figure>'
    )

  def table(self, title: str, markdown: str) -> None:
    """Adds a Markdown table, folded under its title."""
    rows = [
      [html.escape(cell.strip()) for cell in line.strip('|').split(' | ')]
      for line in markdown.splitlines()
    ]
    head = ''.join(f'<th>{cell}</th>' for cell in rows[0])
    body = ''.join(
      '<tr>' + ''.join(f'<td>{cell}</td>' for cell in row) + '</tr>'
      for row in rows[2:]
    )
    self._parts.append(
      f'<details><summary>{html.escape(title)}</summary><table><thead><tr>'
      f'{head}</tr></thead><tbody>{body}</tbody></table></details>'
    )

  def preformatted(self, text: str) -> None:
    """Adds text as it is."""
    self._parts.append(f'<pre>{html.escape(text)}</pre>')

  def html(self) -> str:
    """The whole page."""
    body = '\n'.join(self._parts)
    return (
      '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
      '<meta name="viewport" content="width=device-width">'
      f'<title>{self._title}</title><style>{_STYLE}</style></head>\n'
      f'<body>\n{body}\n</body></html>\n'
    )
