"""Pairwise costs between the elements of two sets, `(B, N, M)`."""

import jax
import jax.numpy as jnp

from idspn_jax.ops import precision
from idspn_jax.ops import roots


def _pairs(prediction, target):
  if prediction.shape[:-2] != target.shape[:-2] or (
    prediction.shape[-1] != target.shape[-1]
  ):
    raise ValueError(
      'Costs need sets (..., N, D) and (..., M, D) with equal batch and D; '
      f'got {prediction.shape} and {target.shape}.'
    )
  return (
    precision.at_least_float32(prediction)[..., :, None, :],
    precision.at_least_float32(target)[..., None, :, :],
  )


def smooth_l1(difference: jax.Array, beta: float = 1.0) -> jax.Array:
  """Huber's loss divided by β: `d²/2β` up to |d| = β, `|d| - β/2` beyond."""
  size = jnp.abs(difference)
  return jnp.where(
    size < beta, 0.5 * jnp.square(difference) / beta, size - 0.5 * beta
  )


def smooth_l1_cost(
  prediction: jax.Array, target: jax.Array, beta: float = 1.0
) -> jax.Array:
  """Smooth L1 distance, averaged over features (Sections 4.2 and 4.3).

  Here as in the other costs, half precisions are computed in float32 and the
  result is rounded to them.

  Args:
    prediction: `(..., N, D)`.
    target: `(..., M, D)`.
    beta: where the quadratic part ends.

  Returns:
    Costs, `(..., N, M)`.

  Raises:
    ValueError: if batch or feature sizes differ.
  """
  a, b = _pairs(prediction, target)
  cost = jnp.mean(smooth_l1(a - b, beta), axis=-1)
  return precision.as_inputs(cost, prediction, target)


def squared_cost(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Squared L2 distance, averaged over features; see `smooth_l1_cost`."""
  a, b = _pairs(prediction, target)
  cost = jnp.mean(jnp.square(a - b), axis=-1)
  return precision.as_inputs(cost, prediction, target)


def l2_cost(prediction: jax.Array, target: jax.Array) -> jax.Array:
  """Unsquared L2 distance, the loss of class numbering; see `smooth_l1_cost`.

  The derivatives of every order at distance zero are zero.
  """
  a, b = _pairs(prediction, target)
  cost = roots.safe_sqrt(jnp.sum(jnp.square(a - b), axis=-1))
  return precision.as_inputs(cost, prediction, target)


def cross_entropy_cost(logits: jax.Array, target: jax.Array) -> jax.Array:
  """Cross-entropy between predicted logits and target probabilities.

  Args:
    logits: unnormalised log probabilities, `(..., N, D)`.
    target: probabilities (one-hot rows, for example), `(..., M, D)`.

  Returns:
    Costs, `(..., N, M)`, in nats.

  Raises:
    ValueError: if batch or feature sizes differ.
  """
  a, b = _pairs(logits, target)
  log_p = jax.nn.log_softmax(a[..., 0, :], axis=-1)
  cost = -jnp.einsum('...nd,...md->...nm', log_p, b[..., 0, :, :])
  return precision.as_inputs(cost, logits, target)
