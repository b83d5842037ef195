"""Predicted CLEVR objects in scene units, and as in a scene file."""

from typing import Any

import numpy as np

from idspn_jax.data import clevr_features


def to_units(predictions: dict[str, np.ndarray]) -> dict[str, Any]:
  """Adds what the features `sets`, `(S, N, 19)`, say.

  Args:
    predictions: from `Task.predict`.

  Returns:
    `sets`; `coordinates` in scene units, `(S, N, 3)`; `presence`, `(S, N)`;
    `material`, `color`, `shape`, `size`, the index of the likeliest in
    `clevr_features.ATTRIBUTES`; and the other predictions.
  """
  found = clevr_features.decode(predictions['sets'])
  return {
    'sets': predictions['sets'],
    'coordinates': found.coordinates,
    'presence': found.presence,
    **found.classes,
    **{k: v for k, v in predictions.items() if k != 'sets'},
  }


def to_json(predictions: dict[str, np.ndarray]) -> dict[str, Any]:
  """Predicted objects as `scenes` of a scene file.

  Args:
    predictions: from `to_units`.
  """
  scenes = []
  for i, features in enumerate(predictions['sets']):
    scene = {'objects': clevr_features.objects_of(features)}
    for name in ('energy', 'residual'):
      scene[name] = predictions[name][i]
    scenes.append(scene)
  return {'scenes': scenes}
