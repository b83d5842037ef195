"""Commands, configs and settings of README and docs exist, are accepted."""

import re
import shlex

from absl import flags
import pytest

from configs import class_numbering
from configs import clevr
from experiments import config_flag
from experiments import overrides
from idspn_jax import errors
from idspn_jax.runs import config as config_lib
from idspn_jax.tasks import model
from tests.docs import pages

TEXT = '\n'.join(map(pages.text_of, pages.PAGES)) + '\n'.join(
  path.read_text('utf-8') for path in pages.NOTEBOOKS
)
# What stands for the user's own choice.
CHOICES = {'model=M': 'model=bilstm', 'FILE': 'sets.npz'}
SETTING = re.compile(r'--config\.[\w.]+=[^\s`]+')
# Flags that absl and ml_collections define.
_COMMON = {'config', 'help'}
# Commands whose --config may be followed by overrides.
_CONFIGURED = ('train', 'compare_gradients')


def commands():
  """Name and arguments of every `python -m experiments.…` in shell blocks."""
  found = []
  for page in pages.PAGES:
    for block in pages.blocks(page, 'sh'):
      for line in block.code.replace('\\\n', ' ').splitlines():
        words = shlex.split(line, comments=True)
        for i, word in enumerate(words):
          if word.startswith('experiments.') and words[i - 1] == '-m':
            found.append((word.partition('.')[2], tuple(words[i + 1 :])))
  return sorted(set(found))


def with_configs():
  """Arguments of all commands that train or study what --config describes."""
  found = [given for name, given in commands() if name in _CONFIGURED]
  return [given for given in found if any('--config=' in a for a in given)]


def of_config(arguments):
  """Those of them that are the config and its overrides."""
  return [a for a in arguments if a.startswith(('--config=', '--config.'))]


def configs():
  """What follows `--config=` anywhere in the pages."""
  found = re.findall(r'--config=(configs/[\w./]+(?::[^\s`]*)?)', TEXT)
  return sorted(set(found))


def parsed(arguments):
  """The config of a command line, with its overrides."""
  values = flags.FlagValues()
  arguments = list(arguments)
  for i, argument in enumerate(arguments):
    for choice, own in CHOICES.items():
      argument = argument.replace(choice, own)
    arguments[i] = argument
  argv = ['train', *arguments]
  config_flag.define(values, argv)
  flags.DEFINE_string('workdir', None, '', flag_values=values)
  values(argv)
  return values.config


def check(config):
  config_lib.check(config)
  if 'model' in config and config.task != 'class_numbering':
    model.build_autoencoder(config.model, 3, 2)


@pytest.mark.parametrize('arguments', with_configs(), ids=' '.join)
def test_commands(arguments):
  check(parsed(of_config(arguments)))


def flags_of(name):
  """Names of the flags that a binary defines, by its source."""
  folder = pages.ROOT / 'experiments'
  todo, done, found = [name], set(), set()
  while todo:
    source = (folder / f'{todo.pop()}.py').read_text('utf-8')
    found |= set(re.findall(r"DEFINE_\w+\(\s*'(\w+)'", source))
    found |= set(re.findall(r"^  name: flags|'(\w+)': '", source, re.M))
    for other in re.findall(r'^from experiments import (\w+)', source, re.M):
      if other not in done:
        done.add(other)
        todo.append(other)
  return found - {''}


@pytest.mark.parametrize('name', sorted({name for name, _ in commands()}))
def test_flags(name):
  known = flags_of(name) | _COMMON
  for other, arguments in commands():
    for argument in arguments if other == name else ():
      if argument.startswith('--') and not of_config([argument]):
        flag = argument[2:].partition('=')[0]
        assert flag in known or flag.removeprefix('no') in known, argument


@pytest.mark.parametrize('name', configs())
def test_configs(name):
  check(parsed([f'--config={name}']))


CONFIGS = sorted(
  path.stem
  for path in (pages.ROOT / 'configs').glob('*.py')
  if path.stem != '__init__'
)


def test_settings_of_the_text():
  found = SETTING.findall(TEXT)
  assert '--config.model.gradient_options.terms=3' in found
  for arguments in set(re.findall(r'((?:--config\.[\w.]+=[^\s`]+\s*)+)', TEXT)):
    words = [
      word.rstrip(',;')
      for word in shlex.split(arguments)
      if '=FILE' not in word
    ]
    assert any(
      _accepts(f'--config=configs/{name}.py', words) for name in CONFIGS
    ), arguments


def _accepts(config, words):
  try:
    check(parsed([config, *words]))
  except (flags.Error, errors.UserError):  # A key of another task.
    return False
  return True


def test_overrides_of_reproduce():
  for text in re.findall(r'--override=([^\s`]+)', TEXT):
    accepted = []
    for task in (class_numbering, clevr):
      config = task.get_config()
      try:
        overrides.apply(config, [text])
      except errors.UserError:  # A key of the other task.
        continue
      accepted.append(config)
    assert accepted, text


class TestOverrides:
  @pytest.mark.parametrize(
    'text, value',
    [
      ('model.gradient_options.terms=3', 3),
      ('model.gradient_options.ridge=0.1', 0.1),
      ('model.gradient_options.checkpoint=true', True),
      ('optimizer.drops=[0.5,0.9]', (0.5, 0.9)),
      ('learning_rate=1', 1.0),
      ('model.pool=mean', 'mean'),
    ],
  )
  def test_take_the_type_of_the_setting(self, text, value):
    config = class_numbering.get_config()
    overrides.apply(config, [text])
    *groups, name = text.partition('=')[0].split('.')
    for group in groups:
      config = config[group]
    assert config[name] == value and type(config[name]) is type(value)
