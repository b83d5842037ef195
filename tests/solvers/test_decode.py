"""Decoding: steps, stopping, trajectories, and refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.ops import simplex
from idspn_jax.solvers import decode
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step

SLOW = inner_step.GradientDescent(0.25, momentum=0.0)
UNROLLED = gradients.Unrolled()


def run(problem, **options):
  options = {'optimizer': SLOW, **options}
  return jax.jit(functools.partial(decode.decode, problem.energy, **options))(
    problem.inputs
  )


def after(problem, steps):
  """The set after some steps by hand: a quarter of the way each."""
  y = problem.inputs.initial_set
  goal = problem.inputs.z.reshape(y.shape)
  return goal + 0.75**steps * (y - goal)


@pytest.mark.parametrize('gradient', (gradients.JacobianFree(), UNROLLED))
@pytest.mark.parametrize('trajectory', (False, True))
@pytest.mark.parametrize('steps', (0, 1, 5))
def test_takes_as_many_steps_as_asked(toward_z, gradient, trajectory, steps):
  out = run(
    toward_z, iterations=steps, gradient=gradient, trajectory=trajectory
  )
  np.testing.assert_allclose(out.set, after(toward_z, steps), rtol=1e-12)
  np.testing.assert_array_equal(out.steps, steps)
  if not trajectory:
    assert out.trajectory is out.energy is out.residual is None
    return
  assert out.trajectory.shape == (steps + 1, 2, 3, 2)
  for t in range(steps + 1):
    y = after(toward_z, t)
    distance = y - toward_z.inputs.z.reshape(y.shape)
    norm = np.sqrt(np.sum(np.square(distance), (-2, -1)))
    np.testing.assert_allclose(out.trajectory[t], y, rtol=1e-12)
    np.testing.assert_allclose(out.residual[t], norm, rtol=1e-12)
    np.testing.assert_allclose(out.energy[t], 0.5 * norm**2, rtol=1e-12)


@pytest.mark.parametrize('gradient', (gradients.JacobianFree(), UNROLLED))
@pytest.mark.parametrize('trajectory', (False, True))
def test_each_set_stops_at_the_tolerance(toward_z, gradient, trajectory):
  inputs = toward_z.inputs
  done = inputs.z.reshape(2, 3, 2)[0]
  start = inputs.initial_set.at[0].set(done)
  problem = toward_z._replace(inputs=inputs._replace(initial_set=start))
  norm = np.linalg.norm(start[1] - inputs.z.reshape(2, 3, 2)[1])
  # Reached after six steps of the second set.
  tolerance = 0.9 * norm * 0.75**5
  out = run(
    problem,
    iterations=20,
    tolerance=float(tolerance),
    gradient=gradient,
    trajectory=trajectory,
  )
  np.testing.assert_array_equal(out.steps, [0, 6])
  np.testing.assert_array_equal(out.set[0], done)
  fixed = run(problem, iterations=6, gradient=gradient)
  np.testing.assert_allclose(out.set, fixed.set, rtol=1e-13)
  if trajectory:
    assert out.trajectory.shape[0] == 21
    assert np.all(out.trajectory[6:] == out.trajectory[6:7])
    assert np.all(out.residual[-1] <= tolerance)
  few = run(problem, iterations=3, tolerance=float(tolerance))
  np.testing.assert_array_equal(few.steps, [0, 3])


def test_stopping_freezes_the_momentum_of_each_set(toward_z):
  """A set takes the same steps whatever its neighbours still do."""
  optimizer = inner_step.GradientDescent(0.2, 0.6)
  together = run(toward_z, iterations=40, optimizer=optimizer, tolerance=1e-2)
  for b in range(2):
    inputs = jax.tree.map(lambda a, b=b: a[b : b + 1], toward_z.inputs)
    alone = run(
      toward_z._replace(inputs=inputs),
      iterations=40,
      optimizer=optimizer,
      tolerance=1e-2,
    )
    assert together.steps[b] == alone.steps[0] < 40
    np.testing.assert_allclose(together.set[b], alone.set[0], rtol=1e-13)


def test_stopping_uses_the_projected_residual(toward_z):
  out = run(
    toward_z,
    iterations=200,
    tolerance=1e-9,
    projection=simplex.project_simplex,
    trajectory=True,
  )
  goal = toward_z.inputs.z.reshape(out.set.shape)
  np.testing.assert_allclose(out.set, simplex.project_simplex(goal), atol=1e-8)
  assert np.all(out.steps < 200)
  assert np.all(out.residual[-1] <= 1e-9)


@pytest.mark.parametrize(
  'gradient,projects', ((gradients.JacobianFree(), True), (UNROLLED, False))
)
def test_initial_set_is_projected_as_in_the_official_code(
  toward_z, gradient, projects
):
  decoded = functools.partial(
    run,
    toward_z,
    iterations=0,
    gradient=gradient,
    projection=simplex.project_simplex,
  )
  y = toward_z.inputs.initial_set
  projected = simplex.project_simplex(y)
  default = decoded().set
  np.testing.assert_allclose(default, projected if projects else y, atol=1e-14)
  for choice, expected in ((True, projected), (False, y)):
    out = decoded(project_initial_set=choice)
    np.testing.assert_allclose(out.set, expected, atol=1e-14)


def test_jit_equals_eager(toward_z):
  eager = decode.decode(
    toward_z.energy, toward_z.inputs, iterations=3, optimizer=SLOW
  )
  jitted = run(toward_z, iterations=3)
  np.testing.assert_allclose(eager.set, jitted.set, rtol=1e-13)


def test_diverged_set_leaves_the_others_alone(toward_z):
  clean = run(toward_z, iterations=4)
  inputs = toward_z.inputs
  for bad in (np.nan, np.inf):
    spoiled = inputs._replace(z=inputs.z.at[1, 0].set(bad))
    out = run(toward_z._replace(inputs=spoiled), iterations=4)
    np.testing.assert_array_equal(out.set[0], clean.set[0])
    assert not np.all(np.isfinite(out.set[1]))


@pytest.mark.parametrize(
  'options,message',
  (
    ({'iterations': -1}, 'iterations must be an integer of at least 0'),
    ({'iterations': 2.0}, 'iterations must be an integer'),
    ({'iterations': True}, 'iterations must be an integer'),
    ({'iterations': np.bool_(True)}, 'iterations must be an integer'),
    ({'tolerance': -1e-3}, 'tolerance must not be negative'),
    ({'tolerance': np.nan}, 'tolerance must .* finite'),
    ({'tolerance': np.inf}, 'tolerance must .* finite'),
    ({'project_initial_set': 'no'}, 'project_initial_set must be True or'),
    ({'gradient': 'unrolled'}, 'gradient must be a mode'),
    ({'optimizer': 'sgd'}, 'optimizer must be GradientDescent'),
    ({'grad_clip': -1.0}, 'grad_clip must be positive'),
    ({'grad_clip': np.nan}, 'grad_clip must be positive'),
    ({'grad_clip': np.inf, 'iterations': 0}, 'grad_clip must be positive'),
    (
      {
        'gradient': gradients.ConjugateGradient(),
        'projection': simplex.project_simplex,
      },
      'ConjugateGradient needs a symmetric system.*NormalConjugateGradient',
    ),
  ),
)
def test_wrong_settings_are_refused(toward_z, options, message):
  with pytest.raises(ValueError, match=message):
    decode.decode(toward_z.energy, toward_z.inputs, **options)


@pytest.mark.parametrize('z', ((3, 6), (6,), (2, 3, 2)))
def test_latent_vectors_that_do_not_fit_are_refused(toward_z, z):
  inputs = toward_z.inputs._replace(z=jnp.zeros(z))
  with pytest.raises(ValueError, match=r'z of shape \(B, Z\)'):
    decode.decode(toward_z.energy, inputs)


@pytest.mark.parametrize('gradient', (gradients.JacobianFree(), UNROLLED))
@pytest.mark.parametrize('steps', (0, 3))
def test_energy_and_residual_before_the_last_step(toward_z, gradient, steps):
  out = run(toward_z, iterations=steps, gradient=gradient, trajectory=True)
  before = max(steps - 1, 0)
  np.testing.assert_allclose(out.last_energy, out.energy[before], rtol=1e-12)
  np.testing.assert_allclose(
    out.last_residual, out.residual[before], rtol=1e-12
  )
  assert out.last_energy.shape == out.last_residual.shape == (2,)


def test_energy_and_residual_have_no_derivative(toward_z, debug_nans):
  """Not even where the residual is zero, whose norm has none."""
  y = toward_z.inputs.z.reshape(2, 3, 2)
  inputs = toward_z.inputs._replace(initial_set=y)

  @jax.jit
  @jax.grad
  def gradient(z):
    out = decode.decode(
      toward_z.energy,
      inputs._replace(z=z),
      iterations=2,
      optimizer=SLOW,
      gradient=UNROLLED,
    )
    return jnp.sum(out.last_energy) + jnp.sum(out.last_residual)

  np.testing.assert_array_equal(gradient(inputs.z), 0.0)


def test_integers_of_numpy_are_steps(toward_z):
  for steps in (np.int64(2), np.uint8(2), np.array(2)):
    out = decode.decode(toward_z.energy, toward_z.inputs, iterations=steps)
    np.testing.assert_array_equal(out.steps, 2)


def test_traced_settings_are_refused(toward_z):
  for name in ('iterations', 'tolerance', 'grad_clip'):
    with pytest.raises(ValueError, match=f'{name} must be known before'):
      jax.jit(
        lambda value, name=name: decode.decode(
          toward_z.energy, toward_z.inputs, **{name: value}
        )
      )(3)


@pytest.mark.parametrize(
  'energy',
  (
    lambda inputs, y: jnp.sum(y),
    lambda inputs, y: jnp.sum(y, axis=-1),
    lambda inputs, y: jnp.sum(y, axis=(-2, -1), keepdims=True)[..., 0],
    lambda inputs, y: jnp.sum(y > 0, axis=(-2, -1)),
  ),
)
def test_energies_of_another_form_are_refused(toward_z, energy):
  with pytest.raises(ValueError, match=r'one real number per set, shape \(2,'):
    decode.decode(energy, toward_z.inputs)


@pytest.mark.parametrize(
  'replaced,message',
  (
    ({'z': jnp.zeros((2, 6), int)}, 'z of a floating-point type; got int'),
    ({'initial_set': jnp.zeros((2, 3, 2), int)}, 'initial sets of a floating'),
    ({'known_features': jnp.zeros((2, 4, 1))}, r'need shape \(2, 3, K\)'),
    ({'known_elements': jnp.zeros((2, 1, 3))}, r'need shape \(2, M, 2\)'),
    (
      {
        'known_features': jnp.zeros((2, 3, 1)),
        'known_elements': jnp.zeros((2, 1, 2)),
      },
      r'need shape \(2, M, 3\)',
    ),
    ({'fallbacks': jnp.zeros((3,))}, r'fallbacks need shape \(2,\)'),
  ),
)
def test_inputs_that_do_not_fit_are_refused(toward_z, replaced, message):
  with pytest.raises(ValueError, match=message):
    decode.decode(toward_z.energy, toward_z.inputs._replace(**replaced))


def test_closing_over_an_array_on_a_mesh_is_refused():
  kind = jax.sharding.AxisType.Explicit
  mesh = jax.make_mesh((1,), ('data',), axis_types=(kind,))
  rows, whole = (
    jax.NamedSharding(mesh, spec) for spec in (jax.P('data'), jax.P())
  )
  z, y = jax.device_put((jnp.ones((2, 3)), jnp.ones((2, 4, 3))), rows)
  weight = jax.device_put(jnp.eye(3), whole)

  def run(encode, params):
    inputs = energy_lib.Inputs(params, z, y)
    return decode.decode(energy_lib.squared_distance(encode), inputs).set

  with pytest.raises(ValueError, match='pass it in inputs.params'):
    jax.jit(lambda: run(lambda _, y: jnp.sum(y @ weight, 1), None))()
  passed = jax.jit(lambda: run(lambda w, y: jnp.sum(y @ w, 1), weight))()
  assert passed.shape == (2, 4, 3)
