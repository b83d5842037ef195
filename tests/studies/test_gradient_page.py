"""The HTML report, alone and in a browser."""

import os
import re
import shutil
import subprocess

import numpy as np
from PIL import Image
import pytest

from idspn_jax.studies import gradient_page

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
RED = (200, 30, 40)


@pytest.fixture
def page(tmp_path):
  """A page with every part, whose figure is red."""
  picture = tmp_path / 'red.png'
  Image.fromarray(np.full((200, 300, 3), RED, np.uint8)).save(picture)
  page = gradient_page.Page('Title <1>')
  page.heading('A & B')
  page.items(['first', 'second < third'])
  page.figure(str(picture), 'All "red"')
  page.table('Rows', '| mode | T |\n| --- | --- |\n| CG | 10 |')
  page.preformatted('{"jax": "0.10"}')
  path = tmp_path / 'page.html'
  path.write_text(page.html(), 'utf-8')
  os.remove(picture)  # It is inside.
  return path


def test_nothing_is_fetched(page):
  text = page.read_text('utf-8')
  assert re.findall(r'src="([a-z]+):', text) == ['data']
  assert 'http' not in text and '<script' not in text
  assert 'Title &lt;1&gt;' in text and 'second &lt; third' in text


@pytest.mark.deep
@pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium')
def test_a_browser_shows_the_figure(page, tmp_path):
  screenshot = tmp_path / 'page.png'
  done = subprocess.run(
    [
      CHROMIUM,
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--window-size=1000,1200',
      f'--screenshot={screenshot}',
      page.as_uri(),
    ],
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  seen = np.asarray(Image.open(screenshot).convert('RGB')).astype(int)
  red = np.all(np.abs(seen - RED) <= 2, axis=-1)
  assert red.sum() == 200 * 300
