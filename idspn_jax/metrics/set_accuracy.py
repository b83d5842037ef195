"""Accuracy of predicted numberings (Section 4.1)."""

import jax
import jax.numpy as jnp

from idspn_jax.ops import assignment


def predicted_numbers(scores: jax.Array) -> jax.Array:
  """Picks every element's best-scored number.

  `argmax` alone takes a NaN for the greatest score, so that broken predictions
  could be right by chance.

  Args:
    scores: of every number for every element, `(..., N, K)`.

  Returns:
    Numbers in `[0, K)`, `(..., N)`, int32; -1, which is never right, for
    elements that have a score which is not finite.
  """
  finite = jnp.all(jnp.isfinite(scores), axis=-1)
  numbers = jnp.argmax(scores, axis=-1).astype(jnp.int32)
  return jnp.where(finite, numbers, -1)


def matched_accuracy(
  predicted: jax.Array, target: jax.Array, matching: assignment.Matching
) -> tuple[jax.Array, jax.Array]:
  """Accuracy under a loss's own matching.

  Args:
    predicted: predicted numbers, `(B, N)`, integers; negative ones are wrong,
      see `predicted_numbers`.
    target: true numbers in `[0, N)`, `(B, N)`, integers.
    matching: of predictions to targets.

  Returns:
    The share of right elements and whether all are right, `(B,)` each, float32.
    Both are 0 where the matching is invalid.
  """
  index = jnp.maximum(matching.columns, 0)
  expected = jnp.take_along_axis(target, index, axis=-1)
  right = (predicted == expected) & (predicted >= 0)
  right &= (matching.columns >= 0) & matching.valid[..., None]
  right = right.astype(jnp.float32)
  return jnp.mean(right, axis=-1), jnp.min(right, axis=-1)


def multiset_equal(
  predicted: jax.Array, target: jax.Array, classes: jax.Array, num_classes: int
) -> jax.Array:
  """Whether predicted and true multisets of (class, number) are equal.

  It depends on no matching: both are counted.

  Args:
    predicted: predicted numbers, `(B, N)`, integers; those outside `[0, N)` are
      wrong.
    target: true numbers in `[0, N)`, `(B, N)`, integers.
    classes: class of every element, `(B, N)`, integers.
    num_classes: number of classes K.

  Returns:
    One or zero per set, `(B,)`, float32.
  """
  size = predicted.shape[-1]

  def counts(numbers):
    # Elsewhere, they would be taken for numbers of a neighbouring class.
    inside = (numbers >= 0) & (numbers < size)
    pairs = jnp.where(inside, classes * size + numbers, -1)
    return jnp.sum(jax.nn.one_hot(pairs, num_classes * size), axis=-2)

  same = counts(predicted) == counts(target)
  return jnp.all(same, axis=-1).astype(jnp.float32)
