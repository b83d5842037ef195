"""Lists of independent jobs, in this process or in several, with progress."""

from collections.abc import Callable, Iterable, Sequence
import contextlib
import multiprocessing
import os
from typing import TypeVar

import tqdm

Job = TypeVar('Job')


def use_one_thread() -> None:
  """Lets JAX compute on one thread of the CPU, unless NPROC says otherwise.

  Has an effect before JAX first computes. The renderer's programs consist of
  many short steps: sharing them among threads takes more than it gives.
  """
  os.environ.setdefault('NPROC', '1')


def run_all(
  function: Callable[[Job], int],
  jobs: Sequence[Job],
  processes: int,
  total: int,
  unit: str,
) -> None:
  """Runs a function on every job, in any order.

  Args:
    function: does a job and returns how many units it made; picklable if there
      are several processes.
    jobs: what is to be done.
    processes: how many processes work; 1 means this one. Each of several
      computes on one thread.
    total: units of all jobs.
    unit: what the progress bar counts.

  Raises:
    ValueError: if there are no processes, or what a job raises.
  """
  if processes < 1:
    raise ValueError(f'{processes} processes cannot work; use 1 or more.')
  with contextlib.ExitStack() as stack:
    bar = stack.enter_context(tqdm.tqdm(total=total, unit=unit, smoothing=0.1))
    results: Iterable[int] = map(function, jobs)
    if processes > 1 and len(jobs) > 1:
      context = multiprocessing.get_context('spawn')
      pool = context.Pool(min(processes, len(jobs)), use_one_thread)
      stack.enter_context(pool)
      results = pool.imap_unordered(function, jobs)
    for made in results:
      bar.update(made)
