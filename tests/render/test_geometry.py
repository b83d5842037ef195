"""Rays and rounded shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.render import constants
from idspn_jax.render import geometry
from idspn_jax.render import vectors

SHAPES = (constants.SPHERE, constants.CUBE, constants.CYLINDER)


def solid(shape):
  return geometry.Solid(
    center=(jnp.float32(0.3), jnp.float32(-0.2), jnp.float32(0.7)),
    radius=jnp.float32(0.7),
    cosine=jnp.cos(jnp.float32(0.5)),
    sine=jnp.sin(jnp.float32(0.5)),
    shape=jnp.int32(shape),
  )


def rays(rng, count=4000):
  """Rays from far away to points around the solid."""
  start = rng.normal(size=(3, count))
  start = 6 * start / np.linalg.norm(start, axis=0)
  end = np.array([0.3, -0.2, 0.7])[:, None] + rng.uniform(-1, 1, (3, count))
  to = end - start
  return (
    tuple(jnp.asarray(start, jnp.float32)),
    tuple(jnp.asarray(to, jnp.float32)),
  )


@pytest.mark.parametrize('shape', SHAPES)
class TestHit:
  def test_is_on_the_surface(self, shape, rng):
    origin, direction = rays(rng)
    t = geometry.hit(shape, solid(shape), origin, direction)
    there = vectors.along(origin, direction, t)
    p = np.stack(geometry.point_to_frame(solid(shape), there))
    p = p[:, np.asarray(t) < geometry.FAR]
    assert p.shape[1] > 500
    if shape == constants.SPHERE:
      gap = np.linalg.norm(p, axis=0) - 1
    elif shape == constants.CUBE:
      gap = np.linalg.norm(np.maximum(np.abs(p) - 0.8, 0), axis=0) - 0.2
    else:
      flat = np.stack([np.hypot(p[0], p[1]), np.abs(p[2])]) - 0.94
      gap = np.linalg.norm(np.maximum(flat, 0), axis=0) - 0.06
    assert np.max(np.abs(gap)) < 0.01

  def test_clearance_tells_who_hits(self, shape, rng):
    origin, direction = rays(rng)
    t = geometry.hit(shape, solid(shape), origin, direction)
    gap, nearest = geometry.clearance(shape, solid(shape), origin, direction)
    clear = np.abs(np.asarray(gap)) > 0.06
    hit = np.asarray(t) < geometry.FAR
    agree = (np.asarray(gap) < 0) == hit
    assert np.mean(clear) > 0.6
    assert np.mean(agree[clear]) > 0.995
    assert np.all(np.asarray(nearest)[hit] > 0)

  def test_may_hit_misses_no_hit(self, shape, rng):
    origin, direction = rays(rng)
    direction = vectors.normalize(direction)
    t = geometry.hit(shape, solid(shape), origin, direction)
    may = geometry.may_hit(solid(shape), origin, direction)
    assert np.all(np.asarray(may)[np.asarray(t) < geometry.FAR])

  def test_normals_are_the_surface_s_gradient(self, shape):
    point = tuple(jnp.float32(v) for v in (0.31, -0.52, 0.95))
    scale = {constants.SPHERE: 1 / np.sqrt(0.31**2 + 0.52**2 + 0.95**2)}
    point = vectors.scale(point, jnp.float32(scale.get(shape, 1.0)))
    found = np.stack(geometry.normal(shape, point))
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)
    expected = {
      constants.SPHERE: np.stack(point),
      constants.CUBE: [0, 0, 1],
      constants.CYLINDER: [0, 0, 1],
    }
    np.testing.assert_allclose(found, expected[shape], atol=1e-6)


def test_switch_takes_the_solid_s_own_shape():
  for shape in SHAPES:
    found = jax.jit(lambda s: geometry.switch(s, lambda kind: jnp.int32(kind)))(
      solid(shape)
    )
    assert int(found) == shape
