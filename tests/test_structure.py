"""The library's floors: what may import what, and what every file carries."""

import ast
import functools
import importlib
import pathlib
import subprocess
import sys

import pytest

import idspn_jax

SOURCE = pathlib.Path(idspn_jax.__file__).parent
FILES = sorted(SOURCE.rglob('*.py'))
# Every part may import itself, `errors`, and the parts named here: downward.
ALLOWED = {
  'errors': set(),
  'checks': set(),
  'ops': set(),
  'solvers': {'ops'},
  'modules': {'ops', 'solvers'},
  'losses': {'ops'},
  'metrics': {'data', 'ops'},
  'data': set(),
  'render': {'data'},
  'figures': {'data', 'metrics', 'render'},
  'interop': {'losses', 'metrics', 'modules', 'ops', 'solvers'},
  'tasks': {
    'checks',
    'data',
    'figures',
    'losses',
    'metrics',
    'modules',
    'ops',
    'render',
    'solvers',
  },
  'runs': {'checks', 'data', 'tasks'},
  'training': {'data', 'runs', 'tasks'},
  'studies': {
    'checks',
    'data',
    'figures',
    'metrics',
    'modules',
    'ops',
    'render',
    'runs',
    'solvers',
    'tasks',
    'training',
  },
}
# Packages of others that only some parts may import.
HOMES = {
  'jaxopt': {'solvers'},
  'ott': {'losses'},
  'matplotlib': {'figures'},
  'flax': {'modules', 'training'},
  'orbax': {'runs'},
  'etils': {'runs'},
  'fcntl': {'runs'},
  'tensorboardX': {'runs'},
  'tqdm': {'data', 'render', 'tasks', 'training'},
  'ml_collections': {'runs', 'studies', 'tasks', 'training'},
  'absl': {'data', 'runs', 'tasks', 'training'},
  'tensorflow_datasets': {'data'},
  'grain': {'data'},
  'ray': {'studies'},
  'tensorflow': set(),
  'torch': set(),
}
HEAVY = (
  'PIL',
  'flax',
  'grain',
  'jax',
  'matplotlib',
  'ott',
  'ray',
  'tensorflow_datasets',
  'torch',
)


def part(path):
  """`ops` of `idspn_jax/ops/fspool.py`, `errors` of `idspn_jax/errors.py`."""
  return path.relative_to(SOURCE).parts[0].removesuffix('.py')


def module_name(path):
  parts = path.relative_to(SOURCE.parent).with_suffix('').parts
  return '.'.join(parts).removesuffix('.__init__')


def imports(nodes):
  """Full names imported by these nodes."""
  for node in nodes:
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'Imports are absolute.'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


@functools.cache
def tree(path):
  return ast.parse(path.read_text('utf-8'))


def top_level(path):
  """What is imported with the module; not what a function imports."""

  def walk(node):
    for child in ast.iter_child_nodes(node):
      if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
        yield child
        yield from walk(child)

  return set(imports(walk(tree(path))))


@pytest.fixture(
  params=FILES, ids=lambda path: str(path.relative_to(SOURCE.parent))
)
def source(request):
  """Each source file."""
  return request.param


class TestImports:
  def test_go_downward(self, source):
    if source == SOURCE / '__init__.py':
      return
    here = part(source)
    assert here in ALLOWED, f'Say in ALLOWED what {here} may import.'
    found = {
      name.split('.')[1]
      for name in imports(ast.walk(tree(source)))
      if name.startswith('idspn_jax.')
    }
    assert found <= ALLOWED[here] | {here, 'errors'}

  def test_other_packages_have_their_place(self, source):
    for name in imports(ast.walk(tree(source))):
      package = name.split('.')[0]
      assert part(source) in HOMES.get(package, {part(source)}), name

  def test_tests_and_experiments_are_not_imported(self, source):
    roots = {name.split('.')[0] for name in imports(ast.walk(tree(source)))}
    assert not roots & {'tests', 'experiments', 'configs'}

  def test_slow_packages_wait_for_a_call(self, source):
    roots = {name.split('.')[0] for name in top_level(source)}
    slow = {'PIL', 'grain', 'lap', 'ott', 'tensorboardX', 'tensorflow_datasets'}
    assert not roots & slow
    if part(source) in ('tasks', 'runs', 'training', 'studies'):
      assert not any(
        name.startswith('idspn_jax.figures') for name in top_level(source)
      )


def test_one_file_knows_of_optional_data_packages():
  found = {
    path.name
    for path in FILES
    for name in imports(ast.walk(tree(path)))
    if name.split('.')[0] in ('array_record', 'grain', 'tensorflow_datasets')
  }
  assert found == {'clevr_tfds.py'}


def test_one_file_knows_of_ray():
  found = {
    path.name
    for path in FILES
    for name in imports(ast.walk(tree(path)))
    if name.split('.')[0] == 'ray'
  }
  assert found == {'ray_engine.py'}


def test_parts_form_no_cycle():
  done = set()
  left = dict(ALLOWED)
  while left:
    ready = [name for name, needs in left.items() if needs <= done]
    assert ready, f'A cycle among {sorted(left)}.'
    for name in ready:
      done.add(name)
      del left[name]


def test_modules_form_no_cycle():
  names = {module_name(path) for path in FILES}
  # From lists without the package's own lazy table.
  needs = {
    module_name(path): names & top_level(path) - {module_name(path)}
    for path in FILES
  }
  while needs:
    ready = [name for name, wants in needs.items() if not wants & set(needs)]
    assert ready, f'A cycle among {sorted(needs)}.'
    for name in ready:
      del needs[name]


class TestFiles:
  def test_are_short(self, source):
    assert len(source.read_text('utf-8').splitlines()) <= 400

  def test_functions_are_short(self, source):
    long = [
      f'{node.name}: {node.end_lineno - node.lineno + 1} lines'
      for node in ast.walk(tree(source))
      if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
      and node.end_lineno - node.lineno >= 80
    ]
    assert not long

  def test_are_named_for_what_they_hold(self, source):
    assert source.stem not in ('utils', 'util', 'helpers', 'misc', 'common')

  def test_are_documented(self, source):
    assert ast.get_docstring(tree(source))

  def test_public_names_are_documented(self, source):
    missing = []
    documented = _documented_methods()

    def visit(node, prefix, inside_class):
      for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef):
          continue
        if child.name.startswith('_') and child.name != '__call__':
          continue
        name = f'{prefix}{child.name}'
        inherited = inside_class and child.name in documented
        if not ast.get_docstring(child) and not inherited:
          missing.append(name)
        if isinstance(child, ast.ClassDef):
          visit(child, f'{name}.', True)

    visit(tree(source), '', False)
    assert not missing


@functools.cache
def _documented_methods():
  """Methods that an abstract base describes: an override need not repeat."""
  names = {'setup'}  # Of every Flax module.
  for path in FILES:
    for node in ast.walk(tree(path)):
      if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
        for decorator in node.decorator_list:
          if ast.unparse(decorator) == 'abc.abstractmethod':
            names.add(node.name)
  return names


class TestPackage:
  def test_importing_it_loads_nothing_heavy(self):
    code = (
      'import sys, idspn_jax; '
      f'print([name for name in {HEAVY!r} if name in sys.modules])'
    )
    done = subprocess.run(
      [sys.executable, '-c', code],
      cwd=SOURCE.parent,
      capture_output=True,
      text=True,
      timeout=60,
    )
    assert done.stdout.strip() == '[]', done.stdout + done.stderr

  def test_every_part_is_a_package(self):
    for path in FILES:
      assert (path.parent / '__init__.py').exists()

  @pytest.mark.parametrize('name', idspn_jax.__all__)
  def test_every_name_resolves_and_is_documented(self, name):
    value = getattr(idspn_jax, name)
    assert name in dir(idspn_jax)
    if name != '__version__':
      assert value.__doc__
      home = importlib.import_module(value.__module__)
      assert getattr(home, name) is value

  def test_unknown_names_are_refused(self):
    with pytest.raises(AttributeError, match='DeepSets'):
      _ = idspn_jax.DeepSets

  def test_is_typed(self):
    assert (SOURCE / 'py.typed').exists()
