"""Arrays on meshes with explicit axes, whose types say how they are split.

That is the default of `jax.make_mesh`; with automatic axes the compiler
decides and nothing here does anything.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax import custom_batching
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec


def _is_split(x):
  return any(part is not None for part in jax.typeof(x).sharding.spec)


def shard_alike(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Splits two arrays of one shape alike, as `x` or, failing that, as `y` is.

  Args:
    x: any array.
    y: an array of the same shape.

  Returns:
    Both arrays.
  """
  if _is_split(x):
    return x, jax.sharding.reshard(y, jax.typeof(x).sharding)
  if _is_split(y):
    return jax.sharding.reshard(x, jax.typeof(y).sharding), y
  return x, y


def on_mesh_of(weight: jax.Array, reference: jax.Array) -> jax.Array:
  """Puts a weight that is on no mesh on the reference's, not split.

  Without it the derivative of a contraction with a split array is ambiguous.

  Args:
    weight: any array.
    reference: an array, split over explicit axes or not.

  Returns:
    The weight.
  """
  if not _is_split(reference) or not jax.typeof(weight).sharding.mesh.empty:
    return weight
  mesh = jax.typeof(reference).sharding.mesh
  return jax.sharding.reshard(weight, NamedSharding(mesh, PartitionSpec()))


def map_shards(
  function: Callable[..., Any], reference: jax.Array, *args, core_rank: int
) -> Any:
  """Calls `function` on each device's part of a batch of independent problems.

  A function that treats every problem by itself runs on each device alone: no
  loop of it waits for other devices, and its operations need no rule for
  sharded arrays. Axes other than the batch's are gathered first.

  Args:
    function: of `(reference, *args)`; arrays in, arrays out, all with the same
      leading batch axes.
    reference: its sharding is taken, `(*batch, ...)`.
    *args: arrays or pytrees of arrays, `(*batch, ...)` too.
    core_rank: number of axes of `reference` behind the batch axes.

  Returns:
    `function(reference, *args)`.
  """
  if not _is_split(reference):
    return function(reference, *args)
  sharding = jax.typeof(reference).sharding
  parts = PartitionSpec(*sharding.spec[: reference.ndim - core_rank])
  args = jax.sharding.reshard(
    (reference, *args), NamedSharding(sharding.mesh, parts)
  )
  if all(part is None for part in parts):
    return function(*args)
  return jax.shard_map(
    function,
    mesh=sharding.mesh,
    in_specs=parts,
    out_specs=parts,
    axis_names=set(sharding.mesh.explicit_axes),
  )(*args)


def on_shards(
  function: Callable[..., Any], *, core_rank: int
) -> Callable[..., Any]:
  """Makes a function run by `map_shards`, under `jax.vmap` too.

  The axis of a `jax.vmap` becomes the first one of the batch: on meshes with
  explicit axes it may be split, and a host callback has no other rule for it.

  Args:
    function: of `(reference, *args)`, as in `map_shards`, for any number of
      batch axes. It is not differentiated.
    core_rank: as in `map_shards`.

  Returns:
    A function of the same arguments.
  """

  @custom_batching.custom_vmap
  def call(reference, *args):
    return map_shards(function, reference, *args, core_rank=core_rank)

  @call.def_vmap
  def _(axis_size, is_batched, *arguments):
    def batch(array, batched):
      shape = (axis_size, *array.shape)
      return array if batched else jnp.broadcast_to(array, shape)

    return call(*jax.tree.map(batch, arguments, tuple(is_batched))), True

  return call
