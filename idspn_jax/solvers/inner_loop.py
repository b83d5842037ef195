"""Runs the inner optimisation for T steps or until every set has converged."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from idspn_jax.ops import clip
from idspn_jax.ops import varying
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import inner_step
from idspn_jax.solvers import per_set


class Run(NamedTuple):
  """Where the inner optimisation went.

  Attributes:
    final: `Y_T`, `(B, N, D)`.
    penultimate: `Y_{T-1}`, the set before each set's last step.
    steps: steps taken by each set, `(B,)`.
    trajectory: `Y_0 … Y_T`, `(T + 1, B, N, D)`, or None.
    winner: which of several starts this is, `(B,)`, or None.
    energies: at the end of every start, `(K, B)`, or None.
    sets: what every start reached, `(K, B, N, D)`, or None.
    before_last: for `retake_last_step`, or None.
  """

  final: jax.Array
  penultimate: jax.Array
  steps: jax.Array
  trajectory: jax.Array | None
  winner: jax.Array | None = None
  energies: jax.Array | None = None
  sets: jax.Array | None = None
  before_last: Any = None


class _Carry(NamedTuple):
  y: jax.Array
  previous: jax.Array
  state: Any
  steps: jax.Array
  active: jax.Array


def _select(active, new, old):
  return jnp.where(active[:, None, None], new, old)


def _stopping_body(step, optimality, tolerance, inputs):
  """A step in which sets that have reached the tolerance stay put."""

  def body(carry):
    norm = clip.set_norm(optimality(carry.y, inputs))
    active = carry.active & (norm > tolerance)
    y, state = step.update(inputs, carry.y, carry.state)
    return _Carry(
      y=_select(active, y, carry.y),
      previous=_select(active, carry.y, carry.previous),
      state=state,  # Nothing reads it for sets that have stopped.
      steps=carry.steps + active.astype(jnp.int32),
      active=active,
    )

  return body


def _fixed_body(step, inputs):
  def body(carry):
    y, state = step.update(inputs, carry.y, carry.state)
    return carry._replace(
      y=y, previous=carry.y, state=state, steps=carry.steps + 1
    )

  return body


def _first_carry(step, inputs, y):
  return _Carry(
    y=y,
    previous=y,
    state=step.init(inputs, y),
    steps=jnp.zeros(y.shape[:1], jnp.int32),
    active=jnp.ones(y.shape[:1], bool),
  )


def run(
  energy: energy_lib.Energy,
  step: per_set.Step,
  inputs: energy_lib.Inputs,
  y: jax.Array,
  iterations: int,
  *,
  projection: per_set.Projection | None = None,
  tolerance: float | None = None,
  trajectory: bool = False,
  differentiable: bool = False,
  checkpoint: bool = False,
  inside_loop: bool = False,
) -> Run:
  """Minimises the energy from `y`.

  Args:
    energy: what to minimise; needed here for the residual only.
    step: the inner step.
    inputs: what the energy depends on.
    y: `Y_0`, `(B, N, D)`.
    iterations: T, the (largest) number of steps.
    projection: the step's projection, part of the residual.
    tolerance: a set stops once its residual norm is at most this; None takes
      all T steps.
    trajectory: keep every `Y_t`.
    differentiable: use loops that reverse-mode differentiation can follow.
    checkpoint: recompute each step when it is differentiated.
    inside_loop: whether the run is the body of a loop itself, so that its last
      step is to be taken again outside, by `retake_last_step`.

  Returns:
    A `Run`.
  """
  carry = _first_carry(step, inputs, y)
  if tolerance is None:
    advance = _fixed_body(step, inputs)
  else:
    optimality = inner_step.residual(energy, projection)
    advance = _stopping_body(step, optimality, tolerance, inputs)
  # In shard_map a loop needs the same types before and after a step.
  carry = varying.vary_like(carry, y)

  def body(carry):
    return varying.vary_like(advance(carry), y)

  path = None
  if iterations == 0:
    path = y[None] if trajectory else None
  elif trajectory or differentiable:

    def scan_body(carry, _):
      carry = body(carry)
      return carry, (carry.y if trajectory else None)

    if checkpoint:
      scan_body = jax.checkpoint(scan_body)
    carry, path = jax.lax.scan(scan_body, carry, length=iterations)
    if trajectory:
      path = jnp.concatenate([y[None], path])
  elif tolerance is None:
    if inside_loop:
      before, carry = jax.lax.fori_loop(
        0, iterations, lambda _, c: (c[1], body(c[1])), (carry, carry)
      )
      return Run(carry.y, carry.previous, carry.steps, None, before_last=before)
    # The last step outside the loop: the compiler then shares its forward pass
    # with the derivative of the optimality condition at the same set.
    carry = jax.lax.fori_loop(0, iterations - 1, lambda _, c: body(c), carry)
    carry = body(carry)
  else:

    def more(value):
      t, carry = value
      return (t < iterations) & jnp.any(carry.active)

    _, carry = jax.lax.while_loop(
      more, lambda v: (v[0] + 1, body(v[1])), (0, carry)
    )
  return Run(carry.y, carry.previous, carry.steps, path)


def retake_last_step(
  step: per_set.Step, inputs: energy_lib.Inputs, run: Run
) -> Run:
  """Takes a run's last step again, outside of any loop.

  The compiler then shares the forward pass of this step with the derivative of
  the optimality condition, which takes less memory than two forward passes.

  Args:
    step: the inner step.
    inputs: what the energy depends on.
    run: from `run(inside_loop=True)`.

  Returns:
    The run; as it is where it took no fixed number of steps.
  """
  if run.before_last is None:
    return run
  carry = _fixed_body(step, inputs)(run.before_last)
  return run._replace(
    final=carry.y, penultimate=carry.previous, before_last=None
  )
