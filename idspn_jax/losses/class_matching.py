"""Hungarian loss in which only elements of one class meet (Section 4.1)."""

import jax

from idspn_jax.losses import set_losses
from idspn_jax.ops import assignment
from idspn_jax.ops import cost_matrix
from idspn_jax.ops import precision

COSTS = {
  'l2': cost_matrix.l2_cost,
  'cross_entropy': cost_matrix.cross_entropy_cost,
}


def class_matched_loss(
  prediction: jax.Array,
  target: jax.Array,
  classes: jax.Array,
  cost: str = 'l2',
  method: str = 'auto',
) -> tuple[jax.Array, assignment.Matching]:
  """Matches predictions and targets within each class.

  Prediction i and target i both belong to `classes[i]`.

  Args:
    prediction: `(B, N, D)`; logits for 'cross_entropy'.
    target: one-hot rows, `(B, N, D)`.
    classes: class of every element, `(B, N)`, any integers.
    cost: 'l2' (unsquared distance, for iDSPN and DSPN) or 'cross_entropy' (for
      the baselines).
    method: see `assignment.match`.

  Returns:
    Losses averaged over elements, `(B,)`, and the matching.

  Raises:
    ValueError: if the cost is unknown or shapes do not fit.
  """
  if cost not in COSTS:
    raise ValueError(f'cost is {cost!r}; choose one of {tuple(COSTS)}.')
  costs = COSTS[cost](
    precision.at_least_float32(prediction), precision.at_least_float32(target)
  )
  matching = assignment.match(
    costs, method=method, row_groups=classes, column_groups=classes
  )
  loss = set_losses.matched_loss(costs, matching)
  return precision.as_inputs(loss, prediction, target), matching
