"""The form of an inner step, and how to write one for a single set."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from idspn_jax.ops import varying
from idspn_jax.solvers import energy as energy_lib

Projection = Callable[[jax.Array], jax.Array]


class Step(NamedTuple):
  """The inner optimisation as two pure functions.

  Attributes:
    init: `(inputs, y) -> state`.
    update: `(inputs, y, state) -> (y, state)`.
  """

  init: Callable[[energy_lib.Inputs, jax.Array], Any]
  update: Callable[[energy_lib.Inputs, jax.Array, Any], tuple[jax.Array, Any]]


def placed_like(tree: Any, y: jax.Array) -> Any:
  """Arrays that are made on the way, distributed over devices as the sets are.

  Inside `jax.shard_map` they vary over the mesh axes that the sets vary over;
  on a mesh with explicit axes their batch axis is split as that of the sets.
  Elsewhere they stay what they are.

  Args:
    tree: arrays; those with `B` rows are split.
    y: sets, `(B, N, D)`, or any array with `B` rows.

  Returns:
    The same values.
  """
  sharding = jax.typeof(y).sharding
  axis = sharding.spec[0]

  def split(leaf):
    if jnp.ndim(leaf) == 0 or leaf.shape[0] != y.shape[0]:
      return leaf
    spec = (axis, *jax.typeof(leaf).sharding.spec[1:])
    spec = jax.sharding.PartitionSpec(*spec)
    return jax.sharding.reshard(leaf, jax.NamedSharding(sharding.mesh, spec))

  if axis is not None:
    tree = jax.tree.map(split, tree)
  return varying.vary_like(tree, y)


def _per_set_axes(inputs):
  """`vmap` axes of the inputs: all but the parameters have one row per set."""
  return energy_lib.Inputs(
    None, *(None if a is None else 0 for a in inputs[1:])
  )


def one_set(energy: energy_lib.Energy) -> Callable:
  """Turns an energy of a batch into the energy of one set, a scalar."""

  def single(y, inputs):
    rows = jax.tree.map(lambda a: a[None], tuple(inputs[1:]))
    return energy(energy_lib.Inputs(inputs.params, *rows), y[None])[0]

  return single


def over_sets(fn: Callable, inputs: energy_lib.Inputs) -> Callable:
  """Maps `fn(inputs, y, state)` for one set over a batch of sets.

  On a mesh with explicit axes every device maps over its own sets.
  """
  mapped = jax.vmap(fn, in_axes=(_per_set_axes(inputs), 0, 0))
  sharding = jax.typeof(inputs.initial_set).sharding
  if sharding.spec[0] is None:
    return mapped
  split = jax.sharding.PartitionSpec(sharding.spec[0])
  whole = jax.sharding.PartitionSpec()
  specs = [whole, *(None if a is None else split for a in inputs[1:])]
  return jax.shard_map(
    mapped,
    mesh=sharding.mesh,
    in_specs=(energy_lib.Inputs(*specs), split, split),
    out_specs=split,
    axis_names=set(sharding.mesh.explicit_axes),
    check_vma=False,  # The loops of others make their arrays as on one device.
  )
