"""Figures on disk: whole or not at all, PNG or PDF."""

import struct

import matplotlib.figure
import pytest

from idspn_jax.figures import save
from idspn_jax.figures import trajectories


def _size(path):
  """Width and height of a PNG file, from its header."""
  data = path.read_bytes()
  assert data[:8] == b'\x89PNG\r\n\x1a\n'
  assert data[-8:-4] == b'IEND'
  return struct.unpack('>II', data[16:24])


@pytest.mark.parametrize('name', ['a.png', 'B.PNG'])
def test_png(tmp_path, name):
  path = tmp_path / 'new' / 'folder' / name
  figure = trajectories.draw_losses({'a': ([0, 1], [2.0, 1.0])})
  assert save.save_figure(figure, str(path)) == path
  assert _size(path) == (7.5 * 150, 4.2 * 150)
  assert list(path.parent.iterdir()) == [path]


def test_pdf_and_again(tmp_path):
  """A saved figure can be saved once more; equal figures are equal files."""
  figure = trajectories.draw_losses({'a': ([0, 1], [2.0, 1.0])})
  for name in ('a.pdf', 'b.pdf', 'c.png'):
    save.save_figure(figure, tmp_path / name)
  first = (tmp_path / 'a.pdf').read_bytes()
  assert first[:5] == b'%PDF-' and first == (tmp_path / 'b.pdf').read_bytes()
  width, _ = _size(tmp_path / 'c.png')
  assert width == 7.5 * 150


@pytest.mark.parametrize('name', ['a.svg', 'a', '.png', 'a.png.gz'])
def test_other_suffixes(tmp_path, name):
  with pytest.raises(ValueError, match='.png, .pdf'):
    save.save_figure(matplotlib.figure.Figure(), tmp_path / 'x' / name)
  assert not list(tmp_path.iterdir())


def test_remote_paths(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(ValueError, match='remote'):
    save.save_figure(matplotlib.figure.Figure(), 'gs://bucket/a.png')
  assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(tmp_path):
  class Broken:
    """A figure whose disk fills up."""

    def savefig(self, path, **_):
      path.write_bytes(b'half')
      raise OSError('disk full')

  path = tmp_path / 'a.png'
  path.write_bytes(b'old')
  with pytest.raises(OSError, match='disk full'):
    save.save_figure(Broken(), path)
  assert path.read_bytes() == b'old'
  assert list(tmp_path.iterdir()) == [path]
