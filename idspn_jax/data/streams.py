"""Independent streams of random numbers, one for each purpose of a seed.

`np.random.default_rng([seed, 2])` and `default_rng([seed, 2, 0])` are the same
stream, because NumPy pads a list with zeros; so are `default_rng(seed)` and
`default_rng([seed, 0])`. Streams with a `spawn_key` are not padded.
"""

import operator

import numpy as np

# NumPy takes its entropy as 32-bit words. A larger number would become several
# words and look like a longer path; a seed of more than four words likewise.
_MAX_PART = 2**32
_MAX_SEED = 2**128


def stream(seed: int, *path: int) -> np.random.Generator:
  """Makes the generator of one purpose.

  Different seeds or different paths give independent streams: neither the order
  of calls nor the length of a path matters, and `(2,)` differs from `(2, 0)`.
  None of them is a stream of `np.random.default_rng` with a seed below 2**128
  or with a list of at most four numbers below 2**32.

  Args:
    seed: of the experiment, from 0, below 2**128.
    *path: the purpose: one or more integers from 0, below 2**32, for example a
      constant of the purpose and the epoch.

  Returns:
    A generator `default_rng(SeedSequence(seed, spawn_key=path))`.

  Raises:
    ValueError: if the path is empty, or the seed or a number of the path is not
      an integer in its range.
  """
  if not path:
    raise ValueError(
      'A stream needs a path: at least one integer that names its purpose.'
    )
  seed = _integer(seed, 'The seed', _MAX_SEED)
  path = tuple(_integer(p, 'A number of the path', _MAX_PART) for p in path)
  return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=path))


def _integer(value, name, limit):
  try:
    number = operator.index(value)
  except TypeError:
    number = -1
  if isinstance(value, bool) or not 0 <= number < limit:
    raise ValueError(
      f'{name} must be an integer from 0, below 2**{limit.bit_length() - 1}; '
      f'got {value!r}.'
    )
  return number
