"""Work on each device's own sets, on meshes with explicit axes."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec


def map_shards(
  function: Callable[..., Any], reference: jax.Array, *args, core_rank: int
) -> Any:
  """Calls `function` on each device's part of a batch of independent problems.

  On a mesh with explicit axes (the default of `jax.make_mesh`) the types say
  how the batch is split, so a function that treats every problem by itself
  runs on each device alone: no loop of it waits for other devices, and its
  operations need no rule for sharded arrays. Axes other than the batch's are
  gathered first. Without explicit axes this is a plain call.

  Args:
    function: of `(reference, *args)`; arrays in, arrays out, all with the same
      leading batch axes.
    reference: its sharding is taken, `(*batch, ...)`.
    *args: arrays or pytrees of arrays, `(*batch, ...)` too.
    core_rank: number of axes of `reference` behind the batch axes.

  Returns:
    `function(reference, *args)`.
  """
  batch = reference.ndim - core_rank
  sharding = jax.typeof(reference).sharding
  spec = tuple(sharding.spec)
  if all(part is None for part in spec):
    return function(reference, *args)
  parts = PartitionSpec(*spec[:batch])
  args = jax.sharding.reshard(
    (reference, *args), jax.NamedSharding(sharding.mesh, parts)
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
