"""Errors that a user can mend."""


class UserError(ValueError):
  """A setting, file or checkpoint that does not fit; says what to change.

  Binaries print its message as one line and exit with status 2.
  """
