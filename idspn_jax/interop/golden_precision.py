"""Golden average precisions: both definitions recomputed and compared.

A file is an `.npz` with `prediction` and `target`, `(images, N, 19)`,
`thresholds`, `(K,)`, and what other code made of them: `dataset_ap`, `(K,)`,
and `per_image_ap`, `(images, K)`; one of these two may be missing.
"""

from collections.abc import Mapping

import numpy as np

from idspn_jax import errors
from idspn_jax.interop import comparison
from idspn_jax.metrics import average_precision

_INPUTS = ('prediction', 'target', 'thresholds')
# Files with one of them are of this format.
ARRAYS = frozenset({'dataset_ap', 'per_image_ap'})


def compare(
  path: str, arrays: Mapping[str, np.ndarray]
) -> tuple[dict[str, float], list[str]]:
  """Recomputes average precisions and compares.

  Args:
    path: the file, for errors.
    arrays: its content.

  Returns:
    Relative errors of `dataset_ap` and `per_image_ap`, and remarks on the file.
    Images without objects, for which per-image average precision is undefined,
    are left out of `per_image_ap`.

  Raises:
    UserError: if the file is not of the format.
  """
  missing = [name for name in _INPUTS if name not in arrays]
  if missing:
    raise errors.UserError(
      f'{path} holds average precisions but lacks {", ".join(missing)}.'
    )
  try:
    detections = average_precision.detect(*(arrays[k] for k in _INPUTS))
  except (TypeError, ValueError) as e:
    raise errors.UserError(f'{path}: {e}') from e
  found, remarks = {}, []
  if 'dataset_ap' in arrays:
    ours = average_precision.dataset_average_precision(detections)
    found['dataset_ap'] = comparison.relative_error(ours, arrays['dataset_ap'])
  if 'per_image_ap' in arrays:
    ours = average_precision.image_average_precision(detections)
    theirs = np.asarray(arrays['per_image_ap'], np.float64)
    some = detections.objects > 0
    if ours.shape == theirs.shape and not np.all(some):
      remarks.append(
        f'{np.sum(~some)} images without objects are left out of per_image_ap'
      )
      ours, theirs = ours[some], theirs[some]
    found['per_image_ap'] = comparison.relative_error(ours, theirs)
  return found, remarks
