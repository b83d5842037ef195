"""Gradient modes as values: names, options, refusals."""

import dataclasses

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
    ('cg', {'iterations': 0}, 'iterations must be at least 1'),
    ('gmres', {'restart': 0}, 'restart must be at least 1'),
    ('normal_cg', {'tolerance': -1.0}, 'tolerance must not be negative'),
    ('neumann', {'terms': -1}, 'terms must not be negative'),
    ('regularized_cg', {'gamma': 0.0}, 'gamma must be positive'),
  ),
)
def test_wrong_names_and_options_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    gradients.gradient_mode(name, **options)


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
