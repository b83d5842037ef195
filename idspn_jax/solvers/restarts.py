"""Several starts of the inner optimisation, chosen by energy.

Most of the loss that is left after training sits in a few sets whose inner
minimisation ends in a poor local minimum. The energy needs no target and tells
most of them: each set is decoded from several starts, and the one of least
energy is kept.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from idspn_jax.ops import batch_noise
from idspn_jax.ops import varying
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import inner_loop
from idspn_jax.solvers import option_checks
from idspn_jax.solvers import per_set

Solve = Callable[[energy_lib.Inputs, jax.Array], inner_loop.Run]
# `((Y_0, key), inputs)` to a run.
Solver = Callable[[Any, energy_lib.Inputs], inner_loop.Run]
# The axis, or axes, over which a batch is divided.
Axis = str | Sequence[str] | None


@dataclasses.dataclass(frozen=True)
class Restarts:
  """How many starts each set gets, and how they are drawn.

  Start 0 is the initial set `Y_0` itself. The noise of start `k` is drawn from
  `jax.random.fold_in(key, k)`, so it does not depend on the number of starts.
  The winner of a set is the start whose last set `Y_T` has the least energy
  without the regulariser. A non-finite energy loses to a finite one; of equal
  energies the first wins. The regulariser pulls all starts toward `Y_0`.

  Attributes:
    starts: number of starts K; 1 is the decoder without restarts.
    scale: standard deviation of the noise, in units of the set's features.
      `SetDecoder(initial_set='normal')` takes its `initial_scale` instead.
    around_initial_set: whether the noise is added to `Y_0`; if not, a start is
      the noise alone. `SetDecoder(initial_set='normal')` draws fresh samples.
    parallel: run all starts side by side, with K times the memory, instead of
      one after another, with the memory of one.
    keep_all: also report the set that every start reached.
  """

  starts: int = 4
  scale: float = 0.2
  around_initial_set: bool = True
  parallel: bool = False
  keep_all: bool = False

  def __post_init__(self):
    option_checks.store(
      self,
      starts=option_checks.integer('starts', self.starts, least=1),
      scale=option_checks.number('scale', self.scale, positive=False),
      **{
        name: option_checks.flag(name, getattr(self, name))
        for name in ('around_initial_set', 'parallel', 'keep_all')
      },
    )


def check(restarts: Restarts | None, key: jax.Array | None) -> None:
  """Refuses what is no `Restarts`, and several starts without a key.

  Raises:
    ValueError: naming the remedy.
  """
  if restarts is None:
    return
  if not isinstance(restarts, Restarts):
    raise ValueError(
      f'restarts must be a Restarts such as Restarts(4); got {restarts!r}.'
    )
  if restarts.starts > 1 and key is None:
    raise ValueError(
      f'Restarts({restarts.starts}) draws its starts at random; give decode '
      'key=jax.random.key(0), or SetDecoder rngs={"initial_set": key}.'
    )


def _start(restarts, axis, y, key, k):
  """Start `k`, `(B, N, D)`; `k` may be traced."""
  if isinstance(k, int) and k == 0:
    return y
  noise = batch_noise.normal_rows(
    jax.random.fold_in(key, k), y.shape, y.dtype, axis
  )
  noise = varying.vary_like(restarts.scale * noise, y)
  if restarts.around_initial_set:
    noise = y + noise
  return jnp.where(k == 0, y, noise)


def _each(choose, *runs):
  """Applies `choose(batch_axis, *arrays)` to all arrays of runs."""
  paths = [run.trajectory for run in runs]
  rest = [run._replace(trajectory=None) for run in runs]
  chosen = jax.tree.map(lambda *arrays: choose(0, *arrays), *rest)
  if paths[0] is None:
    return chosen
  return chosen._replace(trajectory=choose(1, *paths))


def _along(flags, axis, ndim):
  """`(B,)` in the shape to choose between arrays with that batch axis."""
  return jnp.expand_dims(flags, [i for i in range(ndim) if i != axis])


def _order(energies):
  """What the least of is chosen: every non-finite energy comes last."""
  return jnp.where(jnp.isfinite(energies), energies, jnp.inf)


def _one_after_another(one, count, keep_all, reference):
  """All starts in one loop, so that its body is the only program."""

  def body(k, carry):
    run, winner, least, energies, sets = carry
    other, energy = one(k)
    order = _order(energy)
    better = (k == 0) | (order < least)

    def choose(axis, new, old):
      return jnp.where(_along(better, axis, new.ndim), new, old)

    return (
      _each(choose, other, run),
      jnp.where(better, k.astype(winner.dtype), winner),
      jnp.where(better, order, least),
      energies.at[k].set(energy),
      sets.at[k].set(other.final) if keep_all else None,
    )

  def empty(array, *leading):
    zeros = jnp.zeros((*leading, *array.shape), array.dtype)
    return varying.vary_like(zeros, reference)

  run, energy = jax.eval_shape(one, jnp.int32(0))
  carry = (
    jax.tree.map(empty, run),
    empty(run.steps),
    empty(energy),
    empty(energy, count),
    empty(run.final, count) if keep_all else None,
  )
  run, winner, _, energies, sets = jax.lax.fori_loop(0, count, body, carry)
  return run._replace(winner=winner, energies=energies, sets=sets)


def _single(one, keep_all):
  run, energy = one(0)
  return run._replace(
    winner=jnp.zeros_like(run.steps),
    energies=energy[None],
    sets=run.final[None] if keep_all else None,
  )


def _side_by_side(one, count, keep_all, reference):
  del reference
  runs, energies = jax.vmap(one)(jnp.arange(count))
  winner = jnp.argmin(_order(energies), axis=0).astype(runs.steps.dtype)

  def choose(axis, array):
    index = _along(winner, axis + 1, array.ndim)
    return jnp.take_along_axis(array, index, axis=0)[0]

  return _each(choose, runs)._replace(
    winner=winner, energies=energies, sets=runs.final if keep_all else None
  )


class Search(NamedTuple):
  """Makes solvers with several starts, `((Y_0, key), inputs)` to a `Run`.

  Attributes:
    step: the inner step of the solvers.
    projection: of the starts, or None.
    energy: what is minimised.
    restarts: how many starts, and how they are drawn; None for one.
    axis: the mapped axis over which the batch is divided, or None.
  """

  step: per_set.Step
  projection: per_set.Projection | None
  energy: energy_lib.Energy
  restarts: Restarts | None
  axis: Axis = None

  def _from(self, solve, y, inputs):
    return solve(inputs, y if self.projection is None else self.projection(y))

  def best(self, solve: Solve) -> Solver:
    """Runs a solver from all starts and keeps the best run of every set.

    Args:
      solve: `(inputs, Y_0)` to a `Run`.

    Returns:
      A solver whose runs have `winner`, `energies` and `sets`, unless there
      are no restarts.
    """
    restarts = self.restarts
    if restarts is None:
      return lambda initial, inputs: self._from(solve, initial[0], inputs)
    judge = energy_lib.unregularized(self.energy)
    method = _side_by_side if restarts.parallel else _one_after_another

    def best(initial, inputs):
      def one(k):
        run = self._from(
          solve, _start(restarts, self.axis, *initial, k), inputs
        )
        return run, judge(inputs, run.final)

      if restarts.starts == 1:
        return _single(one, restarts.keep_all)
      run = method(one, restarts.starts, restarts.keep_all, initial[0])
      return inner_loop.retake_last_step(self.step, inputs, run)

    return best

  def then_solve(self, best: Solver, solve: Solve) -> Solver:
    """For a solver whose steps are differentiated: finds the winners without
    derivative, then runs from their starts again, with derivative.

    Args:
      best: from `best`.
      solve: the solver to differentiate, `(inputs, Y_0)` to a `Run`.

    Returns:
      A solver as that of `best`.
    """
    restarts = self.restarts

    def again(initial, inputs):
      y, key = initial
      if restarts is None:
        return self._from(solve, y, inputs)
      still = jax.lax.stop_gradient(y), key
      found = best(still, jax.lax.stop_gradient(inputs))
      chosen = y
      for k in range(1, restarts.starts):
        start = _start(restarts, self.axis, y, key, k)
        chosen = jnp.where((found.winner == k)[:, None, None], start, chosen)
      return self._from(solve, chosen, inputs)._replace(
        winner=found.winner, energies=found.energies, sets=found.sets
      )

    return again
