"""What the binaries share: flags, and errors as one line."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import logging as python_logging
import multiprocessing
import os
import re
import signal
import sys
import threading

from absl import app
from absl import flags
from absl import logging

from idspn_jax import errors

# What JAX_PLATFORMS named, if it named no CPU.
_accelerator: str | None = None


def run(main: Callable[[Sequence[str]], int | None]) -> None:
  """Runs a binary; what the user can mend ends in one line and status 2.

  Wrong flags, misspelt config keys and `UserError`s are reported without a
  traceback; so is Ctrl-C, with status 130.

  Args:
    main: gets the arguments that are not flags; returns the exit status. With
      an attribute `joins_processes` it calls `check_accelerator` itself.
  """
  logging.set_verbosity(logging.WARNING)
  logging.use_absl_handler()
  global _accelerator
  _accelerator = _add_cpu()

  def guarded(argv):
    if len(argv) > 1 and not getattr(main, 'takes_arguments', False):
      raise errors.UserError(
        f'Unexpected argument {argv[1]!r}; flags are written --name=value.'
      )
    try:
      # Asking for devices comes after joining other processes.
      if not getattr(main, 'joins_processes', False):
        check_accelerator()
      return main(argv)
    except (RuntimeError, MemoryError) as e:
      if errors.interrupted(e):
        raise KeyboardInterrupt from e
      raise _of_machine(e) from e

  try:
    with keeping_interrupts():
      app.run(guarded, flags_parser=_parse)
  except errors.UserError as e:
    sys.stderr.write(f'{_name()}: error: {_one_line(e)}\n')
    sys.exit(2)
  except BrokenPipeError:
    # The reader of standard output, such as `head`, has gone. Python would
    # complain again when it flushes at the end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
  except KeyboardInterrupt:
    _end_interrupted()
  finally:
    # Python's handler would print a traceback while Python ends.
    if callable(signal.getsignal(signal.SIGINT)):
      signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end_interrupted():
  """Ends at once: Python would wait for what still computes, or crash in it."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  for child in multiprocessing.active_children():
    child.terminate()
  sys.stderr.write(f'{_name()}: interrupted\n')
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError):
      stream.flush()
  os._exit(130)


@contextlib.contextmanager
def keeping_interrupts() -> Iterator[None]:
  """Repeats a Ctrl-C whose exception Python drops, until it is heard.

  Python reports and drops exceptions in what the garbage collector calls; JAX
  has a function there. Also keeps JAX from logging a Ctrl-C with a traceback.
  """
  report = sys.unraisablehook

  def repeat(dropped):
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
      report(dropped)
      return
    # Later, for in this hook it would be dropped as well.
    main = threading.main_thread().ident
    timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
    timer.daemon = True
    timer.start()

  def is_no_interrupt(record):
    e = record.exc_info and record.exc_info[1]
    return not isinstance(e, KeyboardInterrupt)

  jax_logger = python_logging.getLogger('jax._src.callback')
  jax_logger.addFilter(is_no_interrupt)
  sys.unraisablehook = repeat
  try:
    yield
  finally:
    sys.unraisablehook = report
    jax_logger.removeFilter(is_no_interrupt)


def counts(name: str, texts: Sequence[str], example: str, most: int) -> list:
  """Reads a flag that is a list of positive integers, in rising order.

  Args:
    name: of the flag.
    texts: its values.
    example: a good value, for the error.
    most: the largest integer allowed.

  Raises:
    UserError: if there are none, or one is no integer from 1 to `most`.
  """
  try:
    found = sorted({int(text) for text in texts})
  except ValueError:
    found = []
  if not found:
    raise errors.UserError(
      f'--{name} needs integers like {example}; got {list(texts)}.'
    )
  if not 1 <= found[0] <= found[-1] <= most:
    raise errors.UserError(f'--{name} must be from 1 to {most}; got {texts}.')
  return found


def integer_range(name: str, text: str, example: str) -> tuple[int, int]:
  """Reads a flag like 3..6, or 5 for 5..5.

  Args:
    name: of the flag.
    text: its value.
    example: a good value, for the error.

  Raises:
    UserError: if it is no such range.
  """
  found = re.fullmatch(r'(\d{1,9})(?:\.\.(\d{1,9}))?', text.strip())
  low, high = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
  if low > high:
    raise errors.UserError(
      f'--{name}={text}: give a range like {example}, the smaller number first.'
    )
  return low, high


def _add_cpu():
  """Keeps the CPU beside a chosen accelerator: host callbacks run on it.

  Returns:
    The value of JAX_PLATFORMS if it names no CPU; else None.
  """
  chosen = os.environ.get('JAX_PLATFORMS', '')
  if not chosen or 'cpu' in chosen.split(','):
    return None
  os.environ['JAX_PLATFORMS'] = f'{chosen},cpu'
  return chosen


def check_accelerator() -> None:
  """Refuses to compute on the CPU what was meant for an accelerator.

  Raises:
    UserError: if JAX_PLATFORMS names one and JAX finds none.
  """
  chosen = _accelerator
  if chosen is None:
    return
  import jax

  if jax.default_backend() == 'cpu':
    raise errors.UserError(
      f'JAX_PLATFORMS={chosen}, but JAX finds no such device; install its '
      "support (pip install 'idspn-jax[cuda]'), or set JAX_PLATFORMS=cpu."
    )


def _of_machine(e):
  """What the user can do about a device or a memory that is not there.

  Returns:
    A `UserError`, or `e` itself if it says something else.
  """
  text = ' '.join(str(e).split())
  if 'initialize backend' in text or 'nknown backend' in text:
    chosen = os.environ.get('JAX_PLATFORMS', '')
    return errors.UserError(
      f'JAX_PLATFORMS={chosen}: {text[:200]} Or set JAX_PLATFORMS=cpu.'
    )
  if isinstance(e, MemoryError) or 'RESOURCE_EXHAUSTED' in text:
    return errors.UserError(
      f'The memory does not suffice: {text[:150]} Lower the batch size, the '
      'width or the data.'
    )
  return e


def _parse(argv):
  try:
    return flags.FLAGS(argv)
  except flags.Error as e:
    # A config file's own complaint arrives wrapped in flag errors.
    own = _user_error(e)
    raise errors.UserError(_one_line(own) if own else _of_flag(e)) from e
  except MemoryError as e:
    raise _of_machine(e) from e
  except (AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
    # How config_flags reports values that do not fit.
    raise errors.UserError(_one_line(e)) from e


# How absl words a value of the wrong type, and what was expected.
_EXPECTED = {
  r'invalid literal for int\(\).*': 'give an integer',
  r'could not convert string to float.*': 'give a number',
  r'.*Non-boolean argument to boolean flag.*': 'give true or false',
}


def _of_flag(e):
  """The error of a flag that is unknown or of the wrong type."""
  text = _one_line(e)
  if found := re.fullmatch(r'flag (--\S*?=.*?): (.*)', text):
    for pattern, advice in _EXPECTED.items():
      if re.fullmatch(pattern, found[2]):
        return f'{found[1]}: {advice}.'
    return f'{found[1]}: {found[2]} (--help lists the flags)'
  return f'{text} (--help lists the flags)'


def _user_error(e):
  while e is not None and not isinstance(e, errors.UserError):
    e = e.__cause__ or e.__context__
  # The innermost: ml_collections rewrites messages on the way out.
  inner = e and _user_error(e.__cause__ or e.__context__)
  return inner or e


def _one_line(e):
  return ' '.join(str(e).split())


def _name():
  return os.path.splitext(os.path.basename(sys.argv[0]))[0]
