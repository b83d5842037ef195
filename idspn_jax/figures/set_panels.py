"""Where the elements of one set stand in one panel."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from idspn_jax.figures import matching

# Elements above this presence count.
THRESHOLD = 0.5


class Panel(NamedTuple):
  """One target set and one prediction.

  Attributes:
    truth: places of the target's elements, `(M, 2)`.
    guess: places of the prediction's elements, `(N, 2)`.
    truth_presence: `(M,)`.
    guess_presence: `(N,)`; zero where it was not finite.
    pairs: the best matching over all features, presence included.
  """

  truth: np.ndarray
  guess: np.ndarray
  truth_presence: np.ndarray
  guess_presence: np.ndarray
  pairs: matching.Pairs


def _places(truth, guess, exists, pairs):
  """Two features; or one and a rank, which matched elements share."""
  if truth.shape[1] >= 2:
    return truth[:, :2], guess[:, :2]
  # Elements that exist come first, from the least value to the greatest.
  rank = np.empty(len(truth))
  rank[np.lexsort((truth[:, 0], ~exists))] = np.arange(len(truth))
  guess_rank = np.arange(len(guess), dtype=float)
  if len(pairs.predictions):
    guess_rank[:] = -1.0
    guess_rank[pairs.predictions] = rank[pairs.targets]
  truth = np.stack([truth[:, 0], rank], axis=-1)
  return truth, np.stack([guess[:, 0], guess_rank], axis=-1)


def make_panel(
  truth: np.ndarray, guess: np.ndarray, has_presence: bool
) -> Panel:
  """Matches and places `(M, D)` and `(N, D)`; the last may be presence."""
  pairs = matching.match(guess, truth)
  truth_presence, guess_presence = np.ones(len(truth)), np.ones(len(guess))
  if has_presence:
    truth_presence = truth[:, -1]
    guess_presence = guess[:, -1]
    finite = np.isfinite(guess_presence)
    guess_presence = np.where(finite, guess_presence, 0.0)
    truth, guess = truth[:, :-1], guess[:, :-1]
  exists = truth_presence > THRESHOLD
  places = _places(truth, guess, exists, pairs)
  return Panel(*places, truth_presence, guess_presence, pairs)


def limits_of(row: Sequence[Panel], equal: bool) -> np.ndarray:
  """Common limits of panels that share a target.

  They hold every target and the predictions near them; far predictions, of a
  solve that diverged say, must not shrink the rest to a dot.

  Args:
    row: panels of one target.
    equal: give both axes one span, so that a square panel shows distances and
      shapes undistorted.

  Returns:
    Low ends, then high ends, of both axes, `(2, 2)`.
  """
  truth = row[0].truth[row[0].truth_presence > THRESHOLD]
  if not len(truth):
    truth = np.zeros((1, 2))
  truth = truth.astype(np.float64)
  low, high = truth.min(axis=0), truth.max(axis=0)
  span = high - low
  if equal:
    span = np.full(2, span.max())
  span = np.where(span > 0, span, np.maximum(np.abs(high), 1.0))
  if equal:
    span = np.full(2, span.max())
  shown = [panel.guess[panel.guess_presence > THRESHOLD] for panel in row]
  near = np.concatenate([truth, *shown])
  near = np.clip(near, low - span / 2, high + span / 2)
  low = np.nanmin(near, axis=0) - 0.08 * span
  high = np.nanmax(near, axis=0) + 0.08 * span
  if equal:
    middle, half = (low + high) / 2, np.max(high - low) / 2
    low, high = middle - half, middle + half
  return np.stack([low, high])
