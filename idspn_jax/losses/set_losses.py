"""Losses between predicted and target sets, one number per set."""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from idspn_jax.losses import transport
from idspn_jax.ops import assignment
from idspn_jax.ops import cost_matrix
from idspn_jax.ops import precision
from idspn_jax.ops import shards

PairwiseCost = Callable[[jax.Array, jax.Array], jax.Array]


def _existing(sets, mask):
  """Zeros in place of missing elements, and the mask; all exist if None.

  Selecting before the cost is computed keeps whatever padding holds, NaN
  included, out of the gradients too. Half precisions become float32.
  """
  sets = precision.at_least_float32(sets)
  if mask is None:
    return sets, jnp.ones(sets.shape[:-1], bool)
  if mask.shape != sets.shape[:-1]:
    raise ValueError(
      f'The mask needs shape {sets.shape[:-1]} (one entry per element); got '
      f'{mask.shape}.'
    )
  mask = mask.astype(bool)
  return jnp.where(mask[..., None], sets, jnp.zeros_like(sets)), mask


def matched_loss(cost: jax.Array, matching: assignment.Matching) -> jax.Array:
  """Averages each set's matched costs over its matched elements.

  Args:
    cost: `(..., N, M)`.
    matching: from `assignment.match`.

  Returns:
    Losses, `(...,)`; zero where nothing is matched, NaN where a cost was not
    finite.
  """
  matched = assignment.gather_costs(precision.at_least_float32(cost), matching)
  count = jnp.sum(matching.columns >= 0, axis=-1)
  loss = jnp.sum(matched, -1) / jnp.maximum(count, 1).astype(matched.dtype)
  return precision.as_inputs(loss, cost)


def hungarian_loss(
  prediction: jax.Array,
  target: jax.Array,
  *,
  cost: PairwiseCost = cost_matrix.smooth_l1_cost,
  prediction_mask: jax.Array | None = None,
  target_mask: jax.Array | None = None,
  method: str = 'auto',
) -> jax.Array:
  """Cost of the best matching, averaged over elements (Appendix F, Eq. 44).

  Args:
    prediction: `(..., N, D)`.
    target: `(..., M, D)`.
    cost: pairwise cost, `(..., N, M)`.
    prediction_mask: true for predictions that exist, `(..., N)`.
    target_mask: true for targets that exist, `(..., M)`.
    method: see `assignment.match`.

  Returns:
    Losses, `(...,)`; NaN for a set with a NaN or infinite cost.

  Raises:
    ValueError: if shapes or masks do not fit.
  """
  rows, _ = _existing(prediction, prediction_mask)
  columns, _ = _existing(target, target_mask)
  costs = cost(rows, columns)
  matching = assignment.match(costs, prediction_mask, target_mask, method)
  loss = matched_loss(costs, matching)
  return precision.as_inputs(loss, prediction, target)


def chamfer_loss(
  prediction: jax.Array,
  target: jax.Array,
  *,
  cost: PairwiseCost = cost_matrix.smooth_l1_cost,
  prediction_mask: jax.Array | None = None,
  target_mask: jax.Array | None = None,
) -> jax.Array:
  """Cost of every element's nearest neighbour in the other set.

  `mean_i min_j c(i, j) + mean_j min_i c(i, j)` over the elements that exist.

  Args:
    prediction: `(..., N, D)`.
    target: `(..., M, D)`.
    cost: pairwise cost, `(..., N, M)`.
    prediction_mask: true for predictions that exist, `(..., N)`.
    target_mask: true for targets that exist, `(..., M)`.

  Returns:
    Losses, `(...,)`; zero if either set is empty.

  Raises:
    ValueError: if shapes or masks do not fit.
  """
  dtypes = prediction, target
  prediction, rows = _existing(prediction, prediction_mask)
  target, columns = _existing(target, target_mask)
  costs = cost(prediction, target)
  if 0 in costs.shape[-2:]:
    loss = jnp.zeros(costs.shape[:-2], costs.dtype)
    return precision.as_inputs(loss, *dtypes)
  both = rows[..., :, None] & columns[..., None, :]
  costs = jnp.where(both, costs, jnp.inf)

  def mean_of_nearest(axis, mask):
    nearest = jnp.min(costs, axis=axis)
    nearest = jnp.where(jnp.any(both, axis=axis), nearest, 0.0)
    count = jnp.maximum(jnp.sum(mask, -1), 1).astype(costs.dtype)
    return jnp.sum(nearest, -1) / count

  loss = mean_of_nearest(-1, rows) + mean_of_nearest(-2, columns)
  return precision.as_inputs(loss, *dtypes)


def sinkhorn_loss(
  prediction: jax.Array,
  target: jax.Array,
  *,
  epsilon: float = 0.01,
  prediction_mask: jax.Array | None = None,
  target_mask: jax.Array | None = None,
  max_iterations: int = 2000,
) -> jax.Array:
  """Entropy-regularised transport with smooth-L1 costs, by ott-jax.

  Every existing element carries equal mass, so with `epsilon → 0` and sets of
  one size this tends to `hungarian_loss`.

  Args:
    prediction: `(B, N, D)`.
    target: `(B, M, D)`.
    epsilon: strength of the entropy term, in units of the cost.
    prediction_mask: true for predictions that exist, `(B, N)`.
    target_mask: true for targets that exist, `(B, M)`.
    max_iterations: most Sinkhorn iterations.

  Returns:
    Transport costs `⟨P, C⟩` without the entropy term, `(B,)`; NaN where a cost
    is not finite.

  Raises:
    ValueError: if shapes or masks do not fit.
  """
  dtypes = prediction, target
  prediction, rows = _existing(prediction, prediction_mask)
  target, columns = _existing(target, target_mask)
  costs = cost_matrix.smooth_l1_cost(prediction, target)
  if costs.ndim != 3:
    raise ValueError(
      'The Sinkhorn loss needs sets (B, N, D) and (B, M, D); got '
      f'{prediction.shape} and {target.shape}.'
    )

  def mass(mask):
    mask = mask.astype(costs.dtype)
    return mask / jnp.maximum(jnp.sum(mask, -1, keepdims=True), 1.0)

  both = rows[..., :, None] & columns[..., None, :]
  finite = jnp.all(jnp.isfinite(costs) | ~both, axis=(-2, -1))
  costs = jnp.where(both & finite[:, None, None], costs, 0.0)
  plans = _plans(
    jax.lax.stop_gradient(costs),
    mass(rows),
    mass(columns),
    epsilon=epsilon,
    max_iterations=max_iterations,
  )
  losses = jnp.sum(plans * costs, axis=(-2, -1))
  losses = jnp.where(finite, losses, jnp.nan)
  return precision.as_inputs(losses, *dtypes)


@functools.partial(jax.jit, static_argnames=('epsilon', 'max_iterations'))
def _plans(costs, row_mass, column_mass, **options):
  def solve(costs, *masses):
    of_batch = functools.partial(transport.transport_plans, **options)
    for _ in costs.shape[:-3]:
      of_batch = jax.vmap(of_batch)
    return of_batch(costs, *masses)

  return shards.on_shards(solve, core_rank=2)(costs, row_mass, column_mass)
