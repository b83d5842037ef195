"""Implicit derivatives against back-propagation and finite differences.

All in float64, on problems that converge to machine precision: then the
implicit function theorem, the derivative of the loop and the difference
quotient have to agree, in the parameters, the latent vectors and the set that
the regulariser pulls toward.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
from jax.flatten_util import ravel_pytree
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.modules import set_encoders
from idspn_jax.ops import simplex
from idspn_jax.solvers import decode
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step


@pytest.fixture(autouse=True)
def in_float64(x64):
  pass


class Problem(NamedTuple):
  """An inner problem and how to decode it."""

  energy: Callable
  inputs: energy_lib.Inputs
  options: dict


def _bowl(inputs, y):
  """Mixed features, a quartic and a tie of all elements: strongly convex."""
  goal = inputs.z.reshape(y.shape)
  mixed = jnp.einsum('bnd,de->bne', y, inputs.params['mix'])
  quartic = jnp.sum(jnp.square(jnp.square(y)), axis=(-2, -1))
  tie = jnp.square(jnp.sum(y, axis=(-2, -1)))
  return (
    0.5 * jnp.sum(jnp.square(mixed - goal), axis=(-2, -1))
    + inputs.params['quartic'] * quartic
    + 0.02 * tie
  )


def _bowl_problem(projection=None, spread=0.6):
  rng = np.random.default_rng(11)
  return Problem(
    energy_lib.regularized(_bowl, weight=1.0),
    energy_lib.Inputs(
      params={
        'mix': jnp.asarray(0.7 * np.eye(3) + 0.1 * rng.normal(size=(3, 3))),
        'quartic': jnp.asarray(0.05),
      },
      z=jnp.asarray(0.25 + spread * rng.normal(size=(2, 6))),
      initial_set=jnp.asarray(0.3 + 0.3 * rng.normal(size=(2, 2, 3))),
    ),
    {
      'iterations': 200,
      'optimizer': inner_step.GradientDescent(1.0, momentum=0.2),
      'projection': projection,
    },
  )


def _encoder_problem(projection=None):
  """FSPool and ReLU: smooth wherever no value is tied or zero.

  Most random problems have their minimum where values tie; this seed's are
  away from every kink, with and without the projection.
  """
  rng = np.random.default_rng(10)
  encoder = set_encoders.SetEncoder(hidden_dim=5, latent_dim=4)
  params = encoder.init(jax.random.key(10), jnp.zeros((1, 3, 2)))['params']
  return Problem(
    energy_lib.regularized(
      energy_lib.squared_distance(set_encoders.encode_with(encoder)), 0.5
    ),
    energy_lib.Inputs(
      params=jax.tree.map(jnp.float64, params),
      z=jnp.asarray(rng.normal(size=(2, 4))),
      initial_set=jnp.asarray(rng.normal(size=(2, 3, 2))),
    ),
    {
      'iterations': 800,
      'optimizer': inner_step.GradientDescent(1.0, momentum=0.9),
      'projection': projection,
    },
  )


PROBLEMS = {
  'bowl': _bowl_problem,
  'bowl inside the simplex': functools.partial(
    _bowl_problem, simplex.project_simplex, 0.05
  ),
  'bowl on the simplex boundary': functools.partial(
    _bowl_problem, simplex.project_simplex, 1.0
  ),
  'encoder': _encoder_problem,
  'encoder on the simplex': functools.partial(
    _encoder_problem, simplex.project_simplex
  ),
}

EXACT = {
  'dense': gradients.Dense(linearize_at='final'),
  'normal_cg': gradients.NormalConjugateGradient(
    iterations=400, tolerance=1e-14, linearize_at='final'
  ),
  'gmres': gradients.GMRES(
    iterations=20, restart=6, tolerance=1e-12, linearize_at='final'
  ),
  'cg': gradients.ConjugateGradient(
    iterations=200, tolerance=1e-14, linearize_at='final'
  ),
  'neumann': gradients.Neumann(terms=2000, linearize_at='final'),
}
# The everyday run leaves out what other cases cover as well.
DEEP = {
  ('bowl', 'normal_cg'),
  ('bowl', 'gmres'),
  ('bowl inside the simplex', 'normal_cg'),
  ('bowl inside the simplex', 'gmres'),
}
CASES = [
  pytest.param(
    problem, mode, marks=[pytest.mark.deep] if (problem, mode) in DEEP else []
  )
  for problem in PROBLEMS
  for mode in EXACT
  if 'simplex' not in problem or mode in ('dense', 'normal_cg', 'gmres')
]

APPROXIMATE = (
  gradients.JacobianFree(),
  gradients.JacobianFree(linearize_at='final'),
  gradients.Neumann(),
  gradients.RegularizedConjugateGradient(),
  gradients.ConjugateGradient(),
  gradients.NormalConjugateGradient(),
  gradients.GMRES(),
  gradients.Dense(),
)


def decoder(problem, gradient, **options):
  return functools.partial(
    decode.decode,
    problem.energy,
    gradient=gradient,
    **{**problem.options, **options},
  )


def readout(y):
  """A scalar of the decoded sets with a different slope everywhere."""
  slopes = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
  return jnp.sum(slopes * y) + 0.5 * jnp.sum(jnp.square(y))


def gradient_of(problem, gradient, **options):
  run = decoder(problem, gradient, **options)
  return jax.jit(jax.grad(lambda inputs: readout(run(inputs).set)))(
    problem.inputs
  )


@functools.cache
def problem_and_references(name):
  """The problem, its gradient by unrolling and by central differences."""
  problem = PROBLEMS[name]()
  run = decoder(problem, gradients.Unrolled())
  flat, unravel = ravel_pytree(problem.inputs)

  @jax.jit
  def differences(flat):
    step = 1e-5 * jnp.eye(flat.size)

    def value(flat):
      return readout(run(unravel(flat)).set)

    ahead, behind = (
      jax.vmap(value)(flat[None] + sign * step) for sign in (1, -1)
    )
    return (ahead - behind) / 2e-5

  unrolled = gradient_of(problem, gradients.Unrolled())
  return problem, unrolled, unravel(differences(flat))


def assert_close(a, b, rtol):
  """Compares parameters, latent vectors and initial sets, each by its scale."""
  for field in ('params', 'z', 'initial_set'):
    x, y = (ravel_pytree(getattr(t, field))[0] for t in (a, b))
    np.testing.assert_allclose(
      x, y, rtol=0, atol=rtol * np.max(np.abs(y)), err_msg=field
    )


@pytest.mark.parametrize('name', PROBLEMS)
def test_problems_converge_and_are_what_they_say(name):
  problem, _, _ = problem_and_references(name)
  out = jax.jit(decoder(problem, gradients.JacobianFree(), trajectory=True))(
    problem.inputs
  )
  assert np.max(out.residual[-1]) < 1e-13
  assert np.min(out.residual[0]) > 1e-2
  if 'inside' in name:
    assert np.all(np.asarray(out.set) > 0.01)
  if 'boundary' in name:
    assert np.any(out.set == 0) and np.any((out.set > 0) & (out.set < 1))


@pytest.mark.parametrize('name', PROBLEMS)
def test_unrolled_equals_finite_differences(name):
  _, unrolled, differences = problem_and_references(name)
  assert_close(unrolled, differences, 1e-7)
  assert np.any(unrolled.initial_set != 0)


@pytest.mark.parametrize('name,mode', CASES)
def test_implicit_equals_unrolled_and_finite_differences(name, mode):
  problem, unrolled, differences = problem_and_references(name)
  implicit = gradient_of(problem, EXACT[mode])
  assert_close(implicit, unrolled, 1e-9)
  assert_close(implicit, differences, 1e-7)


@pytest.mark.parametrize(
  'name,mode',
  [('encoder', mode) for mode in APPROXIMATE]
  + [
    ('encoder on the simplex', mode)
    for mode in APPROXIMATE[::2]
    if mode.general
  ],
  ids=str,
)
def test_every_mode_points_the_right_way(name, mode):
  problem, _, differences = problem_and_references(name)
  computed = gradient_of(problem, mode)
  for field in ('params', 'z', 'initial_set'):
    a, b = (ravel_pytree(getattr(t, field))[0] for t in (computed, differences))
    cosine = jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
    assert cosine > 0.3, (field, float(cosine))


@pytest.mark.parametrize(
  'name,at,steps',
  (
    ('encoder', 'penultimate', 4),
    ('encoder', 'final', 5),
    ('encoder on the simplex', 'penultimate', 4),
  ),
)
def test_jacobian_free_equals_its_formula(name, at, steps):
  """`-vᵀ ∂F/∂(θ, z)` at the right step of an unfinished optimisation."""
  problem = PROBLEMS[name]()
  mode = gradients.JacobianFree(linearize_at=at)
  computed = gradient_of(problem, mode, iterations=5)

  def at_step(t):
    return jax.jit(decoder(problem, mode, iterations=t))(problem.inputs).set

  v = jax.grad(readout)(at_step(5))
  y = at_step(steps)
  gradient = energy_lib.energy_gradient(problem.energy)

  @jax.jit
  def formula(inputs):
    def condition(inputs):
      g = gradient(inputs, y)
      project = problem.options['projection']
      return g if project is None else y - project(y - g)

    return jax.vjp(condition, inputs)[1](-v)[0]

  assert_close(computed, formula(problem.inputs), 1e-12)


@pytest.mark.parametrize(
  'mode',
  (
    gradients.RegularizedConjugateGradient(gamma=1e12),
    gradients.Neumann(terms=0),
  ),
  ids=repr,
)
def test_limits_equal_jacobian_free(mode):
  problem = PROBLEMS['encoder']()
  expected = gradient_of(problem, gradients.JacobianFree(), iterations=5)
  assert_close(gradient_of(problem, mode, iterations=5), expected, 1e-9)


@pytest.mark.parametrize('at', gradients.LINEARIZE_AT)
@pytest.mark.parametrize('trajectory', (False, True))
def test_differentiation_does_not_change_the_value(at, trajectory):
  problem = PROBLEMS['encoder']()
  mode = gradients.JacobianFree(linearize_at=at)
  run = decoder(problem, mode, iterations=5, trajectory=trajectory)

  def value_and_set(inputs):
    y = run(inputs).set
    return readout(y), y

  _, differentiated = jax.jit(jax.grad(value_and_set, has_aux=True))(
    problem.inputs
  )
  np.testing.assert_array_equal(
    differentiated, jax.jit(run)(problem.inputs).set
  )


@pytest.mark.parametrize(
  'mode',
  (gradients.JacobianFree(), gradients.Dense(linearize_at='final')),
  ids=repr,
)
def test_initial_set_learns_through_the_regulariser_only(mode):
  encoder = set_encoders.SetEncoder(hidden_dim=5, latent_dim=4)
  problem = PROBLEMS['encoder']()
  plain = problem._replace(
    energy=energy_lib.squared_distance(set_encoders.encode_with(encoder))
  )
  assert np.any(gradient_of(problem, mode, iterations=5).initial_set != 0)
  alone = gradient_of(plain, mode, iterations=5)
  np.testing.assert_array_equal(alone.initial_set, 0.0)
  assert np.any(alone.z != 0)


def test_initial_set_learns_through_the_unrolled_loop():
  encoder = set_encoders.SetEncoder(hidden_dim=5, latent_dim=4)
  problem = PROBLEMS['encoder']()._replace(
    energy=energy_lib.squared_distance(set_encoders.encode_with(encoder))
  )
  g = gradient_of(problem, gradients.Unrolled(), iterations=5)
  assert np.any(g.initial_set != 0)


@pytest.mark.parametrize('tolerance', (None, 1e-3))
def test_checkpointed_equals_unrolled(tolerance):
  problem = PROBLEMS['encoder']()
  plain, checkpointed = (
    gradient_of(
      problem,
      gradients.Unrolled(checkpoint=c),
      iterations=30,
      tolerance=tolerance,
    )
    for c in (False, True)
  )
  assert_close(checkpointed, plain, 1e-12)


@pytest.mark.parametrize('momentum', (0.0, 0.9))
def test_unrolled_differentiates_a_few_clipped_steps(momentum):
  problem = PROBLEMS['encoder']()
  run = decoder(
    problem,
    gradients.Unrolled(),
    iterations=3,
    grad_clip=0.02,
    optimizer=inner_step.GradientDescent(1.0, momentum),
  )
  norm = jax.jit(decoder(problem, gradients.Unrolled(), trajectory=True))(
    problem.inputs
  ).residual[0]
  assert np.all(norm > 0.02)
  flat, unravel = ravel_pytree(problem.inputs)
  value = jax.jit(lambda flat: readout(run(unravel(flat)).set))
  g = jax.jit(jax.grad(value))(flat)
  rng = np.random.default_rng(0)
  direction = rng.normal(size=flat.shape)
  ahead, behind = (value(flat + s * 1e-6 * direction) for s in (1, -1))
  np.testing.assert_allclose(
    jnp.vdot(g, direction), (ahead - behind) / 2e-6, rtol=1e-6
  )


@pytest.mark.parametrize(
  'mode', (*APPROXIMATE[3:], gradients.Unrolled()), ids=repr
)
def test_a_broken_set_leaves_the_gradients_of_others_alone(mode):
  problem = PROBLEMS['encoder']()

  @jax.jit
  def gradient(inputs):
    run = decoder(problem, mode, iterations=5)
    return jax.grad(lambda i: readout(run(i).set[:1]))(inputs).z

  inputs = problem.inputs
  clean = gradient(inputs)
  assert np.any(clean[0] != 0)
  np.testing.assert_array_equal(clean[1], 0.0)
  broken = gradient(inputs._replace(z=inputs.z.at[1].set(jnp.nan)))
  np.testing.assert_allclose(broken[0], clean[0], rtol=1e-12)


def test_gradients_can_be_mapped_over_problems():
  """The solvers work under `vmap`, with one set of parameters per problem."""
  problem = PROBLEMS['encoder']()
  mode = gradients.ConjugateGradient(linearize_at='final')
  run = decoder(problem, mode, iterations=5)
  gradient = jax.grad(lambda inputs: readout(run(inputs).set))
  two = jax.tree.map(lambda a: jnp.stack([a, 0.9 * a]), problem.inputs)
  mapped = jax.jit(jax.vmap(gradient))(two)
  for i in range(2):
    one = jax.jit(gradient)(jax.tree.map(lambda a, i=i: a[i], two))
    assert_close(jax.tree.map(lambda a, i=i: a[i], mapped), one, 1e-9)
