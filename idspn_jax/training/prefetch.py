"""Batches on their way to the devices while the step before is taken."""

import collections
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def prefetched(
  batches: Iterable[Any], place: Callable[[Any], Any], ahead: int = 1
) -> Iterator[Any]:
  """Places batches before they are asked for.

  Placing does not wait for the transfer, so that it overlaps with the steps
  that are queued before.

  Args:
    batches: on the host.
    place: starts the transfer to the devices.
    ahead: how many batches wait on the devices.

  Yields:
    Placed batches, in order; an error of `batches` comes after those before it.
  """
  waiting = collections.deque()
  error = None
  batches = iter(batches)
  while True:
    while error is None and len(waiting) <= ahead:
      try:
        waiting.append(place(next(batches)))
      except Exception as e:
        error = e
    if not waiting:
      break
    yield waiting.popleft()
  if not isinstance(error, StopIteration):
    raise error
