"""Which columns of a set hold what: numbers, categories, presence.

An element is a row: its continuous features, the one-hot classes of every
category, then presence. Rows without an element are zero.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import reprlib
from typing import Any, NamedTuple

import numpy as np

# Elements whose presence is above it exist.
THRESHOLD = 0.5


class Category(NamedTuple):
  """A feature with named values.

  Attributes:
    name: of the feature.
    classes: its values, in the order of their columns.
  """

  name: str
  classes: tuple[str, ...]


class Elements(NamedTuple):
  """Elements as arrays: of one set, `(N, …)`, or of many, `(S, N, …)`.

  Attributes:
    values: continuous features, `(..., N, C)`, float64.
    classes: class of every element by category, `(..., N)` integers; -1 where
      it is unknown.
    presence: 1 where an element exists and 0 where not, or a score, `(..., N)`.
  """

  values: np.ndarray
  classes: Mapping[str, np.ndarray]
  presence: np.ndarray


@dataclasses.dataclass(frozen=True)
class Layout:
  """The columns of a set's elements.

  Attributes:
    continuous: names of the C continuous features.
    categories: the categories.
    distance_scale: what differences of stored continuous features are
      multiplied by to be distances.
    counts_repeats: whether of m elements that are equal in all features m can
      be found; false: one, as Slot Attention's average precision has it.
  """

  continuous: tuple[str, ...]
  categories: tuple[Category, ...]
  distance_scale: float = 1.0
  counts_repeats: bool = True

  @functools.cached_property
  def columns(self) -> dict[str, slice]:
    """Columns of every category, by name."""
    found, start = {}, len(self.continuous)
    for name, classes in self.categories:
      found[name] = slice(start, start + len(classes))
      start += len(classes)
    return found

  @property
  def values(self) -> slice:
    """Columns of the continuous features."""
    return slice(0, len(self.continuous))

  @property
  def presence(self) -> int:
    """Column of the presence."""
    return self.num_features - 1

  @functools.cached_property
  def num_features(self) -> int:
    """Columns D in all."""
    one_hot = sum(len(classes) for _, classes in self.categories)
    return len(self.continuous) + one_hot + 1

  def checked(self, features: np.ndarray) -> np.ndarray:
    """Features `(..., N, D)` in float64.

    Raises:
      ValueError: if they have another shape.
    """
    features = np.asarray(features, np.float64)
    if features.ndim < 2 or features.shape[-1] != self.num_features:
      raise ValueError(
        f'A set of this layout needs shape (N, {self.num_features}), many sets '
        f'need (..., N, {self.num_features}); got {features.shape}.'
      )
    return features

  def mask_of(
    self, features: np.ndarray, threshold: float = THRESHOLD
  ) -> np.ndarray:
    """Tells which rows are elements.

    Args:
      features: true or predicted, `(..., N, D)`.
      threshold: a row is an element if its presence is above it; a presence of
        NaN is not.

    Returns:
      `(..., N)`, bool.

    Raises:
      ValueError: if the features have another shape.
    """
    return self.checked(features)[..., self.presence] > threshold

  def encode(self, elements: Elements) -> np.ndarray:
    """Turns elements into features.

    Args:
      elements: what they are; rows with a presence of 0 may hold anything.

    Returns:
      `(..., N, D)`, float64; zero in rows with a presence of 0, and in the
      columns of unknown classes.

    Raises:
      ValueError: if shapes do not fit or a class does not exist.
    """
    presence = np.asarray(elements.presence, np.float64)
    values = np.asarray(elements.values, np.float64)
    wanted = (*presence.shape, len(self.continuous))
    if values.shape != wanted:
      raise ValueError(
        f'Elements with presence {presence.shape} need values {wanted}; got '
        f'{values.shape}.'
      )
    mask = presence != 0
    features = np.zeros((*presence.shape, self.num_features))
    features[..., self.values] = values
    for name, names in self.categories:
      classes = np.asarray(elements.classes[name])
      if classes.shape != presence.shape:
        raise ValueError(
          f'Elements with presence {presence.shape} need a {name} each; got '
          f'{classes.shape}.'
        )
      wrong = classes[mask & ((classes < -1) | (classes >= len(names)))]
      if wrong.size:
        raise ValueError(
          f'The {name} classes are 0 to {len(names) - 1} '
          f'({reprlib.repr(names)}), or -1 for unknown; got {wrong[0]}.'
        )
      one_hot = classes[..., None] == np.arange(len(names))
      features[..., self.columns[name]] = one_hot
    features[..., self.presence] = presence
    return np.where(mask[..., None], features, 0.0)

  def decode(self, features: np.ndarray) -> Elements:
    """Turns true or predicted features into elements; undoes `encode`.

    Args:
      features: `(..., N, D)`.

    Returns:
      The values as they are stored, the likeliest class of each category (-1
      where one of its scores is not finite), and presence as it is.

    Raises:
      ValueError: if the features have another shape.
    """
    features = self.checked(features)
    classes = {}
    for name, columns in self.columns.items():
      scores = features[..., columns]
      # argmax would take a NaN for the greatest.
      known = np.all(np.isfinite(scores), axis=-1)
      classes[name] = np.where(known, np.argmax(scores, axis=-1), -1)
    presence = features[..., self.presence]
    return Elements(features[..., self.values], classes, presence)

  def margins(self, features: np.ndarray) -> np.ndarray:
    """How clearly predicted rows say what they are.

    Args:
      features: `(..., N, D)`.

    Returns:
      `(..., N)`, float64: twice the distance of the presence from its threshold
      of one half, and for rows above it at most the distance between the two
      largest scores of every category. About 1 for rows like encoded ones, near
      0 where little would change the element, NaN where a score is not finite.

    Raises:
      ValueError: if the features have another shape.
    """
    features = self.checked(features)
    presence = features[..., self.presence]
    found = 2 * np.abs(presence - THRESHOLD)
    elements = presence > THRESHOLD
    for columns in self.columns.values():
      if columns.stop - columns.start > 1:
        scores = np.sort(features[..., columns], axis=-1)
        apart = scores[..., -1] - scores[..., -2]
        found = np.where(elements, np.minimum(found, apart), found)
    finite = np.all(np.isfinite(features), axis=-1)
    return np.where(finite, found, np.nan)

  def to_json(self) -> dict[str, Any]:
    """As JSON values, without how distances are measured."""
    return {
      'continuous': list(self.continuous),
      'categories': {name: list(c) for name, c in self.categories},
    }


def from_json(content: Mapping[str, Any]) -> Layout:
  """The inverse of `Layout.to_json`.

  Raises:
    ValueError: if the content is not a layout.
  """
  try:
    continuous, categories = content['continuous'], content['categories']
    right = _are_names(continuous) and all(
      isinstance(name, str) and _are_names(classes) and classes
      for name, classes in categories.items()
    )
  except (KeyError, TypeError, AttributeError):
    right = False
  if not right:
    raise ValueError(f'Not a layout of sets: {content!r}.')
  return Layout(
    tuple(continuous),
    tuple(Category(name, tuple(c)) for name, c in categories.items()),
  )


def _are_names(values: Sequence[Any]) -> bool:
  return isinstance(values, list) and all(isinstance(v, str) for v in values)
