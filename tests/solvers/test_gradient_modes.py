"""Gradient modes as values: names, options, refusals."""

import dataclasses
import math

import numpy as np
import pytest

from idspn_jax.solvers import gradients


@pytest.mark.parametrize('name', gradients.MODES)
def test_every_mode_has_a_name_and_can_be_compared(name):
  mode = gradients.gradient_mode(name)
  assert mode == gradients.gradient_mode(name)
  assert hash(mode) == hash(gradients.gradient_mode(name))
  with pytest.raises(dataclasses.FrozenInstanceError):
    mode.linearize_at = 'final'


def test_options_reach_the_mode():
  mode = gradients.gradient_mode('neumann', terms=9, linearize_at='final')
  assert mode == gradients.Neumann(terms=9, linearize_at='final')
  checkpointed = gradients.gradient_mode('unrolled_checkpointed')
  assert checkpointed == gradients.Unrolled(checkpoint=True)


@pytest.mark.parametrize(
  'name,options,message',
  (
    ('newton', {}, "Unknown gradient 'newton'; choose one of jacobian_free"),
    ('neumann', {'gamma': 1.0}, "'neumann' has no such option"),
    ('unrolled', {'linearize_at': 'final'}, 'has no such option'),
    ('dense', {'linearize_at': 'last'}, "linearize_at is 'last'"),
    ('cg', {'iterations': 0}, 'iterations must be an integer of at least 1'),
    ('cg', {'iterations': 3.0}, 'iterations must be an integer .*got 3.0'),
    ('cg', {'iterations': True}, 'iterations must be an integer'),
    ('cg', {'tolerance': math.nan}, 'tolerance must .*got nan'),
    ('cg', {'tolerance': '1e-6'}, "tolerance must .*got '1e-6'"),
    ('gmres', {'restart': 0}, 'restart must be an integer of at least 1'),
    ('gmres', {'restart': math.nan}, 'restart must be an integer'),
    ('normal_cg', {'tolerance': -1.0}, 'tolerance must not be negative'),
    ('neumann', {'terms': -1}, 'terms must be an integer of at least 0'),
    ('neumann', {'terms': '5'}, "terms must be an integer .*got '5'"),
    ('neumann', {'scale': 0.0}, 'scale must be positive'),
    ('neumann', {'scale': math.inf}, 'scale must be positive'),
    ('regularized_cg', {'gamma': 0.0}, 'gamma must be positive'),
    ('regularized_cg', {'gamma': math.inf}, 'gamma must be .*finite'),
    ('dense', {'ridge': -0.1}, 'ridge must not be negative'),
    ('dense', {'ridge': math.nan}, 'ridge must not be negative'),
    ('dense', {'max_growth': 0.0}, 'max_growth must be positive'),
    ('jacobian_free', {'ridge': 0.1}, 'has no such option'),
    ('unrolled', {'checkpoint': 1}, 'checkpoint must be True or False'),
  ),
)
def test_wrong_names_and_options_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    gradients.gradient_mode(name, **options)


def test_main_numbers_are_positional():
  assert gradients.Neumann(5) == gradients.Neumann(terms=5)
  assert gradients.RegularizedConjugateGradient(
    10.0, 4
  ) == gradients.RegularizedConjugateGradient(gamma=10.0, iterations=4)
  for mode in (gradients.ConjugateGradient, gradients.NormalConjugateGradient):
    assert mode(7, 1e-3) == mode(iterations=7, tolerance=1e-3)
  assert gradients.GMRES(2, 9, 1e-3) == gradients.GMRES(
    iterations=2, restart=9, tolerance=1e-3
  )
  assert gradients.Unrolled(True) == gradients.Unrolled(checkpoint=True)
  with pytest.raises(TypeError):
    gradients.Neumann(5, 0.5)


def test_numpy_numbers_become_plain_ones():
  mode = gradients.GMRES(np.int64(5), tolerance=np.float32(0.5))
  assert mode == gradients.GMRES(5, tolerance=0.5)
  assert hash(mode) == hash(gradients.GMRES(5, tolerance=0.5))
  assert type(mode.iterations) is int and type(mode.tolerance) is float


def test_every_solving_mode_has_a_ridge():
  for name in gradients.MODES:
    if issubclass(type(gradients.gradient_mode(name)), gradients.SolvingMode):
      assert gradients.gradient_mode(name, ridge=0.5).ridge == 0.5
    else:
      assert 'unrolled' in name or name == 'jacobian_free'


def test_modes_for_symmetric_systems_are_refused_with_a_projection():
  for name in gradients.MODES:
    mode = gradients.gradient_mode(name)
    gradients.check_applies(mode, projected=False)
    if name in ('cg', 'regularized_cg'):
      with pytest.raises(ValueError, match='NormalConjugateGradient, GMRES'):
        gradients.check_applies(mode, projected=True)
    else:
      gradients.check_applies(mode, projected=True)


@pytest.mark.parametrize('mode', ('unrolled', None, gradients.Unrolled))
def test_what_is_no_mode_is_refused(mode):
  with pytest.raises(ValueError, match='gradient must be a mode such as'):
    gradients.check_applies(mode, projected=False)
