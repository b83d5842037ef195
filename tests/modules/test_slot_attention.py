"""Slot Attention: its equations, its symmetries, and its random slots."""

import functools

from flax import errors as flax_errors
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.modules import slot_attention
from tests.modules import slots_in_numpy
from tests.modules.quick_jit import quick_jit

B, P, C, N, S, T = 3, 7, 5, 4, 6, 2
MODULE = slot_attention.SlotAttention(N, S, mlp_dim=9, iterations=T)


def inputs(seed=0, batch=B):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(batch, P, C)).astype(np.float32)


def first_slots(seed=1, batch=B):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(batch, N, S)).astype(np.float32)


@pytest.fixture(scope='module')
def variables(variables_of):
  return variables_of(MODULE, inputs())


@pytest.fixture(scope='module')
def attend():
  return quick_jit(
    lambda variables, x, slots: MODULE.apply(
      variables, x, initial_slots=slots, method='attend'
    )
  )


@pytest.fixture(scope='module')
def draw():
  """One iteration from slots drawn with a key."""
  return quick_jit(
    lambda variables, key, x: MODULE.apply(
      variables, x, rngs={'initial_set': key}, iterations=1
    )
  )


def assert_close(a, b):
  np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_equals_numpy_in_float64(variables, attend, x64):
  wide = jax.tree.map(lambda a: np.asarray(a, np.float64), variables)
  x, slots = inputs().astype(float), first_slots().astype(float)
  found = attend(wide, x, slots)
  assert found.slots.shape == (T, B, N, S)
  assert found.attention.shape == (T, B, N, P)
  for b in range(B):
    expected = slots[b]
    for t in range(T):
      expected, attention = slots_in_numpy.iteration(
        wide['params'], expected, x[b]
      )
      np.testing.assert_allclose(found.slots[t, b], expected, rtol=1e-10)
      np.testing.assert_allclose(found.attention[t, b], attention, rtol=1e-10)


def test_one_slot_takes_the_mean_of_the_values():
  """By hand: three elements (1, -1), (1, -1), (-1, 1), and one slot."""
  module = slot_attention.SlotAttention(1, slot_dim=2, iterations=1)
  x = jnp.array([[[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]])
  rngs = {'params': jax.random.key(0), 'initial_set': jax.random.key(1)}
  shapes = jax.eval_shape(module.init, rngs, x)
  params = jax.tree.map(lambda a: jnp.zeros(a.shape), shapes)['params']
  params['norm_inputs']['scale'] = jnp.ones(2)
  params['value']['kernel'] = jnp.eye(2)
  # The GRU forgets its state and returns tanh of its input.
  params['gru']['in']['kernel'] = jnp.eye(2)
  params['gru']['iz']['bias'] = jnp.full(2, -100.0)
  slots = quick_jit(module.apply)(
    {'params': params}, x, initial_slots=jnp.ones((1, 2))
  )
  third = 1 / np.sqrt(1 + 1e-3) / 3  # Normalised values, of mean ±1/3.
  np.testing.assert_allclose(slots[0, 0], np.tanh([third, -third]), rtol=1e-6)


def test_attention_is_a_distribution_over_slots(variables, attend):
  attention = attend(variables, inputs(), first_slots()).attention
  assert np.all(attention > 0)
  np.testing.assert_allclose(np.sum(attention, axis=2), 1.0, rtol=1e-6)
  # And not over the input.
  assert np.max(np.abs(np.sum(attention, axis=3) - 1)) > 0.1


def test_slots_are_permuted_like_the_first_ones(variables, attend):
  order = np.array([2, 0, 3, 1])
  expected = attend(variables, inputs(), first_slots())
  found = attend(variables, inputs(), first_slots()[:, order])
  assert_close(found.slots, expected.slots[:, :, order])
  assert_close(found.attention, expected.attention[:, :, order])


def test_order_of_the_input_does_not_matter(variables, attend):
  order = np.random.default_rng(5).permutation(P)
  expected = attend(variables, inputs(), first_slots())
  found = attend(variables, inputs()[:, order], first_slots())
  assert_close(found.slots, expected.slots)
  assert_close(found.attention, expected.attention[..., order])


def test_equal_slots_stay_equal(variables, attend):
  """Without noise the slots cannot be told apart: set-equivariance."""
  slots = np.broadcast_to(first_slots()[:, :1], (B, N, S))
  found = attend(variables, inputs(), slots).slots
  np.testing.assert_allclose(found, found[:, :, :1] + 0 * found, atol=1e-6)


def test_sets_of_a_batch_do_not_meet(variables, attend):
  x = inputs()
  x[1:] = np.nan
  expected = attend(variables, inputs(), first_slots()).slots[:, 0]
  found = attend(variables, x, first_slots()).slots[:, 0]
  np.testing.assert_array_equal(found, expected)


def test_jit_equals_eager(variables, attend):
  with jax.disable_jit():
    eager = MODULE.apply(
      variables, inputs(), initial_slots=first_slots(), method='attend'
    )
  jax.tree.map(assert_close, eager, attend(variables, inputs(), first_slots()))


def test_more_iterations_continue_fewer(variables):
  @functools.partial(
    quick_jit, static_argnames=('iterations', 'all_iterations')
  )
  def run(**options):
    return MODULE.apply(
      variables, inputs(), initial_slots=first_slots(), **options
    )

  every = run(all_iterations=True)
  assert every.shape == (T, B, N, S)
  assert_close(run(), every[-1])
  for t in range(1, T):
    assert_close(run(iterations=t), every[t - 1])
  assert_close(run(iterations=T + 1, all_iterations=True)[:T], every)


def test_one_set_of_first_slots_serves_all(variables, attend):
  one = first_slots()[0]
  expected = attend(variables, inputs(), np.broadcast_to(one, (B, N, S)))
  found = attend(variables, inputs(), one)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


class TestRandomSlots:
  """What is drawn, and from which random stream."""

  @pytest.fixture
  def frozen(self, variables):
    """Parameters whose GRU and MLP return the first slots."""
    params = jax.tree.map(jnp.zeros_like, variables['params'])
    params['gru']['iz']['bias'] = jnp.full(S, 100.0)
    params['mean'] = 0.5 * jnp.arange(S, dtype=float)[None]
    params['log_sigma'] = jnp.log(0.1 * jnp.arange(1.0, S + 1))[None]
    return {'params': params}

  def test_have_the_learned_mean_and_spread(self, frozen, draw):
    count = 4000
    slots = draw(frozen, jax.random.key(0), jnp.zeros((count, P, C)))
    slots = slots.reshape(count * N, S)
    sigma = 0.1 * np.arange(1, S + 1)
    error = 5 * sigma / np.sqrt(len(slots))
    assert np.all(np.abs(np.mean(slots, 0) - 0.5 * np.arange(S)) < error)
    np.testing.assert_allclose(np.std(slots, 0), sigma, rtol=0.03)

  def test_follow_their_stream(self, frozen, draw):
    keys = map(jax.random.key, (0, 0, 1))
    first, again, other = (draw(frozen, key, inputs()) for key in keys)
    np.testing.assert_array_equal(first, again)
    assert np.min(np.abs(first - other)) > 0
    # Fresh for every set and slot.
    assert len(np.unique(first[..., 0])) == B * N

  def test_may_be_more_or_fewer_than_in_training(self, variables):
    for count in (1, 9):
      slots = jax.eval_shape(
        lambda v, count=count: MODULE.apply(
          v,
          inputs(),
          rngs={'initial_set': jax.random.key(0)},
          num_slots=count,
        ),
        variables,
      )
      assert slots.shape == (B, count, S)

  def test_need_a_stream(self, frozen):
    with pytest.raises(flax_errors.InvalidRngError, match='initial_set'):
      MODULE.apply(frozen, inputs())

  def test_do_not_depend_on_the_devices(self, variables, draw):
    """A mapped axis of 2 stands for two devices, as under `jax.pmap`."""
    x, key = inputs(batch=4), jax.random.key(3)
    module = MODULE.clone(axis_name='batch')

    def run(x):
      rngs = {'initial_set': key}
      return module.apply(variables, x, rngs=rngs, iterations=1)

    whole = draw(variables, key, x)
    split = quick_jit(jax.vmap(run, axis_name='batch'))(x.reshape(2, 2, P, C))
    assert_close(split.reshape(whole.shape), whole)
    # Outside of that axis, as in evaluation, the name does not matter.
    assert_close(quick_jit(run)(x), whole)

  def test_start_for_several_seeds_at_once(self, variables):
    def start(key):
      rngs = {'params': key, 'initial_set': key}
      return MODULE.init(rngs, inputs())

    keys = jax.random.split(jax.random.key(0), 2)
    shapes = jax.eval_shape(jax.vmap(start), keys)
    jax.tree.map(
      lambda several, one: np.testing.assert_equal(
        several.shape, (2, *one.shape)
      ),
      shapes,
      variables,
    )


def test_starts_like_the_authors_code():
  module = slot_attention.SlotAttention(2, slot_dim=64)
  rngs = {'params': jax.random.key(0), 'initial_set': jax.random.key(1)}
  params = quick_jit(module.init)(rngs, jnp.zeros((1, 2, 32)))['params']

  def assert_uniform(array, bound):
    assert 0.9 * bound < np.max(np.abs(array)) <= bound
    np.testing.assert_allclose(np.std(array), bound / np.sqrt(3), rtol=0.2)

  # Glorot's bound: √(6 / (fan_in + fan_out)).
  assert_uniform(params['mean'], np.sqrt(6 / 65))
  assert_uniform(params['log_sigma'], np.sqrt(6 / 65))
  assert_uniform(params['key']['kernel'], np.sqrt(6 / 96))
  assert_uniform(params['query']['kernel'], np.sqrt(6 / 128))
  assert_uniform(params['mlp_hidden']['kernel'], np.sqrt(6 / (64 + 128)))
  for gate in ('ir', 'iz', 'in'):  # One matrix (64, 192) in Keras.
    assert_uniform(params['gru'][gate]['kernel'], np.sqrt(6 / (64 + 192)))
  rows = np.concatenate([params['gru'][f'h{g}']['kernel'] for g in 'rzn'], 1)
  np.testing.assert_allclose(rows @ rows.T, np.eye(64), atol=1e-5)
  assert not np.any(params['gru']['hn']['bias'])


def test_gradients_are_finite_and_reach_everything(variables):
  x, rngs = inputs(), {'initial_set': jax.random.key(0)}

  @quick_jit
  @jax.grad
  def gradient(inputs):
    variables, x = inputs
    slots = MODULE.apply(variables, x, rngs=rngs, iterations=1)
    return jnp.sum(slots**2)

  for path, leaf in jax.tree.leaves_with_path(gradient((variables, x))):
    assert np.all(np.isfinite(leaf)), path
    assert np.any(leaf != 0), path


def test_far_inputs_stay_finite(variables, debug_nans):
  """One element of 1e4 in every feature, and keys that are 1e3 times larger."""
  x = inputs()
  x[0, 0], x[1] = 1e4, 1.0
  variables = jax.tree.map(lambda a: a, variables)
  variables['params']['key']['kernel'] *= 1e3
  slots = quick_jit(MODULE.apply)(variables, x, initial_slots=first_slots())
  assert np.all(np.isfinite(slots))


def test_bfloat16(variables, attend):
  half = MODULE.clone(dtype=jnp.bfloat16)
  found = quick_jit(
    lambda v, x, s: half.apply(v, x, initial_slots=s, method='attend')
  )(variables, inputs(), first_slots())
  assert found.slots.dtype == found.attention.dtype == jnp.float32
  np.testing.assert_allclose(np.sum(found.attention, 2), 1.0, rtol=1e-5)
  expected = attend(variables, inputs(), first_slots())
  error = np.max(np.abs(found.slots - expected.slots))
  assert 0 < error < 0.05 * np.max(np.abs(expected.slots))
  _, state = jax.eval_shape(
    lambda v: half.apply(
      v, inputs(), initial_slots=first_slots(), capture_intermediates=True
    ),
    variables,
  )
  made = state['intermediates']
  for name in ('key', 'query', 'value'):
    assert made[name]['__call__'][0].dtype == jnp.bfloat16


@pytest.mark.parametrize(
  ('changes', 'message'),
  (
    ({'num_slots': 0}, 'num_slots must be an integer of at least 1; got 0'),
    ({'slot_dim': 2.5}, 'slot_dim must be an integer of at least 1; got 2.5'),
    ({'mlp_dim': -1}, 'mlp_dim must be an integer of at least 1; got -1'),
    ({'iterations': True}, 'iterations must be an integer of at least 1'),
    ({'epsilon': -1.0}, 'epsilon must not be negative.* got -1.0'),
  ),
)
def test_wrong_attributes_are_refused(changes, message):
  module = MODULE.clone(**changes)
  with pytest.raises(ValueError, match=message):
    module.init(jax.random.key(0), inputs())


@pytest.mark.parametrize(
  ('options', 'message'),
  (
    ({'num_slots': 0}, 'num_slots must be an integer of at least 1; got 0'),
    ({'iterations': 0}, 'iterations must be an integer of at least 1; got 0'),
    ({'all_iterations': 1}, 'all_iterations must be True or False; got 1'),
    (
      {'initial_slots': np.zeros((B, N, S + 1))},
      r'initial slots need shape \(3, 4, 6\) or \(4, 6\); got \(3, 4, 7\)',
    ),
    (
      {'initial_slots': np.zeros((N, S)), 'num_slots': 2},
      r'initial slots need shape \(3, 2, 6\) or \(2, 6\); got \(4, 6\)',
    ),
  ),
)
def test_wrong_options_are_refused(variables, options, message):
  rngs = {'initial_set': jax.random.key(0)}
  with pytest.raises(ValueError, match=message):
    MODULE.apply(variables, inputs(), rngs=rngs, **options)


@pytest.mark.parametrize('shape', ((2, 3), (2, 4, 4, 3), (2, 0, 3)))
def test_wrong_inputs_are_refused(variables, shape):
  with pytest.raises(
    ValueError, match=r'needs input sets of shape \(B, P, C\)'
  ):
    MODULE.apply(variables, np.zeros(shape), initial_slots=first_slots())
