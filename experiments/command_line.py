"""What the binaries share: flags, and errors as one line."""

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


def _parse(argv):
  try:
    return flags.FLAGS(argv)
  except flags.Error as e:
    raise errors.UserError(f'{_one_line(e)} (--help lists the flags)') from e
  except (AttributeError, KeyError, TypeError, ValueError) as e:
    # How config_flags reports a key or value that the config does not have.
    raise errors.UserError(_one_line(e)) from e
  except OSError as e:
    raise errors.UserError(f'Cannot read the config: {_one_line(e)}') from e


def _one_line(e):
  text = e.args[0] if isinstance(e, KeyError) and e.args else e
  return ' '.join(str(text).split())


def _name():
  return os.path.splitext(os.path.basename(sys.argv[0]))[0]
