"""Inner optimisers: by hand, set by set, and their convergence."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from idspn_jax.ops import clip
from idspn_jax.ops import simplex
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import inner_loop
from idspn_jax.solvers import inner_step
from idspn_jax.solvers import jaxopt_import
from idspn_jax.solvers import per_set
from idspn_jax.solvers import projected_gradient

SEARCHES = (
  inner_step.BacktrackingLineSearch(),
  projected_gradient.ProjectedGradient(),
  projected_gradient.ProjectedGradient(stepsize=0.3, acceleration=False),
)


def run(problem, optimizer, iterations, grad_clip=None, projection=None):
  """Takes some steps from the initial sets, compiled."""
  step = inner_step.make_step(problem.energy, optimizer, grad_clip, projection)

  @jax.jit
  def compiled(inputs):
    return inner_loop.run(
      problem.energy,
      step,
      inputs,
      inputs.initial_set,
      iterations,
      projection=projection,
    ).final

  return compiled(problem.inputs)


def only(problem, b):
  """The problem of one set of the batch."""
  inputs = problem.inputs
  return problem._replace(
    inputs=inputs._replace(
      z=inputs.z[b : b + 1], initial_set=inputs.initial_set[b : b + 1]
    )
  )


@pytest.mark.parametrize('momentum', (0.0, 0.9))
@pytest.mark.parametrize('nesterov', (True, False))
@pytest.mark.parametrize('max_norm', (None, 0.8))
@pytest.mark.parametrize('projection', (None, simplex.project_simplex))
def test_gradient_descent_equals_a_loop_by_hand(
  toward_z, momentum, nesterov, max_norm, projection
):
  rate = 0.3
  gradient = energy_lib.energy_gradient(toward_z.energy)
  y = toward_z.inputs.initial_set
  velocity = 0.0
  for _ in range(4):
    g = gradient(toward_z.inputs, y)
    g = g if max_norm is None else clip.clip_per_set(g, max_norm)
    velocity = momentum * velocity + g
    y = y - rate * (g + momentum * velocity if nesterov else velocity)
    y = y if projection is None else projection(y)
  optimizer = inner_step.GradientDescent(rate, momentum, nesterov)
  computed = run(toward_z, optimizer, 4, max_norm, projection)
  np.testing.assert_allclose(computed, y, rtol=1e-12)


def test_first_step_is_one_plus_momentum_gradients_long(toward_z):
  y = toward_z.inputs.initial_set
  g = y - toward_z.inputs.z.reshape(y.shape)
  computed = run(toward_z, inner_step.GradientDescent(1.0, 0.9), 1)
  np.testing.assert_allclose(computed, y - 1.9 * g, rtol=1e-12)


@pytest.mark.parametrize(
  'transformation',
  (
    optax.chain(optax.clip_by_global_norm(0.5), optax.adam(0.1)),
    optax.lamb(0.05),
    optax.lbfgs(),
    optax.polyak_sgd(max_learning_rate=0.5),
    optax.chain(
      optax.scale_by_schedule(lambda count: 1.0 / (1.0 + count)),
      optax.sgd(0.3),
    ),
  ),
  ids=('clipped_adam', 'lamb', 'lbfgs', 'polyak', 'schedule'),
)
def test_optax_transformations_see_one_set_at_a_time(toward_z, transformation):
  optimizer = inner_step.OptaxOptimizer(transformation)
  together = run(toward_z, optimizer, 5)
  for b in range(2):
    alone = run(only(toward_z, b), optimizer, 5)
    np.testing.assert_allclose(together[b], alone[0], rtol=1e-12)


def test_optax_sgd_equals_gradient_descent(toward_z):
  ours = run(toward_z, inner_step.GradientDescent(0.2, 0.9), 6, 0.5)
  theirs = run(
    toward_z,
    inner_step.OptaxOptimizer(optax.sgd(0.2, 0.9, nesterov=True)),
    6,
    0.5,
  )
  np.testing.assert_allclose(ours, theirs, rtol=1e-12)


@pytest.mark.parametrize('optimizer', SEARCHES, ids=repr)
def test_searches_reduce_the_energy_and_reach_the_optimum(toward_z, optimizer):
  energies = [toward_z.energy(toward_z.inputs, toward_z.inputs.initial_set)]
  for steps in (1, 60):
    y = run(toward_z, optimizer, steps)
    energies.append(toward_z.energy(toward_z.inputs, y))
  assert np.all(energies[1] < energies[0])
  assert np.all(energies[2] < energies[1] + 1e-20)
  np.testing.assert_allclose(
    y, toward_z.inputs.z.reshape(y.shape), rtol=1e-6, atol=1e-7
  )


@pytest.mark.parametrize(
  'optimizer',
  (*SEARCHES[1:], inner_step.GradientDescent(0.5, 0.5)),
  ids=repr,
)
def test_projected_optimum_is_the_projection(toward_z, optimizer):
  y = run(toward_z, optimizer, 60, projection=simplex.project_simplex)
  goal = toward_z.inputs.z.reshape(y.shape)
  np.testing.assert_allclose(
    y, simplex.project_simplex(goal), rtol=1e-6, atol=1e-7
  )


@pytest.mark.parametrize('optimizer', SEARCHES[:2], ids=repr)
def test_searches_see_one_set_at_a_time(toward_z, optimizer):
  together = run(toward_z, optimizer, 3)
  for b in range(2):
    np.testing.assert_allclose(
      together[b], run(only(toward_z, b), optimizer, 3)[0], rtol=1e-11
    )


@pytest.fixture
def optimized():
  """Programs are compiled as outside of tests."""
  before = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', False)
  yield
  jax.config.update('jax_disable_most_optimizations', before)


@pytest.mark.usefixtures('optimized')
@pytest.mark.parametrize('seed', range(1, 4))
def test_searches_end_where_the_condition_is_a_tie(seed):
  """With step size 1 the sufficient decrease of `½‖Y‖² - z·Y` is an equality.

  Rounding errors decide there, and jaxopt's own loop may never end.
  """

  def energy(inputs, y):
    flat = y.reshape(len(y), -1)
    half = 0.5 * inputs.params * jnp.sum(jnp.square(flat), axis=-1)
    return half - jnp.sum(flat * inputs.z, axis=-1)

  random = np.random.default_rng(seed)
  z = random.normal(size=(4, 6)).astype(np.float32)
  start = random.normal(size=(4, 3, 2)).astype(np.float32)
  inputs = energy_lib.Inputs(jnp.float32(1), jnp.array(z), jnp.array(start))
  step = inner_step.make_step(
    energy, projected_gradient.ProjectedGradient(), None, None
  )

  @jax.jit
  def compiled(inputs):
    return inner_loop.run(energy, step, inputs, inputs.initial_set, 3).final

  found = compiled(inputs)
  assert np.all(energy(inputs, found) < energy(inputs, inputs.initial_set))
  np.testing.assert_allclose(found.reshape(z.shape), z, atol=0.5)


def test_the_search_takes_jaxopts_steps(toward_z):
  """Where no decision is a tie, every step is the one of jaxopt's own loop."""
  one = only(toward_z, 0)
  ours = run(one, projected_gradient.ProjectedGradient(), 5)
  solver = jaxopt_import.ProjectedGradient(
    per_set.one_set(one.energy), lambda y, _: y, implicit_diff=False
  )
  rows = jax.tree.map(lambda leaf: leaf[0], tuple(one.inputs[1:]))
  inputs = energy_lib.Inputs(one.inputs.params, *rows)
  y = inputs.initial_set
  state = solver.init_state(y, None, inputs)
  for _ in range(5):
    y, state = solver.update(y, state, None, inputs)
  np.testing.assert_allclose(ours[0], y, rtol=1e-12)


def test_residual_is_the_gradient_or_minus_a_projected_step(toward_z):
  y = toward_z.inputs.initial_set
  g = y - toward_z.inputs.z.reshape(y.shape)
  plain = inner_step.residual(toward_z.energy, None)
  np.testing.assert_allclose(plain(y, toward_z.inputs), g, rtol=1e-14)
  project = simplex.project_simplex
  projected = inner_step.residual(toward_z.energy, project)
  np.testing.assert_allclose(
    projected(y, toward_z.inputs), y - project(y - g), rtol=1e-12
  )


@pytest.mark.parametrize(
  'options,message',
  (
    ({'learning_rate': 0.0}, 'learning_rate must be positive'),
    ({'learning_rate': float('nan')}, 'learning_rate must be positive'),
    ({'learning_rate': float('inf')}, 'learning_rate must be positive'),
    ({'momentum': 1.0}, r'momentum must be in \[0, 1\)'),
    ({'momentum': -0.1}, r'momentum must be in \[0, 1\)'),
    ({'nesterov': 'no'}, 'nesterov must be True or False'),
  ),
)
def test_wrong_settings_of_gradient_descent_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    inner_step.GradientDescent(**options)


def test_optimizers_that_do_not_combine_are_refused(toward_z):
  make = inner_step.make_step
  energy = toward_z.energy
  for optimizer in SEARCHES[:2]:
    with pytest.raises(ValueError, match='chooses its own step sizes'):
      make(energy, optimizer, grad_clip=1.0)
  with pytest.raises(ValueError, match='use ProjectedGradient'):
    make(energy, SEARCHES[0], projection=simplex.project_simplex)
  with pytest.raises(ValueError, match='optimizer must be GradientDescent'):
    make(energy, optax.adam(1.0))


def test_clip_of_the_wrong_size_is_refused(toward_z):
  with pytest.raises(ValueError, match='grad_clip must be positive'):
    run(toward_z, inner_step.GradientDescent(), 1, grad_clip=0.0)


def test_parameters_are_shared_and_the_rest_is_per_set(x64):
  """Searches split every input but the parameters by set."""

  def energy(inputs, y):
    goal = inputs.z[:, None, :] + inputs.known_features * inputs.params
    return jnp.sum(jnp.square(y - goal), axis=(-2, -1))

  inputs = energy_lib.Inputs(
    params=jnp.full((1, 1, 2), 3.0),
    z=jnp.array([[1.0, 2.0], [5.0, 6.0]]),
    initial_set=jnp.zeros((2, 3, 2)),
    known_features=jnp.array([1.0, 2.0])[:, None, None] * jnp.ones((2, 3, 2)),
  )
  step = inner_step.make_step(energy, inner_step.BacktrackingLineSearch())
  y = jax.jit(
    lambda i: inner_loop.run(energy, step, i, i.initial_set, 60).final
  )(inputs)
  np.testing.assert_allclose(y[0, 0], [4.0, 5.0], rtol=1e-6)
  np.testing.assert_allclose(y[1, 2], [11.0, 12.0], rtol=1e-6)


def test_transformations_get_the_energy_and_its_gradient(toward_z):
  """Polyak's step size is `(L - 0) / ‖∇L‖²`, here one half."""
  transformation = optax.polyak_sgd(max_learning_rate=1.0)
  optimizer = inner_step.OptaxOptimizer(transformation)
  y = toward_z.inputs.initial_set
  goal = toward_z.inputs.z.reshape(y.shape)
  np.testing.assert_allclose(
    run(toward_z, optimizer, 1), 0.5 * (y + goal), rtol=1e-6
  )
  lbfgs = inner_step.OptaxOptimizer(optax.lbfgs())
  np.testing.assert_allclose(run(toward_z, lbfgs, 8), goal, atol=1e-7)


def test_line_search_takes_the_largest_step_that_suffices(toward_z):
  """`L(Y - s ∇L) = (1 - s)² L(Y)` and `‖∇L‖² = 2 L(Y)` for this energy."""
  for rate, steps, factor in ((4.0, 15, 0.5), (4.0, 1, 0.5), (0.3, 15, 0.5)):
    optimizer = inner_step.BacktrackingLineSearch(rate, steps, factor)
    s, tries = rate, 0
    while (1 - s) ** 2 > 1 - 2e-4 * s and tries < steps:
      s, tries = s * factor, tries + 1
    y = toward_z.inputs.initial_set
    goal = toward_z.inputs.z.reshape(y.shape)
    np.testing.assert_allclose(
      run(toward_z, optimizer, 1), y + s * (goal - y), rtol=1e-12
    )


def test_line_search_stays_put_where_the_energy_is_not_finite(toward_z):
  def energy(inputs, y):
    far = jnp.any(y != inputs.initial_set, axis=(-2, -1)) & (y[:, 0, 0] > 0)
    return jnp.where(far, jnp.nan, toward_z.energy(inputs, y))

  y = toward_z.inputs.initial_set
  y = y.at[0, 0, 0].set(10.0).at[1, 0, 0].set(-10.0)
  z = toward_z.inputs.z.at[1, 0].set(-10.0)
  problem = toward_z._replace(
    energy=energy, inputs=toward_z.inputs._replace(z=z, initial_set=y)
  )
  moved = run(problem, inner_step.BacktrackingLineSearch(), 1)
  np.testing.assert_array_equal(moved[0], y[0])
  assert np.any(moved[1] != y[1])


@pytest.mark.parametrize(
  'options,message',
  (
    ({'learning_rate': 0.0}, 'learning_rate must be positive'),
    ({'learning_rate': np.inf}, 'learning_rate must be positive'),
    ({'max_steps': 0}, 'max_steps must be an integer of at least 1'),
    ({'max_steps': 2.5}, 'max_steps must be an integer'),
    ({'decrease_factor': 1.0}, r'decrease_factor must be in \(0, 1\)'),
    ({'decrease_factor': np.nan}, r'decrease_factor must be in \(0, 1\)'),
  ),
)
def test_wrong_settings_of_the_line_search_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    inner_step.BacktrackingLineSearch(**options)


def test_what_is_no_transformation_is_refused():
  with pytest.raises(ValueError, match='needs a transformation such as'):
    inner_step.OptaxOptimizer(optax.adam)


@pytest.mark.parametrize('number', (np.float64, np.float32, jnp.float32))
def test_numbers_of_numpy_are_plain_numbers(number):
  """Others change the type of the sets, and arrays have no hash."""
  half = number(0.5)
  for given, plain in (
    (
      inner_step.GradientDescent(half, half, np.bool_(True)),
      inner_step.GradientDescent(0.5, 0.5, True),
    ),
    (
      inner_step.BacktrackingLineSearch(half, np.int64(3), half),
      inner_step.BacktrackingLineSearch(0.5, 3, 0.5),
    ),
    (
      projected_gradient.ProjectedGradient(half, np.bool_(True), np.int64(3)),
      projected_gradient.ProjectedGradient(0.5, True, 3),
    ),
  ):
    assert given == plain and hash(given) == hash(plain)
    assert repr(given) == repr(plain)


def test_learned_settings_are_refused():
  with pytest.raises(ValueError, match='learning_rate must be known before'):
    jax.jit(inner_step.GradientDescent)(0.1)
