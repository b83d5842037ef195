"""How close each gradient mode is to the exact gradient, on any energy.

Everything is computed in float64. Every implicit mode is asked for its `u` with
the Hessian at hand, which is what `decode` does without building it; `Unrolled`
is differentiated through `decode` itself.

Cosine, norm and errors of a gradient `b` are relative to the exact one `a`:
`a·b / ‖a‖‖b‖`, `‖b‖ / ‖a‖`, `‖b - a‖ / ‖a‖`, and the least of
`‖s b - a‖ / ‖a‖` over `s ≥ 0`, which is what a tuned learning rate leaves.
Those of z are taken set by set, those of the parameters of the whole batch.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.solvers import decode as decode_lib
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step
from idspn_jax.solvers import restarts as restarts_lib
from idspn_jax.studies import gradient_reference as reference_lib
from idspn_jax.studies import gradient_settings

MEASURES = ('cosine', 'norm_ratio', 'error', 'scaled_error')
# Inner steps of the longest trajectory, from whose end optima are sought.
_LONG = 300
# Longest loop that is differentiated without recomputing its steps.
_UNCHECKED = 20


class Descent(NamedTuple):
  """How the inner problem is solved; see `decode`.

  Attributes:
    iterations: T.
    optimizer: the inner optimiser.
    grad_clip: largest norm of a set's gradient, or None.
  """

  iterations: int = 10
  optimizer: inner_step.Optimizer = inner_step.GradientDescent()
  grad_clip: float | None = None

  @property
  def rate(self) -> float:
    """A step size that suits the energy."""
    return getattr(self.optimizer, 'learning_rate', 1.0)

  def run(
    self,
    energy: energy_lib.Energy,
    inputs: energy_lib.Inputs,
    iterations: int,
    **options: Any,
  ) -> decode_lib.Decoded:
    """Decodes with so many steps; options as in `decode`."""
    return decode_lib.decode(
      energy,
      inputs,
      iterations=iterations,
      optimizer=self.optimizer,
      grad_clip=self.grad_clip,
      **options,
    )


class Point(NamedTuple):
  """Where a mode is asked for its gradient.

  Attributes:
    y: the sets at which the energy's derivatives are taken, `(B, N, D)`.
    hessian: there, `(B, N·D, N·D)`.
    v: gradient of the loss at the sets that are returned, `(B, N, D)`.
  """

  y: jax.Array
  hessian: jax.Array
  v: jax.Array


def measures(exact: np.ndarray, other: np.ndarray) -> dict[str, np.ndarray]:
  """Compares gradients row by row.

  Args:
    exact: `(R, P)`.
    other: `(R, P)`.

  Returns:
    Every one of `MEASURES`, `(R,)`; NaN where the exact gradient is zero or
    the other one is not finite.
  """
  dot = np.sum(exact * other, axis=-1)
  a, b = (np.linalg.norm(x, axis=-1) for x in (exact, other))
  with np.errstate(all='ignore'):
    cosine = np.clip(dot / (a * b), -1.0, 1.0)
    error = np.linalg.norm(other - exact, axis=-1) / a
    # Without the cancellation of 1 - cosine².
    best = np.maximum(dot / b**2, 0.0)[..., None] * other
    scaled = np.linalg.norm(best - exact, axis=-1) / a
    found = dict(zip(MEASURES, (cosine, b / a, error, scaled), strict=True))
  bad = ~np.isfinite(b) | (a == 0)
  return {name: np.where(bad, np.nan, value) for name, value in found.items()}


def leaves_by_name(tree: Any) -> dict[str, jax.Array]:
  """The leaves of a gradient by parameters, named by their paths."""
  found = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {
    jax.tree_util.keystr(path, simple=True, separator='/') or 'params': leaf
    for path, leaf in found
  }


@functools.cache
def _solver(mode: gradients.Implicit) -> Callable:
  """A mode's `(H, v)` to `u`; problems of one shape share the program."""

  @jax.jit
  def solve(hessian, v):
    def product(u):
      flat = u.reshape(*hessian.shape[:2], 1)
      return (hessian @ flat).reshape(u.shape)

    return mode.solve(product, v)

  return solve


class Quality:
  """Compares gradients of one problem; all methods need 64-bit mode.

  Attributes:
    problem: in float64.
    descent: of the inner problem.
    reference: the optima of the trajectory from the initial set.
  """

  def __init__(
    self,
    problem: reference_lib.Problem,
    descent: Descent,
    longest: int = _LONG,
  ):
    """Descends, finds the optima, and differentiates them.

    Args:
      problem: what is studied, of any precision.
      descent: of the inner problem.
      longest: most inner steps that will be asked for.

    Raises:
      ValueError: if shapes do not fit or sets are too large for Hessians.
    """
    inputs = reference_lib.in_float64(problem.inputs)
    self.problem = problem._replace(
      energy=energy_lib.checked(problem.energy),
      inputs=inputs,
      loss=reference_lib.checked_loss(problem.loss),
    )
    self.descent = descent
    self._solver = reference_lib.Solver(self.problem, descent.rate)
    energy = self.problem.energy
    longest = max(longest, descent.iterations, 1)
    run = jax.jit(
      lambda inputs: descent.run(energy, inputs, longest, trajectory=True)
    )
    found = run(inputs)
    self.trajectory = found.trajectory
    self.residuals = np.asarray(found.residual)
    self.reference = self._solver(found.set)
    self._hessians = jax.jit(functools.partial(reference_lib.hessians, energy))
    self._pull_back = jax.jit(
      functools.partial(reference_lib.pull_back, energy)
    )
    self._v = jax.jit(
      functools.partial(reference_lib.loss_gradient, self.problem.loss)
    )

  def at_optimum(self) -> Point:
    """The optima: what differs from the exact gradient is the mode's own."""
    found = self.reference
    return Point(found.y, found.hessian, found.v)

  def after(self, iterations: int, linearize_at: str = 'penultimate') -> Point:
    """What a mode gets after so many inner steps; see `gradients`."""
    back = linearize_at == 'penultimate' and iterations > 0
    y = self.trajectory[iterations - back]
    v = self._v(self.trajectory[iterations])
    return Point(y, self._hessians(self.problem.inputs, y), v)

  def from_starts(
    self, starts: int, scale: float, key: jax.Array
  ) -> tuple[Point, reference_lib.Reference]:
    """The winners of several starts, linearised at the last set.

    Returns:
      The point, and the optima that these sets lead to.
    """
    restarts = restarts_lib.Restarts(starts, scale)
    y = jax.jit(
      lambda inputs, key: (
        self.descent.run(
          self.problem.energy,
          inputs,
          self.descent.iterations,
          restarts=restarts,
          key=key,
        ).set
      )
    )(self.problem.inputs, key)
    point = Point(y, self._hessians(self.problem.inputs, y), self._v(y))
    return point, self._solver(y)

  def _implicit(self, mode, point, exact):
    u, failed = _solver(mode)(point.hessian, point.v)
    gradient = self._pull_back(
      self.problem.inputs, point.y, u, jnp.asarray(exact)
    )
    return gradient, int(np.sum(np.asarray(failed) & exact))

  def _unrolled(self, iterations, exact):
    problem = self.problem
    mode = gradients.Unrolled(checkpoint=iterations > _UNCHECKED)

    @jax.jit
    def gradient(inputs, exact):
      def decoded(inputs):
        return self.descent.run(
          problem.energy, inputs, iterations, gradient=mode
        ).set

      inputs = reference_lib.standing_in(exact, inputs)
      y, transpose = jax.vjp(decoded, inputs)
      v = reference_lib.loss_gradient(problem.loss, y)
      found = transpose(jnp.where(exact[:, None, None], v, 0.0))[0]
      return reference_lib.without_integers(found)

    return gradient(problem.inputs, jnp.asarray(exact))

  def compare(
    self,
    setting: gradient_settings.Setting,
    point: Point | None,
    reference: reference_lib.Reference | None = None,
    **about: Any,
  ) -> dict[str, Any]:
    """Compares a mode's gradient with the exact one.

    Args:
      setting: the mode. `Unrolled` is run for `iterations` of `about`.
      point: where an implicit mode is asked.
      reference: the optima; by default those of the trajectory.
      **about: what the row says besides, such as `iterations`.

    Returns:
      A row: what was compared, the number of `sets` that count, of
      `fallbacks` among them, and every one of `MEASURES` of `z` (median and
      quartiles over sets), of all `parameters` together (`theta`), and of
      each. None where there is no number; there is none where all sets that
      count fell back, which the mode's own gradient has no part in.
    """
    reference = reference or self.reference
    exact = reference.exact
    mode = setting.build()
    fallbacks = None
    if isinstance(mode, gradients.Unrolled):
      found = self._unrolled(about['iterations'], exact)
    else:
      found, fallbacks = self._implicit(mode, point, exact)
    row = {
      'setting': setting.label,
      'mode': setting.mode,
      'options': dict(setting.options),
      **about,
      'sets': int(np.sum(exact)),
      'fallbacks': fallbacks,
    }
    found = compared(reference.gradient, found, exact)
    if fallbacks and fallbacks == row['sets']:
      found = _without_numbers(found)
    return {**row, **found}


def _without_numbers(found):
  if isinstance(found, dict):
    return {name: _without_numbers(value) for name, value in found.items()}
  return None


def _flat(array, rows):
  return np.asarray(array).reshape(rows, -1)


def compared(
  exact: energy_lib.Inputs, other: energy_lib.Inputs, counted: np.ndarray
) -> dict[str, Any]:
  """The measures of z, of all parameters, and of each.

  Args:
    exact: gradient with respect to all inputs.
    other: likewise.
    counted: which sets count for z, `(B,)` booleans.
  """
  rows = len(counted)
  of_z = measures(_flat(exact.z, rows), _flat(other.z, rows))
  found = {'z': {k: quartiles(v[counted]) for k, v in of_z.items()}}
  groups = []
  for gradient in (exact, other):
    leaves = leaves_by_name(gradient.params)
    # Shared by all sets if it is learned.
    leaves['initial_set'] = jnp.sum(gradient.initial_set, axis=0)
    groups.append({name: _flat(leaf, 1) for name, leaf in leaves.items()})
  each = {
    name: _numbers(measures(groups[0][name], groups[1][name]))
    for name in groups[0]
  }
  names = [name for name in each if name != 'initial_set']
  # Without any parameters there is nothing, and no number.
  whole = [
    np.concatenate([np.zeros((1, 0)), *(g[n] for n in names)], axis=1)
    for g in groups
  ]
  return {
    **found,
    'theta': _numbers(measures(*whole)),
    'parameters': each,
  }


def _numbers(found):
  values = {name: float(value[0]) for name, value in found.items()}
  return {k: v if np.isfinite(v) else None for k, v in values.items()}


def quartiles(values: np.ndarray) -> dict[str, float | None]:
  """Median and quartiles of the finite values; None without any."""
  values = values[np.isfinite(values)]
  names = ('q25', 'median', 'q75')
  if not values.size:
    return dict.fromkeys(names)
  found = np.percentile(values, (25, 50, 75))
  return dict(zip(names, map(float, found), strict=True))
