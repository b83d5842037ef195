"""The flag --config: a file, arguments after a colon, overrides of its keys."""

from collections.abc import Sequence
import difflib
import importlib.machinery
import importlib.util
import os
import re
import sys
import traceback
from typing import Any

from absl import flags
import ml_collections
from ml_collections import config_flags

from idspn_jax import errors
from idspn_jax.runs import files

_ADVICE = 'give a Python file of configs/'
_OVERRIDE = re.compile(r'--?(?:no)?config\.([^=]*)')
_KEY = re.compile(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)*')


def define(
  flag_values: flags.FlagValues = flags.FLAGS,
  argv: Sequence[str] | None = None,
) -> flags.FlagHolder:
  """Defines --config; wrong files and keys are `UserError`s.

  Args:
    flag_values: the flags.
    argv: the command line; that of the process if None.
  """
  holder = config_flags.DEFINE_config_file(
    'config',
    None,
    'Config file, with arguments after a colon.',
    flag_values=flag_values,
    sys_argv=argv,
  )
  flag_values['config'].parser = _Parser(argv)
  return holder


class _Parser(flags.ArgumentParser):
  """Loads the config and checks the keys that are to be overridden."""

  def __init__(self, argv):
    self._argv = argv

  def parse(self, argument: str) -> ml_collections.ConfigDict:
    """Returns the config of `FILE` or `FILE:ARGUMENTS`, locked."""
    config = load(argument)
    for key in _overridden(self._argv or sys.argv):
      _check_key(config, key)
    return config.lock()

  def flag_type(self) -> str:
    """See `flags.ArgumentParser`."""
    return 'config file'


def load(text: str) -> ml_collections.ConfigDict:
  """Loads a config.

  Args:
    text: `FILE` or `FILE:ARGUMENTS`.

  Raises:
    UserError: if there is no such file, or it makes no config.
  """
  if not text:
    raise errors.UserError(f'--config is empty; {_ADVICE}.')
  path, *arguments = [text] if '://' in text else text.split(':', 1)
  path = files.local_path(path, '--config')
  config = _load(path, arguments)
  if not isinstance(config, ml_collections.ConfigDict):
    raise errors.UserError(
      f'get_config of {path} returned {type(config).__name__}; it must '
      'return a ConfigDict.'
    )
  return config


def _load(path, arguments):
  if os.path.isdir(path):
    raise errors.UserError(f'--config={path} is a directory; {_ADVICE}.')
  if not os.path.exists(path):
    raise errors.UserError(f'--config={path}: no such file; {_ADVICE}.')
  # A loader that does not mind the suffix, so that the content decides.
  loader = importlib.machinery.SourceFileLoader('config_file', path)
  spec = importlib.util.spec_from_loader('config_file', loader)
  module = importlib.util.module_from_spec(spec)
  try:
    loader.exec_module(module)
    if not callable(getattr(module, 'get_config', None)):
      raise errors.UserError(
        f'--config={path} has no function get_config; {_ADVICE}.'
      )
    return module.get_config(*arguments)
  except errors.UserError:
    raise
  except (SyntaxError, UnicodeDecodeError) as e:
    line = f', line {e.lineno}' if isinstance(e, SyntaxError) else ''
    raise errors.UserError(
      f'--config={path}{line}: it is not Python; {_ADVICE}.'
    ) from e
  except Exception as e:  # Whatever a user's file does.
    frames = traceback.extract_tb(e.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    line = f', line {lines[-1]}' if lines else ''
    raise errors.UserError(
      f'--config={path}{line}: {type(e).__name__}: {e}'
    ) from e


def _overridden(argv):
  """The keys that a command line overrides, like `model.iterations`."""
  keys = []
  for argument in argv[1:]:
    if argument == '--':
      break
    if found := _OVERRIDE.match(argument):
      keys.append(found[1])
  return keys


def _check_key(config, key):
  """Refuses what is no setting of the config.

  Raises:
    UserError: naming the key and what it may have meant.
  """
  if not _KEY.fullmatch(key):
    raise errors.UserError(
      f'--config.{key}: write keys with dots, and whole values, like '
      "--config.model.iterations=20 or --config.optimizer.drops='(0.5, 0.9)'."
    )
  node: Any = config
  for part in key.split('.'):
    if not isinstance(node, ml_collections.ConfigDict):
      raise errors.UserError(
        f'--config.{key}: there is nothing below a single value; leave out '
        f'{part!r} and what follows.'
      )
    if part not in node:
      near = difflib.get_close_matches(part, list(node), 1)
      hint = (
        f'did you mean {near[0]!r}?'
        if near
        else 'it has ' + ', '.join(sorted(node))
      )
      raise errors.UserError(
        f'--config.{key}: the config has no key {part!r}; {hint}'
      )
    node = node[part]
  if isinstance(node, ml_collections.ConfigDict):
    raise errors.UserError(
      f'--config.{key} is a group of settings; override them one by one, like '
      f'--config.{key}.{sorted(node)[0]}=VALUE.'
    )
