"""Predicted CLEVR objects in scene units, and as in a scene file."""

from typing import Any

import numpy as np

from idspn_jax.data import clevr_features

_PER_SCENE = ('energy', 'residual', 'start_energies', 'energy_spread')


def to_units(predictions: dict[str, np.ndarray]) -> dict[str, Any]:
  """Adds what the features `sets`, `(S, N, 19)`, say.

  Args:
    predictions: from `Task.predict`.

  Returns:
    `sets`; `coordinates` in scene units, `(S, N, 3)`; `presence`, `(S, N)`;
    `material`, `color`, `shape`, `size`, the index of the likeliest in
    `clevr_features.ATTRIBUTES`; the other predictions; and with
    `start_energies`, `(S, K)`, their standard deviation `energy_spread`,
    `(S,)`. The smaller it is, the more all starts agree, which is a measure of
    confidence; it is no probability.
  """
  found = clevr_features.decode(predictions['sets'])
  out = {
    'sets': predictions['sets'],
    'coordinates': found.coordinates,
    'presence': found.presence,
    **found.classes,
    **{k: v for k, v in predictions.items() if k != 'sets'},
  }
  if 'start_energies' in predictions:
    with np.errstate(invalid='ignore', over='ignore'):
      spread = np.std(predictions['start_energies'], axis=-1)
    out['energy_spread'] = spread
  return out


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
