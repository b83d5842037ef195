"""Class-specific numbering: number the elements of each class (Appendix F.1).

An input multiset holds one class per element; the target numbers the elements
of each class 0, 1, 2, … in any order. Sets are kept as class labels, from
which inputs and targets follow.
"""

import numpy as np

SPLITS = ('train', 'validation', 'test')
# How many classes occur in one set of the paper's eight-class setting.
PAPER_DISTINCT_CLASSES = 4


def sample_labels(
  rng: np.random.Generator,
  count: int,
  set_size: int,
  num_classes: int,
  distinct_classes: int | None = None,
) -> np.ndarray:
  """Samples sets of class labels.

  Args:
    rng: source of the labels.
    count: number of sets.
    set_size: elements per set N.
    num_classes: number of classes K.
    distinct_classes: draw each set's labels from that many randomly chosen
      classes, uniformly; None means from all K.

  Returns:
    Labels in `[0, K)`, `(count, N)`, int32.

  Raises:
    ValueError: if there are more classes than elements, or more distinct
      classes than classes.
  """
  if not 1 <= num_classes <= set_size:
    raise ValueError(
      f'Sets of {set_size} elements need between 1 and {set_size} classes; '
      f'got {num_classes}.'
    )
  distinct = num_classes if distinct_classes is None else distinct_classes
  if not 1 <= distinct <= num_classes:
    raise ValueError(
      f'distinct_classes must be between 1 and {num_classes} (the number of '
      f'classes); got {distinct}.'
    )
  labels = rng.integers(0, distinct, (count, set_size))
  if distinct < num_classes:
    chosen = np.argsort(rng.random((count, num_classes)), axis=-1)
    labels = np.take_along_axis(chosen, labels, axis=-1)
  return labels.astype(np.int32)


def class_labels(
  count: int,
  set_size: int,
  num_classes: int,
  seed: int,
  split: str,
  distinct_classes: int | None = None,
) -> np.ndarray:
  """Samples a split's sets of class labels, see `sample_labels`.

  Args:
    count: number of sets.
    set_size: elements per set N.
    num_classes: number of classes K.
    seed: of the experiment; another seed gives other data.
    split: 'train', 'validation' or 'test', independent of each other.
    distinct_classes: as in `sample_labels`.

  Returns:
    Labels in `[0, K)`, `(count, N)`, int32.

  Raises:
    ValueError: like `sample_labels`, or if the split is unknown.
  """
  if split not in SPLITS:
    raise ValueError(f'Unknown split {split!r}; choose one of {SPLITS}.')
  # The data of recorded results; `streams` serves what is new.
  rng = np.random.default_rng([seed, SPLITS.index(split)])
  return sample_labels(rng, count, set_size, num_classes, distinct_classes)


def numbering(labels: np.ndarray) -> np.ndarray:
  """Numbers the elements of each class in the order in which they stand.

  Args:
    labels: class labels, `(B, N)`.

  Returns:
    Numbers in `[0, N)`, `(B, N)`, int32.
  """
  same = labels[:, :, None] == labels[:, None, :]
  before = np.tril(np.ones(same.shape[1:], bool), -1)
  return np.sum(same & before, axis=-1, dtype=np.int32)


def permuted(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Permutes every set at random, the paper's data augmentation.

  Args:
    labels: class labels, `(B, N)`.
    rng: source of the permutations.

  Returns:
    Labels in another order, `(B, N)`.
  """
  return rng.permuted(labels, axis=-1)
