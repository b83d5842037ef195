"""Gradient quality against closed forms that a person can check."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import idspn_jax as ij
from idspn_jax.solvers import gradients
from idspn_jax.studies import gradient_quality
from idspn_jax.studies import gradient_reference
from idspn_jax.studies import gradient_settings

SHAPE = (3, 2, 2)
SIZE = 4
DESCENT = gradient_quality.Descent(10, ij.GradientDescent(0.4, 0.5))
Setting = gradient_settings.Setting
EXACT = (
  Setting('Dense', 'dense'),
  Setting('CG', 'cg', {'tolerance': 1e-14}),
  Setting('Normal CG', 'normal_cg', {'tolerance': 1e-14}),
  Setting('GMRES', 'gmres', {'tolerance': 1e-14}),
)


def energy(inputs, y):
  """`½ yᵀ P y - zᵀ y`: its minimum is `P⁻¹ z`."""
  flat = y.reshape(y.shape[0], -1)
  return jnp.einsum('bi,ij,bj->b', flat, 0.5 * inputs.params, flat) - jnp.sum(
    flat * inputs.z, axis=-1
  )


def matrix(rng, low=0.5, high=1.8):
  """A symmetric matrix with these extreme eigenvalues."""
  q, _ = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))
  return q @ np.diag(np.linspace(low, high, SIZE)) @ q.T


def symmetric_products(a, b):
  """`Σ ½ (a bᵀ + b aᵀ)` over sets."""
  return 0.5 * (a.T @ b + b.T @ a)


@pytest.fixture(scope='module')
def quadratic():
  """A matrix P, vectors z and c, and the problem with the loss `c·Y`."""
  rng = np.random.default_rng(5)
  p, z = matrix(rng), rng.normal(size=(SHAPE[0], SIZE))
  c = rng.normal(size=SHAPE)
  inputs = ij.Inputs(p, z, np.zeros(SHAPE))
  return (
    p,
    z,
    c.reshape(SHAPE[0], SIZE),
    gradient_reference.Problem(
      energy, inputs, lambda y: jnp.sum(c * y, axis=(-2, -1))
    ),
  )


@pytest.fixture(scope='module')
def prepared(quadratic):
  with jax.enable_x64(True):
    return gradient_quality.Quality(quadratic[-1], DESCENT, longest=200)


@pytest.fixture
def quality(prepared, x64):
  return prepared


def gradient_of(quality, setting, point=None, iterations=10):
  """What a setting's gradient is, `(z, params)`, and its row."""
  found = {}
  compared = gradient_quality.compared

  def keep(exact, other, counted):
    found['gradient'] = other
    return compared(exact, other, counted)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(gradient_quality, 'compared', keep)
    row = quality.compare(setting, point, iterations=iterations)
  gradient = found['gradient']
  return np.asarray(gradient.z), np.asarray(gradient.params), row


class TestClosedForms:
  def test_exact_gradient(self, quality, quadratic):
    p, z, c, _ = quadratic
    reference = quality.reference
    assert reference.counts['exact'] == SHAPE[0]
    u = np.linalg.solve(p, c.T).T
    y = np.linalg.solve(p, z.T).T
    np.testing.assert_allclose(
      reference.y.reshape(y.shape), y, rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(reference.gradient.z, u, rtol=1e-10, atol=1e-12)
    # -uᵀ ∂(½ (P + Pᵀ) y - z)/∂P, symmetric.
    of_p = -symmetric_products(u, y)
    np.testing.assert_allclose(
      reference.gradient.params, of_p, rtol=1e-10, atol=1e-12
    )

  @pytest.mark.parametrize('setting', EXACT, ids=lambda s: s.label)
  def test_exact_modes_at_the_optimum(self, quality, quadratic, setting):
    p, _, c, _ = quadratic
    of_z, _, row = gradient_of(quality, setting, quality.at_optimum())
    np.testing.assert_allclose(
      of_z, np.linalg.solve(p, c.T).T, rtol=1e-10, atol=1e-11
    )
    assert row['theta']['error'] < 1e-10
    assert row['theta']['cosine'] == pytest.approx(1.0, abs=1e-12)

  def test_jacobian_free(self, quality, quadratic):
    p, z, c, _ = quadratic
    setting = Setting('free', 'jacobian_free')
    of_z, of_p, row = gradient_of(quality, setting, quality.at_optimum())
    np.testing.assert_allclose(of_z, c, rtol=1e-12)
    y = np.linalg.solve(p, z.T).T
    own = -symmetric_products(c, y)
    np.testing.assert_allclose(of_p, own, rtol=1e-9, atol=1e-11)
    u = np.linalg.solve(p, c.T).T
    cosine = np.sum(c * u, 1) / np.linalg.norm(c, axis=1)
    cosine /= np.linalg.norm(u, axis=1)
    assert row['z']['cosine']['median'] == pytest.approx(np.median(cosine))
    ratio = np.linalg.norm(c, axis=1) / np.linalg.norm(u, axis=1)
    assert row['z']['norm_ratio']['median'] == pytest.approx(np.median(ratio))


class TestLimits:
  def errors(self, quality, settings, measure='error'):
    point = quality.at_optimum()
    rows = [quality.compare(s, point, iterations=None) for s in settings]
    return [row['theta'][measure] for row in rows]

  def test_cg_converges_to_dense(self, quality):
    settings = [
      Setting('', 'cg', {'iterations': k, 'tolerance': 0.0})
      for k in range(1, 5)
    ]
    found = self.errors(quality, settings)
    assert found == sorted(found, reverse=True)
    assert found[0] > 1e-3 and found[-1] < 1e-12

  def test_large_gamma_is_jacobian_free(self, quality, quadratic):
    point = quality.at_optimum()
    free, _, _ = gradient_of(quality, Setting('', 'jacobian_free'), point)
    differences = []
    for gamma in (1.0, 100.0, 1e4, 1e6):
      setting = Setting('', 'regularized_cg', {'gamma': gamma, 'iterations': 8})
      of_z, _, _ = gradient_of(quality, setting, point)
      differences.append(np.max(np.abs(of_z - free)))
    assert differences == sorted(differences, reverse=True)
    assert differences[-1] < 1e-5 * np.max(np.abs(free))

  def test_small_gamma_points_along_dense(self, quality):
    settings = [
      Setting('', 'regularized_cg', {'gamma': g, 'iterations': 8})
      for g in (1.0, 0.1, 1e-2, 1e-4)
    ]
    found = self.errors(quality, settings, 'scaled_error')
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-3

  def test_neumann_converges_where_it_does(self, quality):
    found = self.errors(
      quality, [Setting('', 'neumann', {'terms': k}) for k in (0, 5, 20, 80)]
    )
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-6  # 0.8 ** 81, of the eigenvalues 0.5 to 1.8.
    # Beyond 2 / 1.8 the series diverges, and every set falls back.
    setting = Setting('', 'neumann', {'terms': 80, 'scale': 1.2})
    row = quality.compare(setting, quality.at_optimum(), iterations=None)
    assert row['fallbacks'] == SHAPE[0]

  def test_unrolled_converges_to_exact(self, quality):
    setting = Setting('Unrolled', 'unrolled')
    found = [
      quality.compare(setting, None, iterations=t)['theta']['error']
      for t in (2, 10, 80)
    ]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 1e-10


@pytest.mark.parametrize('linearize_at', gradients.LINEARIZE_AT)
@pytest.mark.parametrize(
  'setting',
  [s for s in gradient_settings.SETTINGS if s.mode != 'unrolled'],
  ids=lambda s: s.label,
)
def test_gradients_are_those_of_decode(
  quality, quadratic, setting, linearize_at
):
  """The study asks the modes with the Hessian at hand; `decode` without."""
  problem = quality.problem
  t = 3

  def total(inputs):
    found = DESCENT.run(
      problem.energy,
      inputs,
      t,
      gradient=setting.build(linearize_at=linearize_at),
    )
    return jnp.sum(problem.loss(found.set))

  expected = jax.jit(jax.grad(total))(problem.inputs)
  point = quality.after(t, linearize_at)
  of_z, of_p, _ = gradient_of(quality, setting, point)
  np.testing.assert_allclose(of_z, expected.z, rtol=1e-9, atol=1e-12)
  np.testing.assert_allclose(of_p, expected.params, rtol=1e-9, atol=1e-12)


class TestWhereExactMeansLittle:
  """Such sets are counted, and there is no number."""

  def compare(self, energy, params, z, y=None, **options):
    shape = (len(z), 2, 1)
    inputs = ij.Inputs(params, z, jnp.ones(shape) if y is None else y)
    return ij.compare_gradients(
      energy,
      inputs,
      lambda y: jnp.sum(y, axis=(-2, -1)),
      optimizer=ij.GradientDescent(0.2, 0.0),
      settings=[Setting('Dense', 'dense')],
      **options,
    )

  def check(self, found, status):
    assert found.counts[status] == sum(found.counts.values()) == 2
    for row in found.rows:
      assert row['sets'] == 0
      assert row['theta']['cosine'] is None
      assert row['z']['cosine']['median'] is None
    assert f'2 {status}' in found.text()

  def test_singular(self):
    def flat(inputs, y):
      return 0.5 * jnp.square(jnp.sum(y, (-2, -1)) - inputs.z[:, 0])

    found = self.compare(flat, jnp.zeros(()), jnp.ones((2, 1)))
    self.check(found, 'singular')
    assert found.reference.rank.tolist() == [1, 1]

  def test_at_a_kink(self):
    def kinked(inputs, y):
      smooth = 0.5 * jnp.sum(jnp.square(y - inputs.z[:, None]), (-2, -1))
      return smooth + 3.0 * jnp.abs(y[:, 0, 0])

    z = jnp.ones((2, 1))
    margins = lambda inputs, y: y[:, 0]  # noqa: E731
    found = self.compare(kinked, jnp.zeros(()), z, margins=margins)
    self.check(found, 'at a kink')
    assert np.all(found.reference.kink < 1e-6)
    # Where the kinks are not known, all that can be said is this.
    found = self.compare(kinked, jnp.zeros(()), z)
    self.check(found, 'not converged')
    assert np.all(np.isnan(found.reference.kink))

  def test_indefinite(self):
    def saddle(inputs, y):
      a, b = y[:, 0, 0], y[:, 1, 0]
      return 0.5 * a**2 * inputs.z[:, 0] - 0.5 * b**2

    y = jnp.zeros((2, 2, 1))
    found = self.compare(saddle, jnp.zeros(()), jnp.ones((2, 1)), y)
    self.check(found, 'indefinite')

  def test_not_finite(self):
    def broken(inputs, y):
      return jnp.sum(jnp.log(inputs.z[:, :, None] - y), (-2, -1))

    found = self.compare(broken, jnp.zeros(()), jnp.zeros((2, 1)))
    self.check(found, 'not finite')

  def test_without_a_loss(self):
    z, shape = jnp.ones((2, SIZE)), (2, 2, 2)
    found = ij.compare_gradients(
      energy,
      ij.Inputs(jnp.eye(SIZE), z, jnp.zeros(shape)),
      lambda y: 0.0 * jnp.sum(y, (-2, -1)),
      settings=[Setting('Dense', 'dense')],
      optimizer=ij.GradientDescent(0.5, 0.0),
    )
    self.check(found, 'no gradient')

  def test_others_are_compared(self):
    def mixed(inputs, y):
      first = jnp.sum(jnp.square(y), (-2, -1))
      return inputs.z[:, 0] * first

    z = jnp.array([[1.0], [0.0], [2.0]])
    found = self.compare(mixed, jnp.zeros(()), z)
    assert found.counts['exact'] == 2 and found.counts['singular'] == 1
    assert found.reference.exact.tolist() == [True, False, True]
    assert found.rows[0]['sets'] == 2


def test_precision_of_the_caller_stays():
  z = jnp.ones((2, SIZE), jnp.float32)
  found = ij.compare_gradients(
    energy,
    ij.Inputs(jnp.eye(SIZE), z, jnp.zeros((2, 2, 2))),
    lambda y: jnp.sum(jnp.square(y), (-2, -1)),
    settings=[Setting('Jacobian-free', 'jacobian_free')],
    optimizer=ij.GradientDescent(0.5, 0.0),
  )
  assert found.reference.y.dtype == np.float64
  assert jnp.ones(()).dtype == np.float32
  # H is the identity.
  assert found.rows[0]['theta']['error'] < 1e-12


def test_sets_too_large_are_refused():
  inputs = ij.Inputs(jnp.zeros(()), jnp.zeros((1, 1)), jnp.zeros((1, 1025, 1)))
  with pytest.raises(ValueError, match='1024'):
    ij.compare_gradients(
      lambda inputs, y: jnp.sum(y, (-2, -1)),
      inputs,
      lambda y: jnp.sum(y, (-2, -1)),
      iterations=1,
    )


def test_kink_distance_is_the_distance_to_the_plane():
  y = jnp.array([[[3.0, 4.0]], [[1.0, 0.0]]])
  inputs = ij.Inputs(jnp.zeros(()), jnp.zeros((2, 1)), y)

  def margins(inputs, y):
    flat = y[:, 0]
    return jnp.stack([3 * flat[:, 0] + 4 * flat[:, 1], 0 * flat[:, 0]], axis=-1)

  found = gradient_reference.kink_distance(margins, inputs, y)
  np.testing.assert_allclose(found, [5.0, 0.6], rtol=1e-6)


def test_measures_by_hand():
  exact = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
  other = np.array([[6.0, 8.0], [-1.0, 0.0], [1.0, 1.0], [np.nan, 0.0]])
  found = gradient_quality.measures(exact, other)
  np.testing.assert_allclose(found['cosine'], [1, -1, np.nan, np.nan])
  np.testing.assert_allclose(found['norm_ratio'], [2, 1, np.nan, np.nan])
  np.testing.assert_allclose(found['error'], [1, 2, np.nan, np.nan])
  # No positive factor brings an opposite gradient closer.
  np.testing.assert_allclose(
    found['scaled_error'], [0, 1, np.nan, np.nan], atol=1e-15
  )


def test_settings_are_modes_of_the_library():
  for setting in gradient_settings.SETTINGS:
    assert isinstance(setting.build(), gradients.Implicit | gradients.Unrolled)
  labels = [setting.label for setting in gradient_settings.SETTINGS]
  assert len({*labels}) == len(labels)
  kinds = {setting.mode for setting in gradient_settings.SETTINGS}
  # Recomputing steps changes no gradient.
  assert kinds == set(gradients.MODES) - {'unrolled_checkpointed'}
