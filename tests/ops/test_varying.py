"""Types of arrays inside shard_map; four devices are in `test_on_meshes`."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np

from idspn_jax.ops import varying


def test_outside_shard_map_nothing_changes():
  x = {'a': jnp.ones(3), 'b': 1}
  assert varying.vary_like(x, jnp.zeros(2)) is x
  assert varying.vary_like(x) is x


def test_inside_shard_map_x_varies_as_the_references_do():
  mesh = jax.sharding.Mesh(
    np.array(jax.devices()[:1]).reshape(1, 1), ('a', 'b')
  )
  axes = {}

  def record(name, *arrays):
    axes[name] = [jax.typeof(x).manual_axis_type.varying for x in arrays]

  def run(x, y, shared):
    made = jnp.zeros(2, jnp.int8)
    record('one', *varying.vary_like([made, shared, y], x))
    record('both', *varying.vary_like((1.0, x), {'x': x, 'y': y}))
    record('none', varying.vary_like(made, shared))
    return x

  x = jnp.ones(2)
  jax.shard_map(
    run, mesh=mesh, in_specs=(P('a'), P('b'), P()), out_specs=P('a')
  )(x, x, x)
  assert axes == {
    'one': [{'a'}, {'a'}, {'a', 'b'}],
    'both': [{'a', 'b'}, {'a', 'b'}],
    'none': [set()],
  }
