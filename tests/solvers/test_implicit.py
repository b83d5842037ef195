"""What implicit differentiation reports, refuses and runs on."""

import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.ops import simplex
from idspn_jax.solvers import decode
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step

EXACT = (gradients.Dense(), gradients.ConjugateGradient(), gradients.GMRES())
B, N, D, Z = 3, 3, 2, 4


def _features(inputs, y):
  """`0.05 ‖Σ_n (Y_n W)₊ - z‖²`: piecewise quadratic; H has at most rank Z."""
  hidden = jax.nn.relu(jnp.einsum('bnd,dz->bnz', y, inputs.params['w']))
  return 0.05 * jnp.sum(jnp.square(jnp.sum(hidden, 1) - inputs.z), -1)


def make_inputs(batch=B):
  rng = np.random.default_rng(3)
  return energy_lib.Inputs(
    params={
      'w': jnp.asarray(rng.normal(size=(D, Z)), jnp.float32),
      # Not differentiable, as encoders with random streams have them.
      'key': jax.random.key(0),
      'count': jnp.arange(2),
    },
    z=jnp.asarray(rng.normal(size=(batch, Z)), jnp.float32),
    initial_set=jnp.asarray(rng.normal(size=(batch, N, D)), jnp.float32),
    fallbacks=jnp.zeros((batch,)),
  )


def make_loss(mode, energy=_features, projection=None, weight=1.0):
  def loss(fallbacks, z, w, inputs):
    inputs = inputs._replace(
      fallbacks=fallbacks, z=z, params={**inputs.params, 'w': w}
    )
    y = decode.decode(
      energy, inputs, iterations=4, gradient=mode, projection=projection
    ).set
    return jnp.sum(weight * jnp.square(y))

  return loss


def gradients_of(mode, inputs, **options):
  """Of the loss, by `fallbacks`, `z` and the parameters."""
  loss = make_loss(mode, **options)
  return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(
    inputs.fallbacks, inputs.z, inputs.params['w'], inputs
  )


# As many sets as there are, the second with a system that is regular.
def _second_regular(inputs, y):
  pull = 0.1 * jnp.sum(jnp.square(y - inputs.initial_set), (-2, -1))
  return _features(inputs, y) + pull * (jnp.arange(y.shape[0]) == 1)


@pytest.mark.parametrize(
  'mode,scale', [(m, 1.0) for m in EXACT] + [(gradients.Dense(), -1e-3)]
)
def test_the_gradient_of_fallbacks_marks_the_sets(mode, scale):
  inputs = make_inputs()
  computed = gradients_of(mode, inputs, energy=_second_regular, weight=scale)
  np.testing.assert_array_equal(computed[0], (1.0, 0.0, 1.0))
  free = gradients_of(
    gradients.JacobianFree(), inputs, energy=_second_regular, weight=scale
  )
  np.testing.assert_array_equal(free[0], 0.0)
  np.testing.assert_array_equal(computed[1][::2], free[1][::2])
  assert np.any(computed[1][1] != free[1][1])


def test_the_counter_changes_nothing_else():
  inputs, mode = make_inputs(), gradients.Dense()
  computed = gradients_of(mode, inputs, energy=_second_regular)
  without = gradients_of(
    mode,
    inputs._replace(fallbacks=None),
    energy=_second_regular,
  )
  assert without[0] is None
  np.testing.assert_array_equal(without[1], computed[1])


def test_fallbacks_are_counted_with_a_projection_and_a_ridge():
  inputs = make_inputs()
  options = {'energy': _features, 'projection': simplex.project_simplex}
  marked = gradients_of(gradients.Dense(), inputs, **options)
  assert np.all(np.isfinite(marked[2]))
  assert set(np.unique(marked[0])) <= {0.0, 1.0}
  singular = gradients_of(gradients.Dense(), inputs)
  np.testing.assert_array_equal(singular[0], 1.0)
  ridged = gradients_of(gradients.Dense(ridge=0.1), inputs)
  np.testing.assert_array_equal(ridged[0], 0.0)
  assert np.any(ridged[2] != singular[2])


def test_sets_without_a_cotangent_are_not_counted():
  weight = jnp.array([1.0, 0.0, 0.0])[:, None, None]
  marked = gradients_of(gradients.Dense(), make_inputs(), weight=weight)
  np.testing.assert_array_equal(marked[0], (1.0, 0.0, 0.0))


def test_fallbacks_are_counted_under_vmap():
  inputs = make_inputs()
  loss = make_loss(gradients.Dense(), energy=_second_regular)
  gradient = jax.jit(jax.vmap(jax.grad(loss), (None, 0, None, None)))
  marked = gradient(
    inputs.fallbacks, jnp.stack([inputs.z] * 2), inputs.params['w'], inputs
  )
  np.testing.assert_array_equal(marked, [(1.0, 0.0, 1.0)] * 2)


def test_fallbacks_are_counted_inside_shard_map():
  inputs, mode = make_inputs(), gradients.ConjugateGradient()
  expected = gradients_of(mode, inputs, energy=_second_regular)
  mesh = jax.make_mesh((1,), ('data',))
  rows, same = jax.P('data'), jax.P()
  specs = energy_lib.Inputs(same, rows, rows, fallbacks=rows)
  inputs = inputs._replace(params={'w': inputs.params['w']})
  w = jax.device_put(inputs.params, jax.NamedSharding(mesh, same))
  inputs = jax.device_put(inputs, jax.NamedSharding(mesh, rows))
  inputs = inputs._replace(params=w)
  gradient = jax.shard_map(
    jax.grad(make_loss(mode, energy=_second_regular), argnums=(0, 1, 2)),
    mesh=mesh,
    in_specs=(rows, rows, same, specs),
    out_specs=(rows, rows, same),
  )
  computed = jax.jit(gradient)(inputs.fallbacks, inputs.z, w['w'], inputs)
  np.testing.assert_array_equal(computed[0], (1.0, 0.0, 1.0))
  for a, b in zip(computed, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('dtype', ('bfloat16', 'float16'))
def test_low_precision_systems_are_formed_in_float32(dtype):
  """An exact answer magnifies rounding errors of its system."""
  inputs = make_inputs()._replace(fallbacks=None)
  stiff = energy_lib.regularized(_features, 0.05)
  low = jax.tree.map(
    lambda a: a.astype(dtype) if a.dtype == jnp.float32 else a, inputs
  )
  got = gradients_of(gradients.Dense(), low, energy=stiff)[1]
  assert got.dtype == dtype
  same = jax.tree.map(
    lambda a: a.astype('float32') if a.dtype == dtype else a, low
  )
  wanted = gradients_of(gradients.Dense(), same, energy=stiff)[1]
  error = np.linalg.norm(got.astype('float32') - wanted)
  assert error < 0.05 * np.linalg.norm(wanted)


class TestForwardMode:
  def decode(self, z, mode=gradients.Dense()):  # noqa: B008
    inputs = make_inputs()._replace(z=z, fallbacks=None)
    return decode.decode(_features, inputs, iterations=2, gradient=mode).set

  @pytest.mark.parametrize(
    'derivative',
    (
      lambda f, z: jax.jvp(f, (z,), (z,)),
      lambda f, z: jax.jvp(jax.jit(f), (z,), (z,)),
      lambda f, z: jax.jit(lambda z: jax.jvp(f, (z,), (z,)))(z),
      lambda f, z: jax.linearize(f, z)[1](z),
      lambda f, z: jax.jacfwd(f)(z),
      lambda f, z: jax.jit(jax.hessian(lambda z: jnp.sum(f(z))))(z),
    ),
  )
  def test_is_refused_with_the_remedy(self, derivative):
    with pytest.raises(TypeError, match='gradient=Dense .*Unrolled') as info:
      derivative(self.decode, make_inputs().z)
    assert 'reverse' in str(info.value)

  def test_works_unrolled(self):
    z = make_inputs().z
    f = functools.partial(self.decode, mode=gradients.Unrolled())
    _, tangent = jax.jit(lambda z: jax.jvp(f, (z,), (z,)))(z)
    assert np.any(tangent != 0)

  @pytest.mark.parametrize(
    'wrap',
    (
      lambda f: lambda z: jax.vmap(jax.jit(f))(z[None])[0],
      lambda f: lambda z: jax.lax.map(f, z[None])[0],
      jax.checkpoint,
    ),
  )
  def test_refusal_leaves_reverse_mode_alone(self, wrap):
    z = make_inputs().z
    plain, wrapped = (
      jax.jit(jax.grad(lambda z, f=f: jnp.sum(jnp.square(f(z)))))(z)
      for f in (self.decode, wrap(self.decode))
    )
    np.testing.assert_allclose(wrapped, plain, rtol=1e-5, atol=1e-6)


def _hessian(mode):
  def bowl(inputs, y):
    goal = inputs.z.reshape(y.shape)
    quartic = jnp.sum(jnp.square(jnp.square(y)), (-2, -1))
    return 0.5 * jnp.sum(jnp.square(y - goal), (-2, -1)) + 0.05 * quartic

  def value(z):
    inputs = energy_lib.Inputs({}, z, jnp.zeros((2, 2, 1)))
    y = decode.decode(
      bowl,
      inputs,
      iterations=60,
      optimizer=inner_step.GradientDescent(0.7, momentum=0.0),
      gradient=mode,
    ).set
    return jnp.sum(jnp.sin(y))

  z = jnp.array([[0.3, -0.5], [0.8, 0.1]])
  return jax.jit(jax.jacrev(jax.grad(value)))(z)


@pytest.mark.parametrize(
  'mode',
  (
    gradients.Dense(),
    gradients.ConjugateGradient(tolerance=1e-13),
    gradients.NormalConjugateGradient(tolerance=1e-14),
    gradients.GMRES(tolerance=1e-13),
  ),
  ids=repr,
)
def test_reverse_over_reverse_is_the_hessian(x64, mode):
  expected = _hessian(gradients.Unrolled())
  np.testing.assert_allclose(_hessian(mode), expected, rtol=1e-8, atol=1e-10)


def test_import_is_silent_where_warnings_are_errors():
  code = 'import idspn_jax; idspn_jax.decode; idspn_jax.SetDecoder'
  done = subprocess.run(
    [sys.executable, '-W', 'error', '-c', code],
    cwd=energy_lib.__file__.split('idspn_jax')[0],
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr


def test_the_gradient_leaves_a_wrong_vertex_only_straight_through():
  """Toward features whose energy has its minimum at a vertex."""
  goal = jnp.array([[[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]])
  target = jnp.array([[[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]]])

  def energy(inputs, y):
    return 0.5 * jnp.sum(jnp.square(y - inputs.params['goal']), (-2, -1))

  def loss(goal, projection):
    inputs = energy_lib.Inputs(
      {'goal': goal}, jnp.zeros((1, 1)), jnp.full((1, 2, 3), 1 / 3)
    )
    decoded = decode.decode(
      energy,
      inputs,
      iterations=20,
      optimizer=inner_step.GradientDescent(0.5),
      projection=projection,
      gradient=gradients.JacobianFree(),
    )
    return jnp.sum(jnp.square(decoded.set - target)), decoded

  gradient = jax.value_and_grad(loss, has_aux=True)
  (exact, decoded), stuck = gradient(goal, simplex.project_simplex)
  np.testing.assert_array_equal(decoded.set[0], jnp.eye(3)[:2])
  np.testing.assert_array_equal(stuck, 0.0)
  through = simplex.project_simplex_straight_through
  (value, same), moved = gradient(goal, through)
  np.testing.assert_array_equal(same.set, decoded.set)
  assert value == exact == 2.0
  # The first element must become the third class, the second is right.
  np.testing.assert_allclose(moved, [[[2.0, 0.0, -2.0], [0.0] * 3]])
  for _ in range(3):
    goal = goal - gradient(goal, through)[1]
  assert loss(goal, simplex.project_simplex)[0] < 1e-6
