"""Matching: every method against brute force, and what it must ignore."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.ops import assignment
from idspn_jax.ops import host_matching


@pytest.fixture(params=('auto', 'scipy', 'optax', 'lapx'))
def method(request):
  if request.param == 'lapx':
    pytest.importorskip('lap')
  return request.param


match = jax.jit(assignment.match, static_argnames='method')

# Every kind of rectangle; the slower methods take the second list.
SHAPES = (
  (0, 0), (0, 3), (1, 0), (1, 1), (2, 2), (3, 3), (4, 4), (1, 4), (4, 1),
  (3, 4), (4, 3),
)  # fmt: skip
FEW_SHAPES = ((0, 2), (3, 0), (1, 3), (3, 3), (4, 2))
CASES = [('scipy', *s) for s in SHAPES] + [
  (method, *s) for method in ('auto', 'optax', 'lapx') for s in FEW_SHAPES
]


def cheapest(cost, rows, columns):
  """The least total cost over all matchings of the existing elements."""
  r, c = np.flatnonzero(rows), np.flatnonzero(columns)
  cost = np.asarray(cost, np.float64)[np.ix_(r, c)]
  if len(r) > len(c):
    cost = cost.T
  k, m = cost.shape
  return min(
    sum(cost[i, p[i]] for i in range(k))
    for p in itertools.permutations(range(m), k)
  )


def check_matching(cost, rows, columns, matching):
  """One problem's matching: as many pairs as possible, each at most once."""
  chosen = np.asarray(matching)
  pairs = [(i, j) for i, j in enumerate(chosen) if j >= 0]
  assert len(pairs) == min(np.sum(rows), np.sum(columns))
  assert len({j for _, j in pairs}) == len(pairs)
  assert all(rows[i] and columns[j] for i, j in pairs)
  total = sum(float(cost[i, j]) for i, j in pairs)
  np.testing.assert_allclose(
    total, cheapest(cost, rows, columns), rtol=1e-5, atol=1e-5
  )


@pytest.mark.parametrize('method,n,m', CASES)
def test_cost_equals_brute_force(rng, method, n, m):
  if method == 'lapx':
    pytest.importorskip('lap')
  batch = 8
  cost = rng.normal(size=(batch, n, m)).astype(np.float32)
  cost[1] = rng.integers(0, 2, size=(n, m))
  rows = rng.random((batch, n)) < 0.7
  columns = rng.random((batch, m)) < 0.7
  rows[:2], columns[:2], rows[2], columns[3] = True, True, False, False
  matching = match(cost, rows, columns, method=method)
  assert matching.columns.shape == (batch, n)
  assert matching.columns.dtype == jnp.int32
  assert np.all(matching.valid)
  for b in range(batch):
    check_matching(cost[b], rows[b], columns[b], matching.columns[b])


def test_groups_are_matched_apart(rng, method):
  n, m = 5, 4
  cost = rng.normal(size=(6, n, m)).astype(np.float32)
  row_groups = rng.integers(0, 3, size=(6, n))
  column_groups = rng.integers(0, 3, size=(6, m))
  row_groups[0], column_groups[0] = 2, 2
  row_groups[1], column_groups[1] = 0, 1
  rows = rng.random((6, n)) < 0.8
  # Costs between groups are ignored, whatever they are.
  cost[row_groups[:, :, None] != column_groups[:, None, :]] = np.nan
  matching = match(
    cost,
    rows,
    row_groups=row_groups,
    column_groups=column_groups,
    method=method,
  )
  assert np.all(matching.valid)
  for b in range(6):
    for group in range(3):
      r = rows[b] & (row_groups[b] == group)
      c = column_groups[b] == group
      chosen = np.where(row_groups[b] == group, matching.columns[b], -1)
      check_matching(cost[b], r, c, chosen)
  np.testing.assert_array_equal(matching.columns[1], -1)


@pytest.mark.parametrize('batch', ((), (3,), (2, 3)))
def test_without_masks_everything_is_matched(rng, method, batch):
  cost = rng.normal(size=(*batch, 3, 4)).astype(np.float32)
  matching = match(cost, method=method)
  assert matching.columns.shape == (*batch, 3)
  assert matching.valid.shape == batch
  for i in np.ndindex(*batch):
    check_matching(cost[i], [True] * 3, [True] * 4, matching.columns[i])


@pytest.mark.parametrize('scale', (1e-6, 1e8, -1e8, 1e30))
def test_masks_hold_at_any_scale_of_cost(method, scale):
  cost = jnp.array([[[1.0, 1.0]], [[1.0, 3.0]]]) * scale
  columns = jnp.array([[False, True], [True, False]])
  matching = match(cost, None, columns, method=method)
  np.testing.assert_array_equal(matching.columns, [[1], [0]])


def test_vmap_jit_and_scan_agree(rng, method):
  cost = jnp.asarray(rng.normal(size=(4, 3, 3)).astype(np.float32))
  expected = match(cost, method=method).columns

  def one(cost):
    return assignment.match(cost, method=method).columns

  if method != 'optax':  # Its loops take long to compile one by one.
    eager = assignment.match(cost, method=method).columns
    np.testing.assert_array_equal(eager, expected)
  np.testing.assert_array_equal(jax.jit(jax.vmap(one))(cost), expected)
  _, scanned = jax.jit(
    lambda cost: jax.lax.scan(lambda c, x: (c, one(x)), 0, cost)
  )(cost)
  np.testing.assert_array_equal(scanned, expected)


@pytest.mark.parametrize('bad', (np.nan, np.inf, -np.inf))
def test_a_cost_that_is_not_finite_spoils_its_own_set_only(rng, method, bad):
  cost = rng.normal(size=(3, 3, 3)).astype(np.float32)
  clean = match(cost, method=method)
  cost[1, 2, 0] = bad
  matching = match(cost, method=method)
  np.testing.assert_array_equal(matching.valid, [True, False, True])
  np.testing.assert_array_equal(matching.columns[1], -1)
  costs = assignment.gather_costs(jnp.asarray(cost), matching)
  assert np.all(np.isnan(costs[1]))
  for b in (0, 2):
    np.testing.assert_array_equal(matching.columns[b], clean.columns[b])
    assert np.all(np.isfinite(costs[b]))


@pytest.mark.parametrize('bad', (np.nan, np.inf))
def test_a_masked_cost_that_is_not_finite_is_ignored(rng, method, bad):
  cost = rng.normal(size=(2, 3, 3)).astype(np.float32)
  rows = np.array([[True, True, False], [True, True, True]])
  columns = np.array([[True, True, True], [True, False, True]])
  cost[0, 2], cost[1, :, 1] = bad, bad
  matching = match(cost, rows, columns, method=method)
  assert np.all(matching.valid)
  for b in range(2):
    check_matching(cost[b], rows[b], columns[b], matching.columns[b])
  costs = assignment.gather_costs(jnp.asarray(cost), matching)
  assert np.all(np.isfinite(costs))


def test_gradient_reaches_the_matched_costs_only(method):
  cost = jnp.array([[[1.0, 5.0, 9.0], [5.0, 9.0, 2.0]]])

  def total(cost):
    return jnp.sum(assignment.gather_costs(cost, match(cost, method=method)))

  np.testing.assert_array_equal(
    jax.jit(jax.grad(total))(cost), [[[1, 0, 0], [0, 0, 1]]]
  )


def test_gather_matched_orders_by_row():
  values = jnp.array([[[1.0, 1.0], [2.0, 2.0]]])
  matching = assignment.Matching(jnp.array([[1, -1, 0]]), jnp.array([True]))
  np.testing.assert_array_equal(
    assignment.gather_matched(values, matching), [[[2, 2], [0, 0], [1, 1]]]
  )
  nothing = assignment.Matching(jnp.full((1, 2), -1), jnp.array([True]))
  np.testing.assert_array_equal(
    assignment.gather_matched(jnp.zeros((1, 0, 3)), nothing),
    np.zeros((1, 2, 3)),
  )
  np.testing.assert_array_equal(
    assignment.gather_costs(jnp.zeros((1, 2, 0)), nothing), np.zeros((1, 2))
  )


def test_wrong_arguments_are_refused():
  cost = jnp.zeros((2, 3, 4))
  with pytest.raises(ValueError, match="Unknown matching method 'greedy'"):
    assignment.match(cost, method='greedy')
  with pytest.raises(ValueError, match=r'shape \(\.\.\., N, M\)'):
    assignment.match(jnp.zeros(3))
  with pytest.raises(ValueError, match='to fit the costs'):
    assignment.match(cost, row_mask=jnp.ones((2, 4), bool))
  with pytest.raises(ValueError, match='to fit the costs'):
    assignment.match(cost, column_mask=jnp.ones((4,), bool))
  with pytest.raises(ValueError, match='groups of the rows need shape'):
    assignment.match(cost, row_groups=jnp.zeros((2, 4), int))


IDS = {
  'negative': (np.array([-1, -7, 3, -1]), np.array([3, -1, -1, -7])),
  'sparse': (
    np.array([10**9, 0, -(10**9), 10**9]),
    np.array([-(10**9), 10**9, 10**9, 0]),
  ),
  '64 bits': (
    np.array([2**32 + 1, 1, 2**62, 2**32 + 1]),
    np.array([2**62, 2**32 + 1, 2**32 + 1, 1]),
  ),
  'unsigned': (
    np.array([2**32 - 1, 0, 2**31, 2**32 - 1], np.uint32),
    np.array([2**31, 2**32 - 1, 2**32 - 1, 0], np.uint32),
  ),
  'bytes': (np.array([1, 0, 2, 1], np.int8), np.array([2, 1, 1, 0], np.uint8)),
}


@pytest.mark.parametrize('name', IDS)
@pytest.mark.parametrize('wide', (False, True))
def test_groups_may_be_any_integers(request, method, name, wide):
  if wide:
    request.getfixturevalue('x64')
  rows, columns = (ids[None] for ids in IDS[name])
  cost = jnp.arange(16.0, dtype=jnp.float32).reshape(1, 4, 4) % 5.0
  matching = assignment.match(
    cost, method=method, row_groups=rows, column_groups=columns
  )
  plain = assignment.match(
    cost,
    method='scipy',
    row_groups=np.array([[1, 0, 2, 1]]),
    column_groups=np.array([[2, 1, 1, 0]]),
  )
  np.testing.assert_array_equal(matching.columns, plain.columns)
  np.testing.assert_array_equal(
    columns[0, np.asarray(matching.columns)[0]], rows[0]
  )


def test_the_cost_of_groups_does_not_depend_on_their_values(monkeypatch):
  calls = []
  search = np.searchsorted
  monkeypatch.setattr(
    np, 'searchsorted', lambda a, v, *args: calls.append(len(v)) or search(a, v)
  )
  groups = np.array([[0, 2**31 - 1, -(2**31)]])
  assignment.match(
    jnp.zeros((1, 3, 3)),
    method='scipy',
    row_groups=groups,
    column_groups=groups,
  ).columns.block_until_ready()
  assert calls == [3, 3]


def test_groups_that_cannot_be_compared_are_refused():
  cost, ids = jnp.zeros((1, 2, 2)), np.array([[0, 2**40]])
  with pytest.raises(ValueError, match='need integers; got float64'):
    assignment.match(cost, row_groups=ids / 2)
  with pytest.raises(ValueError, match='enable jax_enable_x64'):
    assignment.match(
      cost, row_groups=ids, column_groups=jnp.zeros((1, 2), jnp.int32)
    )
  with pytest.raises(ValueError, match='one integer type'):
    assignment.match(cost, row_groups=ids, column_groups=ids.astype(np.uint64))


def test_a_host_that_cannot_be_called(monkeypatch):
  """As with JAX_PLATFORMS=cuda; here the CPU platform is only hidden."""

  def devices(backend=None):
    raise RuntimeError(f'Unknown backend {backend}')

  monkeypatch.setattr(jax, 'local_devices', devices)
  monkeypatch.setattr(host_matching, 'call_host', None)  # Not to be called.
  # A shape of this test's own, so that it is compiled here.
  cost = jnp.array([[[1.0, 0.0, 9.0, 9.0, 9.0], [0.0, 5.0, 9.0, 9.0, 9.0]]])
  np.testing.assert_array_equal(assignment.match(cost).columns, [[1, 0]])
  for method in ('scipy', 'lapx'):
    with pytest.raises(ValueError, match="method='optax'"):
      assignment.match(cost, method=method)
