"""A step whose loss or gradient was not finite, kept to be taken again.

The folder holds the configuration, what identifies the data, the state before
the step, and its batch; nothing in it is a pickle.
"""

from collections.abc import Iterator
import contextlib
import json
import os
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import config as config_lib
from idspn_jax.runs import files
from idspn_jax.runs import provenance
from idspn_jax.runs import remote
from idspn_jax.tasks import registry
from idspn_jax.tasks import task as task_lib
from idspn_jax.training import state as state_lib
from idspn_jax.training import step as step_lib

FOLDER = 'reproduction'
_ABOUT = 'about.json'
_REMEDY = 'train the run again to have it written anew'


def _write_arrays(path, arrays):
  with files.replacing(path, 'wb') as f:
    np.savez(f, **arrays)


def _read_arrays(path):
  try:
    with open(path, 'rb') as f, np.load(f, allow_pickle=False) as found:
      return dict(found)
  except Exception as e:  # Damaged archives raise all kinds.
    raise errors.UserError(
      f'Cannot read {path}: {" ".join(str(e).split())[:200]}; {_REMEDY}.'
    ) from e


def save(
  workdir: str,
  config: ml_collections.ConfigDict,
  record: dict[str, Any] | None,
  state: state_lib.TrainState,
  batch: task_lib.Batch,
  iterations: int | None,
  restarts: int | None,
) -> None:
  """Writes the folder `workdir/reproduction`, in place of an older one.

  Args:
    workdir: the run's directory.
    config: the run's configuration.
    record: what identifies its data files, or None.
    state: before the step, on the host.
    batch: of the step, as the data yields it.
    iterations: inner steps, or None for the model's own.
    restarts: starts, likewise.

  Raises:
    UserError: if it cannot be written.
  """
  folder = os.path.join(workdir, FOLDER)
  shutil.rmtree(folder, ignore_errors=True)
  files.make_directory(folder, 'the reproduction')
  _write_arrays(os.path.join(folder, 'state.npz'), checkpoints.by_name(state))
  _write_arrays(
    os.path.join(folder, 'batch.npz'),
    {name: np.asarray(leaf) for name, leaf in batch.items()},
  )
  about = {
    'batch': int(state.skipped_at),
    'iterations': iterations,
    'restarts': restarts,
    'x64': bool(jax.config.jax_enable_x64),
    'record': record,
    'config': json.loads(config.to_json()),
    **provenance.provenance(),
  }
  # Last: with it the folder is whole.
  files.write_json(os.path.join(folder, _ABOUT), about)


@contextlib.contextmanager
def opened(place: str) -> Iterator[str]:
  """The folder of a run's reproduction, on this machine.

  Args:
    place: the run's directory or the folder in it; what is on shared storage is
      fetched, and removed afterwards.

  Yields:
    The folder.

  Raises:
    UserError: if there is none, or it cannot be fetched.
  """
  if remote.is_remote(place):
    place = place.rstrip('/')
    named = place.rpartition('/')[2] == FOLDER
    with remote.fetched_folder(
      place if named else f'{place}/{FOLDER}'
    ) as folder:
      _check_holds(folder, place)
      yield folder
    return
  place = files.local_path(place, 'replay')
  inner = os.path.join(place, FOLDER)
  folder = inner if os.path.isdir(inner) else place
  _check_holds(folder, place)
  yield folder


def _check_holds(folder, place):
  if not os.path.lexists(os.path.join(folder, _ABOUT)):
    raise errors.UserError(
      f'{place} holds no reproduction of a step; give the directory of a run '
      f'that has diverged, or the folder {FOLDER} in it.'
    )


def read_about(folder: str) -> dict[str, Any]:
  """Reads what a folder says of its step.

  Raises:
    UserError: if it is no such folder, or damaged.
  """
  _check_holds(folder, folder)
  path = os.path.join(folder, _ABOUT)
  return files.read_mapping(path, ('batch', 'x64', 'config'), _REMEDY) or {}


class Culprit(NamedTuple):
  """An array with entries that are not finite.

  Attributes:
    name: of the array.
    count: how many entries are not finite.
    size: how many there are.
    rows: of a batch, the rows with such entries; else None.
  """

  name: str
  count: int
  size: int
  rows: list[int] | None = None


class Findings(NamedTuple):
  """What a step that is taken again shows.

  Attributes:
    batch: number of its batch, from 0.
    loss: of the step.
    gradient_norm: of the step.
    parameters: those that are not finite before it.
    inputs: arrays of the batch that are not finite.
    rows: rows of the batch whose loss is not finite in a batch of this row
      alone, repeated.
    gradients: those that are not finite.
  """

  batch: int
  loss: float
  gradient_norm: float
  parameters: list[Culprit]
  inputs: list[Culprit]
  rows: list[int]
  gradients: list[Culprit]

  @property
  def finite(self) -> bool:
    """Whether nothing was found: the step cannot be reproduced here."""
    return bool(np.isfinite([self.loss, self.gradient_norm]).all())


def _culprits(tree, by_row=False):
  found = []
  for name, leaf in checkpoints.by_name(tree).items():
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
      continue
    bad = ~np.isfinite(np.asarray(leaf))
    if bad.any():
      rows = None
      if by_row:
        bad_rows = bad.reshape(len(bad), -1).any(1)
        rows = np.flatnonzero(bad_rows).tolist()
      found.append(Culprit(name, int(bad.sum()), bad.size, rows))
  return found


def replay(folder: str, task: task_lib.Builder | None = None) -> Findings:
  """Takes a saved step again, on one device, and looks for its culprits.

  Args:
    folder: written by `save`.
    task: builds the experiment, for tasks that are not registered.

  Raises:
    UserError: if the folder is damaged, or does not fit the task.
  """
  about = read_about(folder)
  config = ml_collections.ConfigDict(config_lib.complete(about['config']))
  if about['x64'] != bool(jax.config.jax_enable_x64):
    wanted = int(about['x64'])
    raise errors.UserError(
      f'{folder} is of a run with JAX_ENABLE_X64={wanted}; set it so.'
    )
  # Over one device nothing is mapped.
  with config.unlocked():
    config.parallel = 'jit'
  built = registry.build(config, about.get('record'), builder=task)
  like = jax.eval_shape(lambda: state_lib.init_state(built.task, config))
  stored = _read_arrays(os.path.join(folder, 'state.npz'))
  state = checkpoints.fit(stored, like, folder)
  batch = _read_arrays(os.path.join(folder, 'batch.npz'))
  measure = jax.jit(
    step_lib.make_measure(
      built.task, config, about.get('iterations'), about.get('restarts')
    )
  )
  prepare = jax.jit(
    lambda state, batch: step_lib.prepared(built.task, state, batch)
  )
  inputs = _culprits(batch, by_row=True)
  batch = prepare(state, batch)
  loss, gradient = measure(state, batch)
  count = len(jax.tree.leaves(batch)[0])
  rows = []
  for row in range(count):
    alone = jax.tree.map(
      lambda a, r=row: jnp.repeat(a[r : r + 1], count, 0), batch
    )
    if not np.isfinite(measure(state, alone)[0]):
      rows.append(row)
  return Findings(
    about['batch'],
    float(loss),
    float(optax.tree.norm(gradient)),
    _culprits({'params': state.params, **state.model_state}),
    inputs,
    rows,
    _culprits(gradient),
  )
