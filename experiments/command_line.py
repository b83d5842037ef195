"""What the binaries share: flags, and errors as one line."""

import ast
from collections.abc import Callable, Sequence
import os
import sys

from absl import app
from absl import flags
from absl import logging

from idspn_jax import errors


def run(main: Callable[[Sequence[str]], int | None]) -> None:
  """Runs a binary; what the user can mend ends in one line and status 2.

  Wrong flags, misspelt config keys and `UserError`s are reported without a
  traceback.

  Args:
    main: gets the arguments that are not flags; returns the exit status.
  """
  logging.set_verbosity(logging.WARNING)
  logging.use_absl_handler()

  def guarded(argv):
    if len(argv) > 1 and not getattr(main, 'takes_arguments', False):
      raise errors.UserError(
        f'Unexpected argument {argv[1]!r}; flags are written --name=value.'
      )
    return main(argv)

  try:
    app.run(guarded, flags_parser=_parse)
  except errors.UserError as e:
    sys.stderr.write(f'{_name()}: error: {_one_line(e)}\n')
    sys.exit(2)
  except KeyboardInterrupt:
    sys.stderr.write(f'{_name()}: interrupted\n')
    sys.exit(130)


def _parse(argv):
  try:
    return flags.FLAGS(argv)
  except flags.Error as e:
    # A config file's own complaint arrives wrapped in flag errors.
    own = _user_error(e)
    text = _one_line(own) if own else f'{_one_line(e)} (--help lists the flags)'
    raise errors.UserError(text) from e
  except (AttributeError, KeyError) as e:
    # How config_flags reports a key that the config does not have.
    raise errors.UserError(_unknown_key(argv, _one_line(e))) from e
  except (TypeError, ValueError) as e:
    raise errors.UserError(_one_line(e)) from e
  except SyntaxError as e:
    raise errors.UserError(
      f'Cannot read the config {e.filename}, line {e.lineno}: it is not '
      'Python; give a file of configs/.'
    ) from e
  except OSError as e:
    raise errors.UserError(f'Cannot read the config: {_one_line(e)}') from e


def _unknown_key(argv, text):
  """The error of an override whose key does not exist."""
  name = text.split()[0].strip('\'".,') if text.split() else text
  for argument in argv:
    if not argument.startswith('--config.'):
      continue
    key = argument.removeprefix('--').partition('=')[0]
    if name in key.split('.'):
      at = text.find('Did you mean')
      hint = text[at:] if at >= 0 else 'See the config file for its keys.'
      return f'--{key}: the config has no key {name!r}. {hint}'
  return text


def _user_error(e):
  while e is not None and not isinstance(e, errors.UserError):
    e = e.__cause__ or e.__context__
  # The innermost: ml_collections rewrites messages on the way out.
  inner = e and _user_error(e.__cause__ or e.__context__)
  return inner or e


def _one_line(e):
  text = str(e.args[0] if isinstance(e, KeyError) and e.args else e)
  try:
    # The text of a KeyError comes as a quoted string.
    text = str(ast.literal_eval(text))
  except (SyntaxError, ValueError):
    pass
  return ' '.join(text.split())


def _name():
  return os.path.splitext(os.path.basename(sys.argv[0]))[0]
