"""Accuracy of predicted numberings (Section 4.1)."""

import jax
import jax.numpy as jnp

from idspn_jax.ops import assignment


def matched_accuracy(
  predicted: jax.Array, target: jax.Array, matching: assignment.Matching
) -> tuple[jax.Array, jax.Array]:
  """Accuracy under a loss's own matching.

  Args:
    predicted: predicted numbers, `(B, N)`, integers.
    target: true numbers, `(B, N)`, integers.
    matching: of predictions to targets.

  Returns:
    The share of right elements and whether all are right, `(B,)` each.
  """
  index = jnp.maximum(matching.columns, 0)
  expected = jnp.take_along_axis(target, index, axis=-1)
  right = (predicted == expected) & (matching.columns >= 0)
  right = right.astype(jnp.float32)
  return jnp.mean(right, axis=-1), jnp.min(right, axis=-1)


def multiset_equal(
  predicted: jax.Array, target: jax.Array, classes: jax.Array, num_classes: int
) -> jax.Array:
  """Whether predicted and true multisets of (class, number) are equal.

  It depends on no matching: both are counted.

  Args:
    predicted: predicted numbers in `[0, N)`, `(B, N)`, integers.
    target: true numbers in `[0, N)`, `(B, N)`, integers.
    classes: class of every element, `(B, N)`, integers.
    num_classes: number of classes K.

  Returns:
    One or zero per set, `(B,)`, float32.
  """
  size = predicted.shape[-1]

  def counts(numbers):
    pairs = jax.nn.one_hot(classes * size + numbers, num_classes * size)
    return jnp.sum(pairs, axis=-2)

  same = counts(predicted) == counts(target)
  return jnp.all(same, axis=-1).astype(jnp.float32)
