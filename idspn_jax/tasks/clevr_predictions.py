"""Predicted CLEVR objects in scene units, and as in a scene file."""

from typing import Any

import numpy as np

from idspn_jax.data import clevr_features
from idspn_jax.tasks import images

_PER_SCENE = ('energy', 'residual', 'start_energies', 'energy_spread')


def to_units(predictions: dict[str, np.ndarray]) -> dict[str, Any]:
  """Adds what the features `sets`, `(S, N, 19)`, say.

  Args:
    predictions: from `Task.predict`.

  Returns:
    `sets`; `coordinates` in scene units, `(S, N, 3)`; `presence`, `(S, N)`;
    `material`, `color`, `shape`, `size`, the index of the likeliest in
    `clevr_features.ATTRIBUTES`; the other predictions; and what
    `images.with_spread` adds.
  """
  found = clevr_features.decode(predictions['sets'])
  others = images.with_spread(predictions)
  return {
    'sets': predictions['sets'],
    'coordinates': found.coordinates,
    'presence': found.presence,
    **found.classes,
    **{k: v for k, v in others.items() if k != 'sets'},
  }


def to_json(predictions: dict[str, np.ndarray]) -> dict[str, Any]:
  """Predicted objects as `scenes` of a scene file.

  Args:
    predictions: from `to_units`; with `names`, those of the pictures.

  Returns:
    `scenes`, each with its `image_filename` if it is known, its `objects`, and
    what there is of `energy`, `residual`, `start_energies`, `energy_spread`.
  """
  scenes = []
  for i, features in enumerate(predictions['sets']):
    scene = {}
    if 'names' in predictions:
      scene['image_filename'] = str(predictions['names'][i])
    scene['objects'] = clevr_features.objects_of(features)
    for name in _PER_SCENE:
      if name in predictions:
        scene[name] = predictions[name][i]
    scenes.append(scene)
  return {'scenes': scenes}
