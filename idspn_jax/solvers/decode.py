"""From latent vectors to sets: the argmin of Equation 7, differentiable.

On a mesh with explicit axes every device decodes its own sets. What the energy
needs of that mesh must be in `inputs.params`, and an encoder's Dropout drops
the same units for the sets of every device.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from idspn_jax.ops import clip
from idspn_jax.ops import varying
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import implicit
from idspn_jax.solvers import inner_loop
from idspn_jax.solvers import inner_step
from idspn_jax.solvers import option_checks
from idspn_jax.solvers import per_set
from idspn_jax.solvers import restarts as restarts_lib


class Decoded(NamedTuple):
  """A decoded batch of sets.

  Attributes:
    set: `Y_T`, `(B, N, D)`.
    steps: inner steps that each set took, `(B,)`.
    last_energy: the energy at `Y_{T-1}`, before each set's last step (at `Y_0`
      if there was none), `(B,)`. Without derivative, as is the next.
    last_residual: norm of the optimality condition there, `(B,)`. Under `jit`
      both cost nothing if they are not used, and next to nothing if they are:
      the last step takes the same gradient, unless `tolerance` is set or the
      mode is `Unrolled`, where they cost one more.
    trajectory: `Y_0 … Y_T`, `(T + 1, B, N, D)`, or None if not asked for.
    energy: the energy along the trajectory, `(T + 1, B)`, or None.
    residual: norm of the optimality condition along it, `(T + 1, B)`, or None.
    winner: which start of `restarts` is the set's, `(B,)` int32, or None.
    start_energies: energies without regulariser at the end of every start,
      `(K, B)`, or None. Without derivative, as are `start_sets`.
    start_sets: what every start reached, `(K, B, N, D)`, or None; needs
      `Restarts(keep_all=True)`.
  """

  set: jax.Array
  steps: jax.Array
  last_energy: jax.Array
  last_residual: jax.Array
  trajectory: jax.Array | None = None
  energy: jax.Array | None = None
  residual: jax.Array | None = None
  winner: jax.Array | None = None
  start_energies: jax.Array | None = None
  start_sets: jax.Array | None = None


def _check_shapes(inputs):
  z, y = inputs.z, inputs.initial_set
  if y.ndim != 3 or z.ndim != 2 or y.shape[0] != z.shape[0]:
    raise ValueError(
      'decode needs z of shape (B, Z) and initial sets (B, N, D); got '
      f'{z.shape} and {y.shape}.'
    )
  for name, array in (('z', z), ('initial sets', y)):
    if not jnp.issubdtype(array.dtype, jnp.floating):
      raise ValueError(
        f'decode needs {name} of a floating-point type; got {array.dtype}.'
      )
  batch, size, dim = y.shape
  columns = inputs.known_features
  if columns is not None:
    if columns.ndim != 3 or columns.shape[:2] != (batch, size):
      raise ValueError(
        f'known_features need shape ({batch}, {size}, K); got {columns.shape}.'
      )
    dim += columns.shape[2]
  rows = inputs.known_elements
  if rows is not None and (
    rows.ndim != 3 or (rows.shape[0], rows.shape[2]) != (batch, dim)
  ):
    raise ValueError(
      f'known_elements need shape ({batch}, M, {dim}), with the columns of '
      f'known features if there are any; got {rows.shape}.'
    )
  flags = inputs.fallbacks
  if flags is not None and flags.shape != (batch,):
    raise ValueError(f'fallbacks need shape ({batch},); got {flags.shape}.')


def _on_every_device(minimize, inputs, key, axis):
  """Decodes; on a mesh with explicit axes every device its own sets.

  The sets of a batch do not depend on each other, so that what runs on a
  device is the program of one device. Parameters are gathered first if they
  are split over the same axes, and their derivatives are summed at the end.
  """
  rows = [row for row in inputs[1:] if row is not None]
  split = [row for row in rows if jax.typeof(row).sharding.spec[0] is not None]
  if not split:
    return minimize(inputs, key, axis=axis)
  sharding = jax.typeof(split[0]).sharding
  by_set = jax.sharding.PartitionSpec(sharding.spec[0])
  along = jax.sharding.PartitionSpec(None, sharding.spec[0])
  whole = jax.sharding.PartitionSpec()

  def place(array, spec):
    return jax.sharding.reshard(array, jax.NamedSharding(sharding.mesh, spec))

  specs = [None if row is None else by_set for row in inputs[1:]]
  specs = energy_lib.Inputs(whole, *specs)
  inputs = energy_lib.Inputs(
    jax.tree.map(lambda array: place(array, whole), inputs.params),
    *(None if row is None else place(row, by_set) for row in inputs[1:]),
  )
  minimize = jax.shard_map(
    functools.partial(minimize, axis=sharding.spec[0]),
    mesh=sharding.mesh,
    in_specs=(specs, whole),
    out_specs=Decoded(*[by_set] * 4, *[along] * 3, by_set, along, along),
    axis_names=set(sharding.mesh.explicit_axes),
    # Loops of optax make arrays that vary over no axis.
    check_vma=varying.varies(inputs),
  )
  try:
    return jax.jit(minimize)(inputs, key)
  except NotImplementedError as e:
    if 'Closing over inputs to shard_map' not in str(e):
      raise
    raise ValueError(
      'The energy, the projection or the encoder closes over an array that is '
      'on a mesh with explicit axes; pass it in inputs.params.'
    ) from e


def _checked_stop(iterations, tolerance):
  iterations = option_checks.integer('iterations', iterations, 0)
  if tolerance is not None:
    tolerance = option_checks.number('tolerance', tolerance, positive=False)
  return iterations, tolerance


def _measured(energy, optimality, inputs, run):
  """The run with energies and residuals."""
  starts = jax.lax.stop_gradient((run.winner, run.energies, run.sets))

  def measure(inputs, y):
    return energy(inputs, y), clip.set_norm(optimality(y, inputs))

  last = measure(*jax.lax.stop_gradient((inputs, run.penultimate)))
  if run.trajectory is None:
    return Decoded(run.final, run.steps, *last, None, None, None, *starts)
  along = jax.lax.map(lambda y: measure(inputs, y), run.trajectory)
  return Decoded(run.final, run.steps, *last, run.trajectory, *along, *starts)


def _run(search, solve, optimality, gradient, inputs, key):
  """The winners' run, with its derivative."""
  # Derivatives by replicated inputs are thus summed over devices once.
  inputs = varying.vary_like(inputs, inputs)
  initial = inputs.initial_set, key
  best = search.best(solve)
  if isinstance(gradient, gradients.Implicit):
    return implicit.differentiate(best, optimality, gradient, initial, inputs)
  solve = functools.partial(
    solve, differentiable=True, checkpoint=gradient.checkpoint
  )
  return search.then_solve(best, solve)(initial, inputs)


def decode(
  energy: energy_lib.Energy,
  inputs: energy_lib.Inputs,
  *,
  iterations: int = 10,
  optimizer: inner_step.Optimizer = inner_step.GradientDescent(),  # noqa: B008
  gradient: gradients.Gradient = gradients.JacobianFree(),  # noqa: B008
  grad_clip: float | None = None,
  projection: per_set.Projection | None = None,
  project_initial_set: bool | None = None,
  tolerance: float | None = None,
  trajectory: bool = False,
  restarts: restarts_lib.Restarts | None = None,
  key: jax.Array | None = None,
  axis_name: restarts_lib.Axis = None,
) -> Decoded:
  """Minimises an energy over sets, differentiable in all of `inputs`.

  Derivatives reach only what is in `inputs`; an energy must not close over
  arrays that are to be differentiated. Inside `jax.shard_map` every input may
  vary over mesh axes or not; the sets vary over all axes that any input does.

  Args:
    energy: `energy(inputs, y)`, one number per set.
    inputs: parameters, latent vectors, initial sets and what is known.
    iterations: T, the (largest) number of inner steps; static.
    optimizer: the inner optimiser.
    gradient: how to differentiate the argmin.
    grad_clip: largest L2 norm of a set's inner gradient, or None.
    projection: maps `(B, N, D)` to the feasible sets, applied after each step.
    project_initial_set: project `Y_0` too; by default where the official code
      does, for implicit modes and not for `Unrolled`.
    tolerance: sets stop once their residual norm is at most this; None takes
      all T steps. Costs one more gradient per step.
    trajectory: also return all `Y_t`, their energies and residuals.
    restarts: several starts, the set of least energy is kept; None for one.
      The derivative is the winner's.
    key: a random key, for `restarts`.
    axis_name: the axis of `jax.pmap` or `jax.shard_map` over which the batch
      is divided, for starts that do not depend on the number of devices.

  Returns:
    A `Decoded`.

  Raises:
    ValueError: if shapes or settings do not fit, if the energy does not give
      one number per set or closes over arrays on an explicit mesh, or if the
      mode does not apply to projected problems; names the remedy.
  """
  _check_shapes(inputs)
  restarts_lib.check(restarts, key)
  iterations, tolerance = _checked_stop(iterations, tolerance)
  gradients.check_applies(gradient, projection is not None)
  implicit_mode = isinstance(gradient, gradients.Implicit)
  energy = energy_lib.checked(energy)
  step = inner_step.make_step(energy, optimizer, grad_clip, projection)
  optimality = inner_step.residual(energy, projection)
  if project_initial_set is None:
    project_initial_set = implicit_mode
  option_checks.flag('project_initial_set', project_initial_set)

  solve = functools.partial(
    inner_loop.run,
    energy,
    step,
    iterations=iterations,
    projection=projection,
    tolerance=tolerance,
    trajectory=trajectory,
    inside_loop=restarts is not None and restarts.starts > 1,
  )
  start_projection = projection if project_initial_set else None

  def minimize(inputs, key, axis):
    search = restarts_lib.Search(step, start_projection, energy, restarts, axis)
    run = _run(search, solve, optimality, gradient, inputs, key)
    inputs = varying.vary_like(inputs, inputs)
    return _measured(energy, optimality, inputs, run)

  return _on_every_device(minimize, inputs, key, axis_name)
