"""Runs the binaries in forked children of one process that has all imports.

Importing takes longer than most of the commands that tests try. As a program it
reads lines of JSON, `[binary, arguments, environment]`, and answers each with a
line `[status, output, errors]`.
"""

import atexit
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings

ROOT = pathlib.Path(__file__).parents[2]
SECONDS = 300


class Commands:
  """Runs `python -m experiments.NAME` in the root, one after another."""

  def __init__(self):
    self._server = subprocess.Popen(
      [sys.executable, '-m', 'tests.experiments.forking'],
      cwd=ROOT,
      env=environment(),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._server.stdin.close()
    self._server.wait(SECONDS)
    self._server.stdout.close()

  def run(self, name: str, *arguments: object) -> subprocess.CompletedProcess:
    """Runs a binary and waits for it.

    Args:
      name: of the binary.
      arguments: made to text.
    """
    command = [name, [*map(str, arguments)], environment()]
    print(json.dumps(command), file=self._server.stdin, flush=True)
    answer = self._server.stdout.readline()
    assert answer, f'The process that runs {name} has ended.'
    return subprocess.CompletedProcess(command, *json.loads(answer))


def environment() -> dict[str, str]:
  """Of a command that a test runs."""
  return {**os.environ, 'MPLBACKEND': 'Agg', 'PYTHONUNBUFFERED': '1'}


def _become(name, arguments, variables, output, errors):
  """Runs the binary in this process, and ends it."""
  status = 70
  try:
    signal.alarm(SECONDS)
    os.environ.clear()
    os.environ.update(variables)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    sys.argv = [f'experiments/{name}.py', *arguments]
    try:
      runpy.run_module(
        f'experiments.{name}', run_name='__main__', alter_sys=True
      )
      status = 0
    except SystemExit as e:
      # Python prints another code than a number and ends with 1.
      status = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
      traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
  finally:
    os._exit(status)


def _fork():
  with warnings.catch_warnings():
    # Python and JAX warn of forks where there are threads; there are none yet.
    warnings.simplefilter('ignore')
    return os.fork()


def _answer(command):
  with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
    child = _fork()
    if not child:
      _become(*command, output, errors)
    _, status = os.waitpid(child, 0)
    texts = []
    for file in (output, errors):
      file.seek(0)
      texts.append(file.read().decode())
    return [os.waitstatus_to_exitcode(status), *texts]


def _import():
  """What most binaries import, here once; nothing that starts threads."""
  import configs.class_numbering  # noqa: F401
  import idspn_jax.studies.evaluations  # noqa: F401
  import idspn_jax.studies.numbering_tables  # noqa: F401
  import idspn_jax.studies.predictions  # noqa: F401
  import idspn_jax.training.loop  # noqa: F401


def _main():
  _import()
  for line in sys.stdin:
    print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == '__main__':
  _main()
