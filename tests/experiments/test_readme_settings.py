"""The configs and settings that the README shows exist and are accepted."""

import pathlib
import re
import shlex

from absl import flags
import pytest

from configs import class_numbering
from experiments import config_flag
from experiments import overrides
from idspn_jax import errors
from idspn_jax.runs import config as config_lib
from idspn_jax.tasks import model

ROOT = pathlib.Path(__file__).parents[2]
TEXT = (ROOT / 'README.md').read_text('utf-8')
# What stands for the user's own choice.
CHOICES = {'model=M': 'model=bilstm', 'FILE': 'sets.npz'}
SETTING = re.compile(r'--config\.[\w.]+=[^\s`]+')


def commands():
  """Arguments of every `experiments.train` in the README's shell blocks."""
  for block in re.findall(r'```sh\n(.*?)```', TEXT, re.DOTALL):
    for line in block.replace('\\\n', ' ').splitlines():
      words = shlex.split(line, comments=True)
      if 'experiments.train' in words:
        yield words[words.index('experiments.train') + 1 :]


def configs():
  """What follows `--config=` anywhere in the README."""
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


@pytest.mark.parametrize('arguments', list(commands()), ids=' '.join)
def test_commands(arguments):
  check(parsed(arguments))


@pytest.mark.parametrize('name', configs())
def test_configs(name):
  check(parsed([f'--config={name}']))


def test_settings_of_the_text():
  found = SETTING.findall(TEXT)
  assert '--config.model.gradient_options.terms=3' in found
  for arguments in re.findall(r'((?:--config\.[\w.]+=[^\s`]+\s*)+)', TEXT):
    words = [word for word in arguments.split() if '=FILE' not in word]
    known = [
      name
      for name in (
        'random_multisets',
        'own_images',
        'own_sets',
        'class_numbering',
      )
      if _accepts(f'--config=configs/{name}.py', words)
    ]
    assert known, arguments


def _accepts(config, words):
  try:
    check(parsed([config, *words]))
  except (flags.Error, errors.UserError):  # A key of another task.
    return False
  return True


def test_overrides_of_reproduce():
  for text in re.findall(r'--override=([^\s`]+)', TEXT):
    config = class_numbering.get_config()
    overrides.apply(config, [text])
    check(config)


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
