"""Random multisets: every element i.i.d. `N(0, I)` (Appendix F.2)."""

import numpy as np

_SPLITS = ('train', 'test')


def random_multisets(
  count: int, set_size: int, set_dim: int, seed: int, split: str
) -> np.ndarray:
  """Samples a split of the dataset; changing the seed changes the data.

  Args:
    count: number of sets.
    set_size: elements per set N.
    set_dim: features per element D.
    seed: of the experiment.
    split: 'train' or 'test'; their samples are independent.

  Returns:
    Sets, `(count, N, D)`, float32.

  Raises:
    ValueError: if the split is unknown.
  """
  if split not in _SPLITS:
    raise ValueError(f'Unknown split {split!r}; choose one of {_SPLITS}.')
  # The data of recorded results; `streams` serves what is new.
  rng = np.random.default_rng([seed, _SPLITS.index(split)])
  return rng.standard_normal((count, set_size, set_dim), np.float32)
