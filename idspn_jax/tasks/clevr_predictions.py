"""Predicted CLEVR objects in scene units, and as in a scene file."""

from typing import Any

import numpy as np

from idspn_jax.data import clevr_features
from idspn_jax.tasks import images


def to_units(predictions: dict[str, np.ndarray]) -> dict[str, Any]:
  """Adds what the features `sets`, `(S, N, 19)`, say.

  Args:
    predictions: from `Task.predict`.

  Returns:
    `sets`; `coordinates` in scene units, `(S, N, 3)`; `presence`, `(S, N)`;
    `material`, `color`, `shape`, `size`, the index of the likeliest in
    `clevr_features.ATTRIBUTES`; the other predictions; and what
    `images.with_confidence` adds.
  """
  found = clevr_features.decode(predictions['sets'])
  others = images.with_confidence(predictions, clevr_features.LAYOUT)
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
    `scenes`, each with its `image_filename` if it is known, its `objects` with
    their `margin`, and what there is of `images.CONFIDENCES`.
  """
  scenes = []
  for i, features in enumerate(predictions['sets']):
    scene = {}
    if 'names' in predictions:
      scene['image_filename'] = str(predictions['names'][i])
    objects = clevr_features.objects_of(features)
    margins = predictions['margins'][i][clevr_features.mask_of(features)]
    scene['objects'] = [
      {**thing, 'margin': float(margin)}
      for thing, margin in zip(objects, margins, strict=True)
    ]
    for name in images.CONFIDENCES:
      if name in predictions:
        scene[name] = predictions[name][i]
    scenes.append(scene)
  return {'scenes': scenes}
