"""Bad arrays for operations and losses: right numbers, NaN, or an error."""

from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from idspn_jax.losses import class_matching
from idspn_jax.losses import set_losses
from idspn_jax.ops import assignment
from idspn_jax.ops import fspool
from idspn_jax.ops import permute
from idspn_jax.ops import simplex
from tests.bad_input.refusal import Refused

# Few shapes, so that few programs are compiled. Values that tie, too.
SHAPES = st.sampled_from([(), (0,), (3,), (0, 2), (2, 0), (2, 3), (1, 2, 3)])
NUMBERS = st.sampled_from(
  [0.0, -0.0, 1.0, -2.5, 1e30, -1e30, 1e-40, np.inf, -np.inf, np.nan]
)
FLOATS = st.sampled_from(['f4', 'f2', 'i4', 'u1', '?'])


def _arrays(shapes=SHAPES, dtypes=FLOATS):
  def make(shape, dtype, numbers):
    size = int(np.prod(shape))
    with np.errstate(all='ignore'):
      return (
        np.resize(np.asarray(numbers, 'f4'), size).reshape(shape).astype(dtype)
      )

  return st.builds(
    make, shapes, dtypes, st.lists(NUMBERS, min_size=1, max_size=6)
  )


@pytest.fixture(autouse=True)
def eager():
  """Compiling every shape would take longer than computing it."""
  with jax.disable_jit(False), np.errstate(all='ignore'):
    yield


def _finite(*arrays):
  return all(np.all(np.isfinite(np.asarray(a, 'f8'))) for a in arrays)


class TestFSPool:
  def test_is_the_weighted_sum_of_sorted_features(self, fuzz, attempt):
    def check(value):
      x, weight = map(jnp.asarray, value)
      try:
        found = attempt('fspool', value, lambda: fspool.fspool(x, weight))
      except Refused:
        return
      assert found.shape == (*x.shape[:-2], x.shape[-1])
      if _finite(*value):
        x, weight = (np.asarray(a, 'f8') for a in value)
        want = np.sum(np.sort(x, -2) * weight, -2)
        if np.all(np.abs(want) < 1e4):
          np.testing.assert_allclose(found, want, rtol=1e-2, atol=1e-3)
      elif x.dtype.kind == 'f':
        # What is not finite shows, unless no element is there.
        bad = ~np.isfinite(np.asarray(x, 'f8')).all(-2)
        assert np.all(~np.isfinite(np.asarray(found, 'f8')) | ~bad)

    shapes = st.sampled_from([(2, 3), (1, 2, 3), (0, 3), (3, 0), (3,), ()])
    floats = st.sampled_from(['f4', 'f2'])
    fuzz(
      st.tuples(_arrays(shapes, floats), _arrays(shapes, floats))
      | st.tuples(_arrays(), _arrays()),
      check,
    )

  def test_masks_that_do_not_fit(self, fuzz, attempt):
    x = jnp.arange(6.0).reshape(2, 3)

    def check(mask):
      def pool():
        weight = jnp.ones((4, 3))
        return fspool.fspool_any_size(x, weight, jnp.asarray(mask))

      try:
        found = attempt('masks of fspool', mask, pool)
      except Refused:
        assert mask.shape != (2,)
        return
      want = np.sum(np.asarray(x)[mask.astype(bool)], 0)
      np.testing.assert_allclose(found, want)

    fuzz(_arrays(dtypes=st.sampled_from(['?', 'i4', 'f4'])), check)


class TestRanks:
  @pytest.mark.parametrize('n', [0, 1, 3, 65, 300])
  def test_sort_stably(self, n, fuzz, attempt):
    def check(value):
      dtype, numbers = value
      x = np.resize(np.asarray(numbers, 'f4'), (n, 1)).astype(dtype)
      try:
        found = attempt(
          'ranks',
          (n, x.ravel()),
          lambda: permute.ascending_ranks(jnp.asarray(x)),
        )
      except Refused:
        assert dtype == '?'
        return
      # Numbers below the smallest normal one count as zero.
      flushed = x
      if x.dtype.kind == 'f':
        small = np.abs(x) < np.finfo(x.dtype).tiny
        flushed = np.where(small, np.zeros_like(x), x)
      order = np.argsort(flushed, 0, kind='stable')
      if not np.any(np.isnan(x.astype('f8'))):
        np.testing.assert_array_equal(
          np.take_along_axis(np.asarray(found), order, 0).ravel(), np.arange(n)
        )
      ranks = jnp.asarray(found)
      if n and not np.any(np.isnan(x.astype('f8'))):
        again = permute.sort_by_ranks(ranks, jnp.asarray(x))
        np.testing.assert_allclose(again, np.sort(x, 0), atol=1e-38)

    fuzz(st.tuples(FLOATS, st.lists(NUMBERS, min_size=1, max_size=6)), check)

  def test_shapes_that_do_not_fit(self, fuzz, attempt):
    def check(value):
      ranks, values = value
      if ranks.shape == values.shape and ranks.ndim >= 2:
        return
      for function in (permute.sort_by_ranks, permute.unsort_by_ranks):
        with pytest.raises(Refused):
          attempt(
            'shapes of permute',
            value,
            lambda f=function: f(jnp.asarray(ranks), jnp.asarray(values)),
          )

    fuzz(st.tuples(_arrays(dtypes=st.just('i4')), _arrays()), check)


class TestSimplex:
  def test_is_the_closest_point(self, fuzz, attempt):
    def check(value):
      x, axis, radius = value
      try:
        found = attempt(
          'simplex',
          value,
          lambda: simplex.project_simplex(jnp.asarray(x), axis, radius),
        )
      except Refused:
        return
      assert found.shape == x.shape
      if x.size == 0:
        return
      y = np.asarray(found, 'f8')
      bad = np.isnan(y).any(axis)
      # What is not finite, other than what is infinitely far below, gives NaN.
      given = np.asarray(x, 'f8')
      clear = ~np.isnan(given).any(axis) & ~np.isposinf(given).any(axis)
      clear &= np.isfinite(given).any(axis)
      np.testing.assert_array_equal(bad, ~clear)
      good = np.moveaxis(y, axis, -1)[clear]
      assert np.all(good >= 0)
      tolerance = 2e-2 if x.dtype == 'f2' else 1e-4
      np.testing.assert_allclose(good.sum(-1), radius, rtol=tolerance)

    floats = st.sampled_from(['f4', 'f2'])
    fuzz(
      st.tuples(
        _arrays(dtypes=floats),
        st.integers(-3, 3),
        st.sampled_from([1.0, 0.5, 3.0, 0.0, -1.0, np.nan, np.inf]),
      ),
      check,
    )

  def test_groups_that_do_not_fit(self, fuzz, attempt):
    x = jnp.arange(4.0).reshape(1, 4)
    ends = st.integers(-1, 5)

    def check(groups):
      try:
        found = attempt(
          'groups of simplex',
          groups,
          lambda: simplex.project_simplex_groups(x, groups),
        )
      except Refused:
        return
      for start, stop in groups:
        np.testing.assert_allclose(np.sum(found[0, start:stop]), 1, rtol=1e-5)

    fuzz(st.lists(st.tuples(ends, ends), max_size=3), check)


class TestMatching:
  @pytest.mark.parametrize('method', ['scipy', 'optax'])
  def test_is_the_least_cost(self, method, fuzz, attempt):
    def check(cost):
      try:
        columns, valid = attempt(
          'costs',
          (method, cost),
          lambda: assignment.match(jnp.asarray(cost), method=method),
        )
      except Refused:
        return
      assert columns.shape == cost.shape[:-1]
      for c, own, ok in zip(
        cost.reshape(valid.size, *cost.shape[-2:]).astype('f4'),
        np.asarray(columns).reshape(valid.size, cost.shape[-2]),
        np.ravel(valid),
        strict=True,
      ):
        assert ok == _finite(c)
        matched = own >= 0
        assert len({*own[matched]}) == matched.sum()
        if not ok:
          assert not matched.any()
          continue
        assert matched.sum() == min(c.shape)
        i, j = scipy.optimize.linear_sum_assignment(c)
        here = c[np.flatnonzero(matched), own[matched]].astype('f8').sum()
        scale = max(1.0, np.abs(c).max(initial=0))
        np.testing.assert_allclose(
          here, c[i, j].astype('f8').sum(), rtol=1e-5, atol=1e-5 * scale
        )

    shapes = st.sampled_from([(2, 3), (3, 2), (2, 2, 2), (0, 2), (2, 0), (3,)])
    fuzz(_arrays(shapes, st.sampled_from(['f4', 'i4'])), check)

  def test_masks_and_groups_that_do_not_fit(self, fuzz, attempt):
    cost = jnp.arange(6.0).reshape(2, 3)
    names = ('row_mask', 'column_mask', 'row_groups', 'column_groups')

    def check(value):
      name, array = value
      try:
        found = attempt(
          'masks of matching',
          value,
          lambda: assignment.match(cost, **{name: jnp.asarray(array)}),
        )
      except Refused:
        return
      assert array.shape == ((2,) if name.startswith('row') else (3,))
      assert found.columns.shape == (2,)

    fuzz(
      st.tuples(
        st.sampled_from(names),
        _arrays(st.sampled_from([(2,), (3,), (), (1, 2), (2, 3)])),
      ),
      check,
    )


def _set_cases():
  shapes = st.sampled_from([(1, 2, 2), (1, 3, 2), (1, 0, 2), (1, 2, 0), (2, 2)])
  floats = st.sampled_from(['f4', 'f2'])
  return st.tuples(_arrays(shapes, floats), _arrays(shapes, floats))


@pytest.mark.usefixtures('allow_rank_promotion')
class TestLosses:
  @pytest.mark.parametrize('name', ['hungarian', 'chamfer', 'sinkhorn'])
  def test_of_odd_sets(self, name, fuzz, attempt):
    loss = getattr(set_losses, f'{name}_loss')

    def check(value):
      prediction, target = value
      try:
        found = attempt(
          f'{name} loss',
          value,
          lambda: loss(jnp.asarray(prediction), jnp.asarray(target)),
        )
      except Refused:
        return
      found = np.asarray(found, 'f8')
      assert found.shape == prediction.shape[:-2]
      if prediction.size == 0 or target.size == 0:
        assert not np.any(found > 0)
        return
      large = max(np.abs(np.asarray(a, 'f8')).max(initial=0) for a in value)
      if _finite(*value) and large < 1e4:
        assert np.all(np.isfinite(found)) and np.all(found >= 0)
        if name == 'hungarian' and prediction.shape == target.shape:
          same = loss(jnp.asarray(target), jnp.asarray(prediction))
          np.testing.assert_allclose(found, same, rtol=1e-2, atol=1e-6)
      elif any(np.isnan(np.asarray(a, 'f8')).any() for a in value):
        assert not np.all(np.isfinite(found))

    fuzz(_set_cases(), check)

  def test_of_odd_masks(self, fuzz, attempt):
    sets = jnp.arange(8.0).reshape(2, 2, 2)

    def check(value):
      name, mask = value
      for kind in ('hungarian', 'chamfer', 'sinkhorn'):
        loss = getattr(set_losses, f'{kind}_loss')
        try:
          found = attempt(
            'masks of losses',
            (kind, value),
            lambda f=loss: f(sets, sets, **{name: jnp.asarray(mask)}),
          )
        except Refused:
          continue
        assert mask.shape == (2, 2) and np.all(np.isfinite(found))

    fuzz(
      st.tuples(
        st.sampled_from(['prediction_mask', 'target_mask']),
        hnp.arrays('?', st.sampled_from([(2, 2), (2,), (2, 3), (1, 2), ()])),
      ),
      check,
    )

  def test_of_odd_classes(self, fuzz, attempt):
    scores = jnp.eye(3)[None]

    def check(classes):
      try:
        loss, matching = attempt(
          'classes',
          classes,
          lambda: class_matching.class_matched_loss(
            scores, scores, jnp.asarray(classes)
          ),
        )
      except Refused:
        return
      assert classes.shape == (1, 3) and np.all(matching.columns >= 0)
      np.testing.assert_allclose(loss, 0, atol=1e-6)

    shapes = st.sampled_from([(1, 3), (3,), (1, 2), (2, 3), ()])
    fuzz(_arrays(shapes, st.sampled_from(['i4', 'u1', 'f4', '?'])), check)
