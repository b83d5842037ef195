"""Device-varying types of arrays inside `jax.shard_map`.

`jax.shard_map` (with its default `check_vma=True`) records for every array
over which manual mesh axes its values differ. An array made inside, and one
passed in replicated, vary over none. That matters twice: the initial carry of
a loop must vary over the axes over which its result does, and the derivative
with respect to an array that does not vary is summed over the devices.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar('Tree')


def _varying_axes(leaf):
  return jax.typeof(leaf).manual_axis_type.varying


def vary_like(x: Tree, *references) -> Tree:
  """Makes `x` vary over every manual mesh axis that the references vary over.

  The values stay what they are; only the type changes. The transpose sums the
  cotangents over the axes that were added, so a parameter that is replicated
  over the devices still gets its whole gradient.

  Args:
    x: an array or a pytree of arrays.
    *references: arrays or pytrees of arrays.

  Returns:
    `x`, each leaf varying over its own axes and those of the references; `x`
    itself outside `jax.shard_map`, under `jax.pmap`, and with
    `check_vma=False`.
  """
  axes = frozenset().union(*map(_varying_axes, jax.tree.leaves(references)))
  if not axes:
    return x

  def cast(leaf):
    missing = tuple(sorted(axes - _varying_axes(leaf), key=str))
    if not missing:
      return leaf
    return jax.lax.pcast(jnp.asarray(leaf), missing, to='varying')

  return jax.tree.map(cast, x)


def varies(tree) -> bool:
  """Whether any array of a pytree varies over a manual mesh axis."""
  return any(map(_varying_axes, jax.tree.leaves(tree)))
