"""Prints how far four devices are from one; run by `test_on_meshes`.

A process of its own, because the number of devices is fixed when JAX starts.
Prints one JSON object, `{mesh: {operation: largest error}}`.
"""

import json
import os
import sys

os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=4'
os.environ['JAX_PLATFORMS'] = 'cpu'

import jax  # noqa: E402  After the environment is set.
import jax.numpy as jnp  # noqa: E402
from jax.sharding import NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402
import numpy as np  # noqa: E402

from idspn_jax.losses import class_matching  # noqa: E402
from idspn_jax.losses import set_losses  # noqa: E402
from idspn_jax.ops import assignment  # noqa: E402
from idspn_jax.ops import clip  # noqa: E402
from idspn_jax.ops import fspool  # noqa: E402
from idspn_jax.ops import permute  # noqa: E402
from idspn_jax.ops import pooling  # noqa: E402
from idspn_jax.ops import simplex  # noqa: E402

BATCH = 8
METHODS = ('auto', 'scipy', 'optax', *sys.argv[1:])


def data():
  """What is split over the devices, and the weights that all of them hold."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)

  split = {
    'a': normal(BATCH, 5, 3),
    'b': normal(BATCH, 5, 3),
    'middle': normal(BATCH, 70, 2),
    'large': normal(BATCH, 260, 2),
    'mask': rng.random((BATCH, 5)) < 0.7,
    'large_mask': rng.random((BATCH, 260)) < 0.7,
    'classes': rng.integers(0, 3, (BATCH, 5)).astype(np.int32),
  }
  split['mask'][:, 0] = True
  shared = {
    'w': normal(5, 3),
    'w_middle': normal(70, 2),
    'w_large': normal(260, 2),
    'pieces': normal(4, 2),
    'scale': normal(3),
  }
  return split, shared


def _scaled(split, shared):
  return split['a'] * shared['scale'][None, None]


def _table(permutation):
  def run(split, shared):
    table = jnp.broadcast_to(shared['w'][None], split['a'].shape)
    ranks = permute.ascending_ranks(split['a'])
    return permutation(ranks, table) * split['a']

  return run


def _hungarian(method):
  return lambda split, shared: set_losses.hungarian_loss(
    _scaled(split, shared), split['b'], method=method
  )


def _of_each(loss, **options):
  """A loss through `jax.vmap` over the axis that is split."""

  def run(split, shared):
    return jax.vmap(lambda a, b: loss(a[None], b[None], **options)[0])(
      _scaled(split, shared), split['b']
    )

  return run


# Of what is split and what is shared; the results have one row per set.
OPERATIONS = {
  'fspool': lambda s, p: fspool.fspool(s['a'], p['w']),
  'fspool of middle sets': lambda s, p: fspool.fspool(
    s['middle'], p['w_middle']
  ),
  'fspool of large sets': lambda s, p: fspool.fspool(s['large'], p['w_large']),
  'fspool of any size': lambda s, p: fspool.fspool_any_size(
    s['large'], p['pieces'], s['large_mask']
  ),
  'sort': _table(permute.sort_by_ranks),
  'unsort': _table(permute.unsort_by_ranks),
  'mean': lambda s, p: pooling.mean_pool(_scaled(s, p), s['mask']),
  'max': lambda s, p: pooling.max_pool(_scaled(s, p), s['mask']),
  'clip': lambda s, p: clip.clip_per_set(_scaled(s, p), 0.5),
  'norm': lambda s, p: clip.set_norm(_scaled(s, p)),
  'simplex': lambda s, p: simplex.project_simplex(_scaled(s, p)),
  'simplex straight through': lambda s, p: (
    simplex.project_simplex_straight_through(_scaled(s, p))
  ),
  'chamfer': lambda s, p: set_losses.chamfer_loss(
    _scaled(s, p), s['b'], prediction_mask=s['mask']
  ),
  'sinkhorn': lambda s, p: set_losses.sinkhorn_loss(
    _scaled(s, p), s['b'], prediction_mask=s['mask'], max_iterations=50
  ),
  'vmap of chamfer': _of_each(set_losses.chamfer_loss),
  'vmap of sinkhorn': _of_each(set_losses.sinkhorn_loss, max_iterations=50),
  'class matched': lambda s, p: class_matching.class_matched_loss(
    _scaled(s, p), s['b'], s['classes']
  )[0],
  'masked hungarian': lambda s, p: set_losses.hungarian_loss(
    _scaled(s, p), s['b'][:, :4], prediction_mask=s['mask']
  ),
}
for _method in METHODS:
  OPERATIONS |= {
    f'hungarian by {_method}': _hungarian(_method),
    f'vmap of hungarian by {_method}': _of_each(
      set_losses.hungarian_loss, method=_method
    ),
  }


def with_gradient(operation):
  """Results, and the gradient of their sum of squares."""

  def run(split, shared):
    floats = {name: split[name] for name in ('a', 'middle', 'large')}
    out, pull = jax.vjp(
      lambda floats, shared: operation(split | floats, shared), floats, shared
    )
    return out, pull(2.0 * out)

  return run


def error(value, reference):
  """The largest difference, relative to the largest value."""
  leaves = zip(jax.tree.leaves(value), jax.tree.leaves(reference), strict=True)
  return max(
    float(np.max(np.abs(np.asarray(x) - np.asarray(y))))
    / max(float(np.max(np.abs(np.asarray(y)))), 1.0)
    for x, y in leaves
  )


def main():
  split, shared = data()
  plain = jax.sharding.Mesh(np.array(jax.devices()), ('data',))
  explicit = jax.make_mesh((4,), ('data',))

  def mapped(operation, out_specs=P('data')):  # noqa: B008
    return jax.shard_map(
      operation, mesh=plain, in_specs=(P('data'), P()), out_specs=out_specs
    )

  def put(mesh):
    return (
      jax.device_put(split, NamedSharding(mesh, P('data'))),
      jax.device_put(shared, NamedSharding(mesh, P())),
    )

  def run(wrap, mesh):
    functions = {
      name: with_gradient(wrap(operation))
      for name, operation in OPERATIONS.items()
    }
    args = (split, shared) if mesh is None else put(mesh)
    return jax.jit(
      lambda *args: {name: f(*args) for name, f in functions.items()}
    )(*args)

  reference = run(lambda operation: operation, None)

  def errors(computed):
    return {name: error(computed[name], reference[name]) for name in computed}

  results = {
    'auto axes': errors(run(lambda operation: operation, plain)),
    'explicit axes': errors(run(lambda operation: operation, explicit)),
    'shard_map': errors(run(mapped, plain)),
  }
  # The derivative taken inside: with respect to weights that all devices
  # share it is summed over them.
  inside = jax.jit(
    mapped(
      with_gradient(OPERATIONS['fspool']),
      out_specs=(P('data'), (P('data'), P())),
    )
  )(*put(plain))
  results['shard_map'] |= {
    'derivative inside': error(inside, reference['fspool'])
  }
  cost = np.abs(split['a'] - split['b'].transpose(0, 2, 1)[:, :, :3].sum())
  sharded = jax.device_put(cost, NamedSharding(plain, P('data')))
  matching = assignment.match(sharded, method='scipy')
  results['eager'] = {
    'match': error(matching.columns, assignment.match(cost).columns)
  }
  print(json.dumps(results))


if __name__ == '__main__':
  main()
