"""Distances between predicted and true elements of a set, for detection."""

import numpy as np

from idspn_jax.data import set_layout


def checked(
  prediction: np.ndarray, target: np.ndarray, layout: set_layout.Layout
) -> tuple[np.ndarray, np.ndarray]:
  """Both as float64.

  Args:
    prediction: `(B, P, D)`.
    target: `(B, M, D)`.
    layout: of the features.

  Raises:
    ValueError: if they are not of these shapes.
  """
  prediction = np.asarray(prediction, np.float64)
  target = np.asarray(target, np.float64)
  for name, sets in (('predictions', prediction), ('targets', target)):
    if sets.ndim != 3 or sets.shape[-1] != layout.num_features:
      raise ValueError(
        f'The {name} need shape (B, N, {layout.num_features}); got '
        f'{sets.shape}.'
      )
  if len(prediction) != len(target):
    raise ValueError(
      f'{len(prediction)} images of predictions do not belong to '
      f'{len(target)} images of targets.'
    )
  return prediction, target


def distances(
  prediction: np.ndarray, target: np.ndarray, layout: set_layout.Layout
) -> np.ndarray:
  """From every prediction to every element that it may stand for.

  Args:
    prediction: `(B, P, D)`, float64.
    target: `(B, M, D)`, float64.
    layout: of the features.

  Returns:
    `(B, P, M)`; infinite where classes differ, where there is no element or
    where the prediction has a continuous feature or class score that is not
    finite; 0 elsewhere if there are no continuous features.
  """
  guess, truth = layout.decode(prediction), layout.decode(target)
  possible = layout.mask_of(target)[:, None, :]
  for name in layout.columns:
    guessed, true = guess.classes[name], truth.classes[name]
    same = guessed[:, :, None] == true[:, None, :]
    possible = possible & same & (guessed >= 0)[:, :, None]
  with np.errstate(invalid='ignore', over='ignore'):
    offset = guess.values[:, :, None] - truth.values[:, None]
    distance = np.sqrt(np.sum(np.square(offset), axis=-1))
    distance = layout.distance_scale * distance
  return np.where(possible & np.isfinite(distance), distance, np.inf)


def repeats(target: np.ndarray, layout: set_layout.Layout) -> np.ndarray:
  """How many elements of its set equal each element, itself included.

  Args:
    target: `(B, M, D)`, float64.
    layout: of the features.

  Returns:
    `(B, M)`, int64; 1 throughout if the layout counts no repeats.
  """
  if not layout.counts_repeats:
    return np.ones(target.shape[:2], np.int64)
  return np.sum(distances(target, target, layout) == 0, axis=-1)
