"""Gradient quality as a function of the modes' options and of inner steps."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from idspn_jax.studies import gradient_comparison
from idspn_jax.studies import gradient_quality
from idspn_jax.studies import gradient_settings

ITERATIONS = (1, 2, 5, 10, 20, 50, 100)
GAMMAS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e4)
CG_ITERATIONS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
TERMS = (0, 1, 2, 5, 10, 20, 50, 100, 200)
SCALES = (0.3, 1.0, 1.5)
STARTS = (1, 2, 4, 8)
# Steps that CG takes where γ varies: enough for N·D = 16, whatever γ.
_ENOUGH = 32

Setting = gradient_settings.Setting
Row = dict[str, Any]


def over_iterations(
  quality: gradient_quality.Quality,
  iterations: Sequence[int],
) -> Iterator[Row]:
  """Modes after different numbers of inner steps.

  `Dense` and `JacobianFree` are asked at both points of linearisation.
  """
  for t in iterations:
    for linearize_at in ('penultimate', 'final'):
      point = quality.after(t, linearize_at)
      about = {'iterations': t, 'linearize_at': linearize_at}
      settings = [
        Setting('Jacobian-free', 'jacobian_free'),
        Setting('Dense', 'dense'),
      ]
      if linearize_at == 'penultimate':
        settings += [
          Setting('Neumann, 5 terms', 'neumann', {'terms': 5}),
          Setting(
            'Regularised CG, γ = 0.01',
            'regularized_cg',
            {'gamma': 0.01, 'iterations': 10},
          ),
        ]
      for setting in settings:
        yield quality.compare(setting, point, **about)
    yield quality.compare(
      Setting('Unrolled', 'unrolled'), None, iterations=t, linearize_at=None
    )


def _points(quality):
  """The optimum, and the sets after T steps."""
  yield None, quality.at_optimum()
  t = quality.descent.iterations
  yield t, quality.after(t)


def over_gamma(
  quality: gradient_quality.Quality, gammas: Sequence[float] = GAMMAS
) -> Iterator[Row]:
  """Regularised CG with different γ, as many steps as it needs."""
  for t, point in _points(quality):
    for gamma in gammas:
      options = {'gamma': gamma, 'iterations': _ENOUGH}
      setting = Setting(f'γ = {gamma:g}', 'regularized_cg', options)
      yield quality.compare(setting, point, iterations=t)


def over_cg_iterations(
  quality: gradient_quality.Quality, iterations: Sequence[int] = CG_ITERATIONS
) -> Iterator[Row]:
  """CG with different numbers of steps, without a tolerance."""
  for t, point in _points(quality):
    for steps in iterations:
      options = {'iterations': steps, 'tolerance': 1e-14}
      setting = Setting(f'CG, {steps} steps', 'cg', options)
      yield quality.compare(setting, point, iterations=t)


def over_terms(
  quality: gradient_quality.Quality,
  every: Sequence[int] = TERMS,
  scales: Sequence[float] = SCALES,
) -> Iterator[Row]:
  """The Neumann series with different numbers of terms and scales."""
  for t, point in _points(quality):
    for scale in scales:
      for terms in every:
        options = {'terms': terms, 'scale': scale}
        setting = Setting(f's = {scale:g}', 'neumann', options)
        yield quality.compare(setting, point, iterations=t)


def over_starts(
  quality: gradient_quality.Quality, scale: float, seed: int
) -> Iterator[Row]:
  """Jacobian-free and dense gradients at the winners of several starts."""
  key = jax.random.key(seed)
  for starts in STARTS:
    point, reference = quality.from_starts(starts, scale, key)
    for name, mode in (('Jacobian-free', 'jacobian_free'), ('Dense', 'dense')):
      yield quality.compare(
        Setting(name, mode),
        point,
        reference,
        iterations=quality.descent.iterations,
        linearize_at='final',
        starts=starts,
        counts=reference.counts,
      )


def all_sections(
  quality: gradient_quality.Quality,
  *,
  iterations: Sequence[int] = ITERATIONS,
  settings: Sequence[Setting] = gradient_settings.SETTINGS,
  restart_scale: float = 0.2,
  seed: int = 0,
) -> Iterator[tuple[str, list[Row]]]:
  """Every section's name and rows, one after another as they are computed."""
  sections: dict[str, Callable[[], Any]] = {
    'modes': lambda: gradient_comparison.mode_rows(quality, settings),
    'iterations': lambda: over_iterations(quality, iterations),
    'gamma': lambda: over_gamma(quality, GAMMAS),
    'cg_iterations': lambda: over_cg_iterations(quality, CG_ITERATIONS),
    'neumann': lambda: over_terms(quality, TERMS, SCALES),
    'starts': lambda: over_starts(quality, restart_scale, seed),
  }
  for name, compute in sections.items():
    yield name, list(compute())
