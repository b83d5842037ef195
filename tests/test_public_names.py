"""The table of public names and what type checkers read say the same."""

import ast
import pathlib

import idspn_jax


def _names_for_checkers():
  """Name to module, of the imports under `if TYPE_CHECKING:`."""
  source = pathlib.Path(idspn_jax.__file__).read_text('utf-8')
  (block,) = (
    node
    for node in ast.parse(source).body
    if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING'
  )
  found = {}
  for node in block.body:
    for alias in node.names:
      # Only `import a as a` counts as public for a checker.
      assert alias.asname == alias.name
      found[alias.name] = node.module
  return found


def test_checkers_see_every_public_name():
  names = _names_for_checkers()
  assert {'__version__', *names} == set(idspn_jax.__all__)
  for name, module in names.items():
    assert getattr(idspn_jax, name).__module__ == module
