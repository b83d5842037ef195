"""Errors that a user can mend, and those that are a user's Ctrl-C."""

import re


class UserError(ValueError):
  """A setting, file or checkpoint that does not fit; says what to change.

  Binaries print its message as one line and exit with status 2.
  """


def interrupted(e: BaseException) -> bool:
  """Whether an error is Ctrl-C; JAX wraps one in a function of the host."""
  return isinstance(e, KeyboardInterrupt) or (
    isinstance(e, RuntimeError)
    and re.search('^KeyboardInterrupt:?', str(e), re.MULTILINE) is not None
  )
