"""How far computed arrays are from recorded ones."""

from typing import Any

import numpy as np


def relative_error(ours: Any, reference: Any) -> float:
  """`max|a - b| / max|b|`; the absolute error where the reference is zero."""
  a, b = np.asarray(ours, np.float64), np.asarray(reference, np.float64)
  if a.shape != b.shape:
    return float('inf')
  difference = np.max(np.abs(a - b), initial=0.0)
  if not np.isfinite(difference):
    return float('inf')
  return float(difference / (np.max(np.abs(b), initial=0.0) or 1.0))
