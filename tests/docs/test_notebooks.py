"""The notebooks run, shortened, and are the pairs of their scripts."""

import configparser
import json
import re

import matplotlib.pyplot
import pytest

from tests.docs import pages

SETUP = '# Finds the checkout that this notebook is in'
MOST_BYTES = 1_000_000


def cells(path):
  """Kind and source of the cells of a script in jupytext's percent format."""
  _, *parts = re.split(r'^# %%(.*)\n', path.read_text('utf-8'), flags=re.M)
  found = []
  for title, source in zip(parts[::2], parts[1::2], strict=True):
    source = source.strip('\n')
    if '[markdown]' in title:
      source = re.sub(r'^# ?', '', source, flags=re.M)
    # IPython's commands are comments in a script.
    source = re.sub(r'^# %(?=\w)', '%', source, flags=re.M)
    found.append(('markdown' if '[markdown]' in title else 'code', source))
  return found


def setup_cell(path):
  (found,) = (source for _, source in cells(path) if source.startswith(SETUP))
  return found


def run(path, monkeypatch):
  monkeypatch.chdir(path.parent)
  # Flax looks the module of a class up.
  names = {'__name__': 'builtins'}
  try:
    exec(compile(path.read_text('utf-8'), path.name, 'exec'), names)
  finally:
    matplotlib.pyplot.close('all')


@pytest.fixture(
  params=pages.NOTEBOOKS, ids=[path.stem for path in pages.NOTEBOOKS]
)
def notebook(request):
  """Each notebook's script."""
  return request.param


@pytest.fixture
def needed(allow_rank_promotion):
  pytest.importorskip('sklearn', reason='needs the extra notebooks')
  pytest.importorskip('IPython', reason='needs the extra notebooks')


def test_there_are_some():
  assert len(pages.NOTEBOOKS) >= 3


def test_shortened(notebook, monkeypatch, needed):
  monkeypatch.setenv('IDSPN_NOTEBOOK_QUICK', '1')
  run(notebook, monkeypatch)


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_whole(notebook, monkeypatch, needed):
  monkeypatch.delenv('IDSPN_NOTEBOOK_QUICK', raising=False)
  run(notebook, monkeypatch)


def test_begin_alike_with_the_address_of_the_metadata(notebook):
  setup = configparser.ConfigParser()
  setup.read(pages.ROOT / 'setup.cfg', 'utf-8')
  address = setup['metadata']['url']
  assert setup_cell(notebook) == setup_cell(pages.NOTEBOOKS[0])
  assert f"ADDRESS = '{address}'" in setup_cell(notebook)
  assert cells(notebook)[1] == ('code', setup_cell(notebook))
  assert f'git clone {address} ' in pages.text_of('docs/getting_started.md')


class TestStored:
  def test_notebook_is_the_script(self, notebook):
    stored = json.loads(notebook.with_suffix('.ipynb').read_text('utf-8'))
    found = [
      (cell['cell_type'], ''.join(cell['source'])) for cell in stored['cells']
    ]
    assert found == cells(notebook), 'Run `make notebooks`.'

  def test_was_executed_from_top_to_bottom_without_errors(self, notebook):
    path = notebook.with_suffix('.ipynb')
    assert path.stat().st_size < MOST_BYTES
    code = [
      cell
      for cell in json.loads(path.read_text('utf-8'))['cells']
      if cell['cell_type'] == 'code'
    ]
    counts = [cell['execution_count'] for cell in code]
    assert counts == list(range(1, len(code) + 1))
    kinds = [out['output_type'] for cell in code for out in cell['outputs']]
    assert 'error' not in kinds
    shown = [out.get('data', {}) for cell in code for out in cell['outputs']]
    assert any('image/png' in data for data in shown)


def test_figures_are_stored_whatever_the_backend_here(tmp_path, monkeypatch):
  pytest.importorskip('nbclient', reason='needs the extra notebooks')
  pytest.importorskip('jupytext', reason='needs the extra notebooks')
  from experiments import run_notebooks

  monkeypatch.setenv('MPLBACKEND', 'Agg')
  script = tmp_path / 'drawing.py'
  script.write_text('# %%\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\n')
  path = run_notebooks.run(script)
  (cell,) = json.loads(path.read_text('utf-8'))['cells']
  assert any('image/png' in out['data'] for out in cell['outputs'])
