"""Data-parallel steps on all devices, by `jit` over a mesh or by `pmap`.

With `jit` the compiled step keeps the meaning of one global batch and the
compiler adds the reductions. With `pmap` every device runs the step on its
share of the batch and averages gradients, scalars and model state over
`BATCH_AXIS`. Modules that normalise over the batch, like `flax.linen`'s
BatchNorm, or draw noise per set (`ops.batch_noise`) need that axis' name
there (`tasks.model.axis_name_of`) to compute what they compute under `jit`.
"""

from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.tasks import model
from idspn_jax.tasks import task as task_lib
from idspn_jax.training import hosts

BATCH_AXIS = model.BATCH_AXIS


def device_mesh() -> jax.sharding.Mesh:
  """All devices along one axis, over which batches are split by rows."""
  return jax.sharding.Mesh(np.asarray(jax.devices()), (BATCH_AXIS,))


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses what the devices that there are cannot run.

  Args:
    config: a complete configuration.

  Raises:
    UserError: if the batch does not divide among the devices.
  """
  _check(config.batch_size)


def _check(batch_size):
  devices = jax.device_count()
  if batch_size % devices:
    raise errors.UserError(
      f'batch_size {batch_size} does not divide among {devices} devices; use '
      f'a multiple of {devices}.'
    )


def put_everywhere(tree: Any, everywhere: jax.sharding.NamedSharding) -> Any:
  """Puts a copy of every array on every device, also of other processes.

  Args:
    tree: arrays, the same in all processes.
    everywhere: a sharding over a mesh of all devices that splits nothing.
  """
  if hosts.count() == 1:
    return jax.device_put(tree, everywhere)

  def put(leaf):
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
      return jax.device_put(leaf, everywhere)
    own = np.asarray(leaf)
    # Without asking the other processes whether theirs is the same.
    return jax.make_array_from_callback(own.shape, everywhere, lambda i: own[i])

  return jax.tree.map(put, tree)


def put_rows(
  tree: Any, by_row: jax.sharding.NamedSharding, rows: int, axis: int
) -> Any:
  """Splits arrays by rows over all devices.

  Args:
    tree: arrays with all rows of a batch or, of several processes, each with
      this process's share.
    by_row: the sharding.
    rows: of the whole batch.
    axis: of the rows.
  """
  if hosts.count() == 1:
    return jax.device_put(tree, by_row)

  def put(leaf):
    leaf = np.asarray(leaf)
    shape = list(leaf.shape)
    if shape[axis] == rows:
      return jax.make_array_from_callback(leaf.shape, by_row, lambda i: leaf[i])
    shape[axis] = rows
    return jax.make_array_from_process_local_data(by_row, leaf, tuple(shape))

  return jax.tree.map(put, tree)


class JitParallel:
  """States replicated and batches sharded over a mesh of all devices.

  Attributes:
    axis_name: no mapped axis: the step sees whole batches.
    mesh: the devices, if there are several.
  """

  axis_name: str | None = None

  def __init__(self, batch_size: int, seeds: int = 1):
    """Builds the mesh.

    Args:
      batch_size: rows of a batch.
      seeds: how many seeds are vectorised; see `seeds`.

    Raises:
      UserError: if the batch does not divide among the devices.
    """
    _check(batch_size)
    mesh = device_mesh()
    self.mesh = mesh if mesh.size > 1 else None
    spec = jax.sharding.PartitionSpec
    self.everywhere = jax.sharding.NamedSharding(mesh, spec())
    rows = spec(BATCH_AXIS) if seeds == 1 else spec(None, BATCH_AXIS)
    self.by_row = jax.sharding.NamedSharding(mesh, rows)
    self._batch_size, self._row_axis = batch_size, 0 if seeds == 1 else 1

  def place_state(self, state: Any) -> Any:
    """Puts a copy of every array on every device."""
    return put_everywhere(state, self.everywhere)

  def take_state(self, state: Any) -> Any:
    """The state without any device axis, for evaluation and checkpoints."""
    return state

  def place_batch(self, batch: task_lib.Batch) -> dict[str, jax.Array]:
    """Splits every array of a batch by rows.

    Several processes each give the whole batch, or each its share of the rows.
    """
    return put_rows(dict(batch), self.by_row, self._batch_size, self._row_axis)

  def take_scalars(self, scalars: Any) -> Any:
    """Scalars on the host."""
    return jax.device_get(scalars)

  def compile(self, train_step: Callable, state: Any, batch: Any) -> Any:
    """Compiles a step that updates its state in place."""
    jitted = jax.jit(
      train_step,
      donate_argnums=0,
      out_shardings=(self.everywhere, self.everywhere),
    )
    return jitted.lower(state, batch).compile()


def _first(leaf):
  """The copy of the first device, or of the first that is this process's."""
  if hosts.count() == 1:
    return leaf[0]
  return leaf.addressable_data(0)[0]


class PmapParallel:
  """One copy of the state, and a share of the batch, per device."""

  axis_name: str | None = BATCH_AXIS
  mesh: jax.sharding.Mesh | None = None

  def __init__(self, batch_size: int, seeds: int = 1):
    """See `JitParallel`."""
    _check(batch_size)
    self._devices = jax.devices()
    self._batch_size = batch_size
    self._row_axis = 0 if seeds == 1 else 1
    spec = jax.sharding.PartitionSpec(BATCH_AXIS)
    self._by_device = jax.sharding.NamedSharding(device_mesh(), spec)

  def _replicate(self, leaf):
    return np.broadcast_to(leaf, (len(self._devices), *np.shape(leaf)))

  def place_state(self, state: Any) -> Any:
    """Puts a copy of every array on every device."""
    host = jax.device_get(state)
    return self._put(jax.tree.map(self._replicate, host))

  def _put(self, tree):
    return put_rows(tree, self._by_device, len(self._devices), 0)

  def take_state(self, state: Any) -> Any:
    """The first device's copy."""
    return jax.tree.map(_first, state)

  def place_batch(self, batch: task_lib.Batch) -> dict[str, Any]:
    """Gives every array a first axis of devices."""
    rows = self._batch_size // len(self._devices)

    def split(leaf):
      leaf = np.asarray(leaf)
      axis = self._row_axis
      shape = leaf.shape
      shares = (shape[axis] // rows, rows)
      leaf = leaf.reshape(*shape[:axis], *shares, *shape[axis + 1 :])
      return np.moveaxis(leaf, axis, 0)

    split_batch = {name: split(leaf) for name, leaf in batch.items()}
    return self._put(split_batch)

  def take_scalars(self, scalars: Any) -> Any:
    """The first device's scalars, which equal all others'."""
    return jax.device_get(jax.tree.map(_first, scalars))

  def compile(self, train_step: Callable, state: Any, batch: Any) -> Any:
    """Compiles a step that updates its state in place."""
    mapped = jax.pmap(train_step, axis_name=BATCH_AXIS, donate_argnums=0)
    return mapped.lower(state, batch).compile()


Parallel = JitParallel | PmapParallel
_KINDS = {'jit': JitParallel, 'pmap': PmapParallel}


def make_parallel(kind: str, batch_size: int, seeds: int = 1) -> Parallel:
  """Builds 'jit' or 'pmap'; see `JitParallel` for arguments and errors."""
  return _KINDS[kind](batch_size, seeds)


def peak_bytes(compiled: Any) -> int:
  """Bytes of a compiled program: temporary, arguments, outputs.

  Outputs that reuse a donated argument's memory are counted once.
  """
  memory = compiled.memory_analysis()
  return int(
    memory.temp_size_in_bytes
    + memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
  )
