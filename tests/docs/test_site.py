"""The documentation builds without a warning and has every public name."""

import os
import subprocess
import sys

import pytest

import idspn_jax
from tests.docs import pages


@pytest.fixture(scope='module')
def site(tmp_path_factory):
  """The built site."""
  pytest.importorskip('myst_nb', reason='needs the extra docs')
  pytest.importorskip('furo', reason='needs the extra docs')
  out = tmp_path_factory.mktemp('site')
  done = subprocess.run(
    [sys.executable, '-m', 'sphinx', '--fail-on-warning', '--keep-going']
    + ['--quiet', str(pages.ROOT / 'docs'), str(out)],
    cwd=pages.ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    timeout=500,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return out


def test_has_every_page_and_notebook(site):
  for page in pages.PAGES:
    if page.startswith('docs/'):
      assert (site / page[5:]).with_suffix('.html').exists()
  for notebook in pages.NOTEBOOKS:
    assert (site / 'notebooks' / f'{notebook.stem}.html').exists()


def test_documents_every_public_name(site):
  text = (site / 'api.html').read_text('utf-8')
  missing = [
    name
    for name in idspn_jax.__all__
    if f'id="idspn_jax.{name}"' not in text and name != '__version__'
  ]
  assert not missing
