"""Runs many commands in forked children of one process that has all imports.

Reads a JSON list of `[binary, arguments]` from standard input and writes a list
of `[status, output, errors]`.
"""

import json
import os
import runpy
import signal
import sys
import tempfile
import traceback
import warnings

# Python warns of forks where there are threads; there are none yet.
warnings.simplefilter('ignore')

import configs.class_numbering  # noqa: E402, F401  To have it before forking.
import idspn_jax.studies.evaluations  # noqa: E402, F401
import idspn_jax.studies.numbering_tables  # noqa: E402, F401
import idspn_jax.studies.predictions  # noqa: E402, F401
import idspn_jax.training.loop  # noqa: E402, F401

SECONDS = 60


def _become(name, arguments, output, errors):
  """Runs the binary in this process, and ends it."""
  status = 70
  try:
    signal.alarm(SECONDS)
    os.dup2(output.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    sys.argv = [f'experiments/{name}.py', *arguments]
    try:
      runpy.run_module(
        f'experiments.{name}', run_name='__main__', alter_sys=True
      )
    except SystemExit as e:
      status = e.code or 0
    except BaseException:
      traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
  finally:
    os._exit(status)


def _run(name, arguments):
  with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
    child = os.fork()
    if not child:
      _become(name, arguments, output, errors)
    _, status = os.waitpid(child, 0)
    texts = []
    for file in (output, errors):
      file.seek(0)
      texts.append(file.read().decode())
    return [os.waitstatus_to_exitcode(status), *texts]


if __name__ == '__main__':
  json.dump([_run(*command) for command in json.load(sys.stdin)], sys.stdout)
