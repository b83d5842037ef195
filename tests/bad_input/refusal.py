"""What the fixtures of these tests raise."""


class Refused(Exception):
  """The library has refused the input, by the error that is the cause."""
