"""Bad settings: configs, overrides, arguments of config files, flags, grids."""

from hypothesis import strategies as st
import ml_collections
import pytest

from configs import class_numbering
from configs import clevr_state
from configs import random_multisets
from experiments import command_line
from experiments import config_flag
from experiments import overrides
from idspn_jax.data import local_paths
from idspn_jax.data import streams
from idspn_jax.runs import config as config_lib
from idspn_jax.studies import sweep_grid
from idspn_jax.studies import tables
from idspn_jax.tasks import registry
from idspn_jax.training import iterations
from idspn_jax.training import optimizer
from tests.bad_input.refusal import Refused

VALUES = st.one_of(
  st.none(),
  st.booleans(),
  st.integers(-3, 3),
  st.sampled_from([2**31, 2**40, 10**400, -(2**63)]),
  st.floats(),
  st.text(max_size=6),
  st.sampled_from(
    ['relu', 'sum', 'dspn', 'linear', '1@0.5', '5,10@2', 'linear:1-5', '-1']
  ),
  st.lists(st.floats() | st.integers() | st.text(max_size=3), max_size=3),
  st.just({}),
  st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
CONFIGS = {
  'random_multisets': lambda: random_multisets.get_config('n=2,d=2,T=2'),
  'class_numbering': lambda: class_numbering.get_config('setting=reduced'),
  'clevr_state': lambda: clevr_state.get_config(),
}
TEXT = st.text(max_size=12) | st.text('abnT=,.:;[]()0123456789-', max_size=14)


def _keys(tree, prefix=''):
  for key, value in tree.items():
    yield prefix + key
    if isinstance(value, dict):
      yield from _keys(value, f'{prefix}{key}.')


def _changed(config, key, value):
  """A config as a file might make it, with any value for a key."""
  tree = config.to_dict()
  *groups, name = key.split('.')
  node = tree
  for group in groups:
    node = node[group]
  node[name] = value
  if value == 'gone':
    del node[name]
  return ml_collections.ConfigDict(tree, type_safe=False)


def _build(config):
  """What a training does with its config before it starts."""
  config_lib.check(config)
  task = registry.build(config).task
  optimizer.make_optimizer(config)
  iterations.Schedule(config, task.iterates)


@pytest.mark.parametrize('name', CONFIGS)
def test_values_of_configs(name, fuzz, attempt):
  keys = sorted(_keys(CONFIGS[name]().to_dict()))

  def check(change):
    key, value = change
    config = _changed(CONFIGS[name](), key, value)
    try:
      attempt(f'{name} config', change, lambda: _build(config))
    except Refused as e:
      # The binaries join what stands on several lines.
      assert key.split('.')[-1] in str(e) or 'config' in str(e)

  for group in ('', 'data.', 'model.', 'optimizer.'):
    own = [
      key
      for key in keys
      if key.startswith(group) and ('.' in key) == bool(group)
    ]
    if own:
      fuzz(st.tuples(st.sampled_from(own), VALUES | st.just('gone')), check)


def test_stored_configs(fuzz, attempt):
  """Configs as `config.json` may hold them."""
  good = random_multisets.get_config('n=2,d=2,T=2')
  keys = sorted(_keys(good.to_dict()))

  def check(change):
    key, value = change
    stored = _changed(good, key, value).to_dict()
    if not {'task', 'seed'} <= {*stored}:
      return  # Refused before, by `directory.read_config`.
    try:
      attempt(
        'stored settings', change, lambda: config_lib.check_stored(stored)
      )
    except Refused as e:
      assert '\n' not in str(e)

  fuzz(st.tuples(st.sampled_from(keys), VALUES | st.just('gone')), check)


def test_overrides(fuzz, attempt):
  keys = [*_keys(random_multisets.get_config().to_dict()), 'x', '', 'a..b']

  def check(text):
    config = random_multisets.get_config()
    before = config.to_dict()
    try:
      attempt('overrides', text, lambda: overrides.apply(config, [text]))
    except Refused:
      assert config.to_dict() == before
      return
    for key, value in config_lib._flat(config.to_dict()):
      old = dict(config_lib._flat(before))[key]
      assert type(value) is type(old) or old is None

  values = st.sampled_from(
    ['1', '-1', '1.5', 'NaN', 'Infinity', '1e999', 'true', 'null', '"a"', '[]']
    + ['[1]', '{}', '', ' ', '1,2', '=', '9' * 400, 'x' * 100, '[' * 2000]
  )
  pairs = st.builds(
    lambda key, value: f'{key}={value}', st.sampled_from(keys), values | TEXT
  )
  fuzz(pairs | TEXT, check)


@pytest.mark.parametrize(
  'read',
  [
    random_multisets.get_config,
    class_numbering.get_config,
    sweep_grid.parse,
    lambda text: command_line.integer_range('a', text, '3..6'),
    lambda text: command_line.counts('a', text.split(','), '1,2', 10),
    lambda text: config_flag.load(text),
    lambda text: tables.select([], [text]),
    lambda text: local_paths.local_path(text),
  ],
  ids='multisets numbering grid range counts file cells path'.split(),
)
def test_texts(read, request, fuzz, attempt, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  name = request.node.callspec.id

  def check(text):
    try:
      attempt(f'texts of {name.split("-")[-1]}', text, lambda: read(text))
    except Refused as e:
      assert str(e)

  fuzz(TEXT, check)
  pairs = st.builds(
    lambda key, value: f'{key}={value}',
    st.sampled_from(['n', 'd', 'T', 'model', 'seed', 'samples', 'classes']),
    VALUES.map(str),
  )
  fuzz(pairs, check)


def test_seeds_of_streams(fuzz, attempt):
  def check(value):
    seed, path = value
    try:
      attempt('seeds', value, lambda: streams.stream(seed, *path))
    except Refused:
      return

  fuzz(st.tuples(VALUES, st.lists(VALUES, max_size=2)), check)
