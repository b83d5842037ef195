"""How sphinx builds these pages: `make docs`, into build/docs."""

import configparser
import pathlib
import re

import idspn_jax

_ROOT = pathlib.Path(__file__).parents[1]
_SETUP = configparser.ConfigParser()
_SETUP.read(_ROOT / 'setup.cfg', 'utf-8')
_ADDRESS = _SETUP['metadata']['url']

project = 'idspn-jax'
author = _SETUP['metadata']['author']
copyright = author  # The name is sphinx's.
version = release = idspn_jax.__version__

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
exclude_patterns = ['**/.ipynb_checkpoints']
# Pages of the table of contents that need not be there.
_OPTIONAL = ('gradients', 'operations')

# Stored outputs are shown; `make notebooks` makes them.
nb_execution_mode = 'off'
myst_heading_anchors = 4

# Docstrings: single backticks are code, attributes need no entries of their
# own.
default_role = 'code'
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
autodoc_typehints = 'none'

html_theme = 'furo'
html_title = f'idspn-jax {version}'


def _prepare(app, name, source):
  """Links out of this folder lead to notebooks here, or to the repository."""
  text = re.sub(
    r'\[([^\]]*)\]\(\.\./experiments/notebooks/(\w+)\.ipynb\)',
    r'{doc}`\1 </notebooks/\2>`',
    source[0],
  )
  text = re.sub(r'\]\(\.\./', f']({_ADDRESS}/blob/main/', text)
  for page in _OPTIONAL if name == 'index' else ():
    if page not in app.env.found_docs:
      text = text.replace(f'\n{page}\n', '\n')
  source[0] = text


def setup(app):
  """Registers what is above with sphinx."""
  app.connect('source-read', _prepare)
