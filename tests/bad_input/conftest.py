"""Bad input: how it is made, what may come of it, and how much was tried.

Every input must be refused by an error of the library itself, in one line, or
give what is documented. `BAD_INPUT_COUNTS=FILE` keeps the counts as JSON.
"""

import collections
import hashlib
import json
import os
import pathlib
import pickle
import reprlib
import traceback

import hypothesis
import numpy as np
import pytest

import idspn_jax
from idspn_jax import errors
from tests.bad_input.refusal import Refused

PACKAGE = pathlib.Path(idspn_jax.__file__).parent
_TRIED: dict[str, set[str]] = collections.defaultdict(set)


def _identity(value):
  """A text that is the same for equal inputs."""
  if isinstance(value, np.ndarray):
    return f'{value.dtype} {value.shape} {value.tolist()!r}'
  if isinstance(value, tuple | list):
    return '[' + ' '.join(map(_identity, value)) + ']'
  return repr(value)


@pytest.fixture(scope='session')
def attempt():
  """Calls with a bad input; an error must be the library's own."""

  def call(kind, value, function, *also):
    """Returns what the call gives, or raises `Refused`.

    Args:
      kind: the class of input, to be counted.
      value: the input, to be counted once.
      function: what is called, without arguments.
      *also: further types of errors that are documented.
    """
    text = _identity(value).encode('utf-8', 'backslashreplace')
    _TRIED[kind].add(hashlib.sha256(text).hexdigest())
    try:
      return function()
    except (ValueError, *also) as e:
      frames = traceback.extract_tb(e.__traceback__)
      where = pathlib.Path(frames[-1].filename)
      own = PACKAGE in where.parents or where.parent.name == 'experiments'
      # `raise ... from e` in the library hides nothing: the last frame counts.
      assert own, f'{type(e).__name__} from {where}: {e}'
      message = str(e.args[0]) if e.args else ''
      assert message.strip(), 'The error says nothing.'
      if isinstance(e, errors.UserError):
        assert len(message) < 3000, message
      raise Refused(message) from e

  return call


@pytest.fixture(scope='session')
def refused(attempt):
  """Calls with an input that must be refused; returns the message."""

  def call(kind, value, function, *also):
    try:
      found = attempt(kind, value, function, *also)
    except Refused as e:
      return str(e)
    raise AssertionError(
      f'{reprlib.repr(value)} was taken: {reprlib.repr(found)}'
    )

  return call


@pytest.fixture(
  params=[8, pytest.param(200, marks=pytest.mark.deep)],
  ids=['few', 'many'],
)
def fuzz(request):
  """Checks a property on a few inputs, or on many in deep tests."""

  def check(strategy, prop):
    @hypothesis.settings(
      max_examples=request.param,
      derandomize=True,
      database=None,
      deadline=None,
      report_multiple_bugs=False,
      phases=[hypothesis.Phase.generate],
      suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def run(value):
      prop(value)

    run()

  return check


class _Trap:
  """Writes a file when it is unpickled."""

  def __init__(self, path):
    self._path = path

  def __reduce__(self):
    return pathlib.Path.write_text, (pathlib.Path(self._path), 'sprung')


@pytest.fixture
def trap(tmp_path):
  """A pickle that leaves a file behind when it is loaded, and that file."""
  mark = tmp_path / 'sprung'
  value = _Trap(str(mark))
  pickle.loads(pickle.dumps(value))
  assert mark.exists()  # The trap works.
  mark.unlink()
  yield value
  assert not mark.exists(), 'A pickle was loaded.'


@pytest.fixture(scope='session')
def damage():
  """Makes damaged copies of bytes: cut, flipped, filled and lengthened."""

  def make(content, seed, count):
    rng = np.random.default_rng(seed)
    size = len(content)
    for i in range(count):
      place = int(rng.integers(size))
      if i % 4 == 0:
        yield f'cut {place}', content[:place]
      elif i % 4 == 1:
        bit = 1 << int(rng.integers(8))
        changed = bytes([content[place] ^ bit])
        yield (
          f'flip {place} {bit}',
          content[:place] + changed + content[place + 1 :],
        )
      elif i % 4 == 2:
        noise = rng.bytes(min(64, size - place))
        yield (
          f'noise {place} {noise[:8]!r}',
          content[:place] + noise + content[place + len(noise) :],
        )
      else:
        noise = rng.bytes(16)
        yield (
          f'insert {place} {noise[:8]!r}',
          content[:place] + noise + content[place:],
        )

  return make


def pytest_terminal_summary(terminalreporter):
  """Tells how many different inputs of each class were tried."""
  counts = {kind: len(found) for kind, found in sorted(_TRIED.items())}
  if not counts:
    return
  terminalreporter.write_line(
    f'Bad inputs tried: {sum(counts.values())} '
    f'({", ".join(f"{kind} {n}" for kind, n in counts.items())})'
  )
  if path := os.environ.get('BAD_INPUT_COUNTS'):
    content = {'total': sum(counts.values()), 'classes': counts}
    pathlib.Path(path).write_text(json.dumps(content, indent=2) + '\n')
