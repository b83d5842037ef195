"""Euclidean projection onto the probability simplex."""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp

from idspn_jax.ops import precision
from idspn_jax.ops import varying


def _threshold(x, radius):
  """The τ with Σ max(x - τ, 0) = radius over the last axis, kept as size 1.

  Newton's method on that piecewise-linear equation: starting left of the root
  it climbs monotonically and stops at the exact root after at most N steps,
  without sorting.
  """
  n = x.shape[-1]

  def update(tau):
    active = x > tau
    count = jnp.maximum(jnp.sum(active, -1, keepdims=True), 1)
    total = jnp.sum(jnp.where(active, x, 0.0), -1, keepdims=True)
    return (total - radius) / count.astype(x.dtype)

  def more(carry):
    step, tau, previous = carry
    return (step <= n) & jnp.any(tau > previous)

  def climb(carry):
    step, tau, _ = carry
    return step + 1, jnp.maximum(update(tau), tau), tau

  first = (jnp.sum(x, -1, keepdims=True) - radius) / n
  start = varying.vary_like((0, first, jnp.full_like(first, -jnp.inf)), x)
  return jax.lax.while_loop(more, climb, start)[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _project_last(x, radius):
  # Subtracting the maximum first keeps the sums exact for large inputs.
  x = x - jnp.max(x, -1, keepdims=True)
  return jnp.maximum(x - _threshold(x, radius), 0.0)


@_project_last.defjvp
def _project_last_jvp(radius, primals, tangents):
  (x,), (dx,) = primals, tangents
  y = _project_last(x, radius)
  support = (y > 0).astype(dx.dtype)
  count = jnp.maximum(jnp.sum(support, -1, keepdims=True), 1.0)
  mean = jnp.sum(support * dx, -1, keepdims=True) / count
  return y, support * (dx - mean)


def project_simplex(
  x: jax.Array, axis: int = -1, radius: float = 1.0
) -> jax.Array:
  """Projects onto `{y ≥ 0, Σ y = radius}` along one axis (Equation 10).

  The derivative is the projection's exact Jacobian `diag(s) - s sᵀ / |s|`, `s`
  the support of the result.

  Args:
    x: any array of rank one or more.
    axis: the axis that sums to `radius` afterwards.
    radius: the sum, positive.

  Returns:
    The closest points, same shape. NaN along the axis gives NaN.

  Raises:
    ValueError: if `radius` is not positive, or the axis does not exist or is
      empty.
  """
  if not radius > 0:
    raise ValueError(f'The simplex needs a positive radius; got {radius}.')
  if not -x.ndim <= axis < x.ndim:
    raise ValueError(f'axis {axis} does not exist in an array {x.shape}.')
  if x.shape[axis] == 0:
    raise ValueError(
      f'The simplex needs at least one number along axis {axis}; got an array '
      f'{x.shape}.'
    )
  moved = jnp.moveaxis(precision.at_least_float32(x), axis, -1)
  projected = jnp.moveaxis(_project_last(moved, float(radius)), -1, axis)
  return precision.as_inputs(projected, x)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _straight_through(x, axis, radius):
  return project_simplex(x, axis, radius)


@_straight_through.defjvp
def _straight_through_jvp(axis, radius, primals, tangents):
  (x,), (dx,) = primals, tangents
  wide = precision.at_least_float32(dx)
  centred = wide - jnp.mean(wide, axis, keepdims=True)
  return _straight_through(x, axis, radius), precision.as_inputs(centred, dx)


def project_simplex_straight_through(
  x: jax.Array, axis: int = -1, radius: float = 1.0
) -> jax.Array:
  """`project_simplex` with a derivative that does not vanish at vertices.

  Where an element of the minimiser is a vertex, the exact Jacobian is zero: if
  it is the wrong vertex, no gradient says so to the encoder. Here the
  derivative is that of the projection onto the plane `Σ y = radius`,
  `I - 1 1ᵀ / D`. It leaves out the constraints `y ≥ 0`, as straight-through
  estimators leave out what saturates. It is biased on purpose, and meant for
  `JacobianFree`; modes that solve for the exact gradient need
  `project_simplex`.

  Args:
    x: any array of rank one or more.
    axis: the axis that sums to `radius` afterwards.
    radius: the sum, positive.

  Returns:
    The value of `project_simplex`.

  Raises:
    ValueError: as `project_simplex`.
  """
  return _straight_through(x, axis, radius)


def project_simplex_groups(
  x: jax.Array, groups: Sequence[tuple[int, int]]
) -> jax.Array:
  """Projects groups of neighbouring features onto a simplex each.

  Args:
    x: sets, `(..., D)`.
    groups: `(start, stop)` column ranges that do not overlap; columns outside
      every range stay as they are.

  Returns:
    Array of the same shape.

  Raises:
    ValueError: if a range is empty, leaves `[0, D]` or overlaps another.
  """
  end = 0
  parts = []
  for start, stop in sorted(groups):
    if not end <= start < stop <= x.shape[-1]:
      raise ValueError(
        f'Feature groups need disjoint ranges within [0, {x.shape[-1]}]; got '
        f'{tuple(groups)}.'
      )
    parts += [x[..., end:start], project_simplex(x[..., start:stop])]
    end = stop
  parts.append(x[..., end:])
  return jnp.concatenate(parts, axis=-1)
