"""Streams of random numbers: distinct, and which of NumPy's are not."""

import itertools

import numpy as np
import pytest

from idspn_jax.data import streams


def _first(rng):
  return rng.integers(2**63)


def test_padding_with_zeros_makes_lists_collide():
  """What the module is for; if NumPy changes it, recorded data change too."""
  make = np.random.default_rng
  assert _first(make([5, 2])) == _first(make([5, 2, 0]))
  assert _first(make(5)) == _first(make([5])) == _first(make([5, 0]))


def test_every_path_is_a_stream_of_its_own():
  numbers = [0, 1, 2, 3, 2**32 - 1]
  paths = [
    path
    for length in (1, 2, 3)
    for path in itertools.product(numbers, repeat=length)
  ]
  seeds = [0, 1, 5, 2**32, 5 + 2**32, 2**128 - 1]
  drawn = {
    _first(streams.stream(seed, *path)) for seed in seeds for path in paths
  }
  assert len(drawn) == len(seeds) * len(paths)


def test_no_stream_is_one_of_a_list():
  numbers = [0, 1, 2, 3]
  lists = [
    [seed, *rest]
    for seed in range(3)
    for length in range(4)
    for rest in itertools.product(numbers, repeat=length)
  ]
  of_lists = {_first(np.random.default_rng(entropy)) for entropy in lists}
  drawn = {
    _first(streams.stream(seed, *path))
    for seed in range(3)
    for length in (1, 2)
    for path in itertools.product(numbers, repeat=length)
  }
  assert len(drawn) == 3 * (4 + 16)
  assert not drawn & of_lists


def test_a_stream_is_numpys_own():
  sequence = np.random.SeedSequence(7, spawn_key=(2, 0))
  expected = np.random.default_rng(sequence).normal(size=4)
  found = streams.stream(np.int64(7), np.uint8(2), 0).normal(size=4)
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
  'seed, path, words',
  [
    (1, (), 'needs a path'),
    (-1, (0,), 'seed must be .* got -1'),
    (2**128, (0,), 'seed must be'),
    (1.0, (0,), 'seed must be .* got 1.0'),
    (True, (0,), 'seed must be .* got True'),
    (None, (0,), 'seed must be .* got None'),
    (1, (2, -1), 'path must be .* got -1'),
    (1, (2**32,), r'path must be .*below 2\*\*32; got 4294967296'),
    (1, ('a',), "path must be .* got 'a'"),
  ],
)
def test_what_could_collide_is_refused(seed, path, words):
  with pytest.raises(ValueError, match=words):
    streams.stream(seed, *path)
