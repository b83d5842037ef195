"""One training step: a pure function from state and batch to the new state."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from idspn_jax import errors
from idspn_jax.tasks import model
from idspn_jax.tasks import task as task_lib
from idspn_jax.training import optimizer as optimizer_lib
from idspn_jax.training import state as state_lib

TrainStep = Callable[
  [state_lib.TrainState, task_lib.Batch],
  tuple[state_lib.TrainState, dict[str, jax.Array]],
]
# Random streams of a seed: of the model, of `Task.prepare`.
_MODEL, _PREPARE = 1, 6


def _key(state, stream):
  base = jax.random.fold_in(jax.random.key(state.seed), stream)
  return jax.random.fold_in(base, state.step)


def _fill(task, batch, key, mesh):
  """Makes the examples, those of each device there."""
  if mesh is None or type(task).fill is task_lib.Task.fill:
    return task.fill(batch, key)
  spec = jax.sharding.PartitionSpec
  rows = spec(*mesh.axis_names)
  # Nothing here is differentiated, see `training.parallel`.
  return jax.shard_map(
    task.fill,
    mesh=mesh,
    in_specs=(rows, spec()),
    out_specs=rows,
    check_vma=False,
  )(batch, key)


def _prepare(task, batch, key, axis_name, mesh):
  """Prepares the batch; each device's share of it under a mapped axis.

  There every device prepares the whole batch and keeps its own rows, so that
  what is drawn from the key does not depend on the number of devices.
  """
  batch = _fill(task, batch, key, mesh)
  if axis_name is None or type(task).prepare is task_lib.Task.prepare:
    return task.prepare(batch, key)
  whole = jax.lax.all_gather(batch, axis_name, tiled=True)
  whole = task.prepare(whole, key)
  devices, own = jax.lax.axis_size(axis_name), jax.lax.axis_index(axis_name)

  def share(leaf):
    rows = leaf.shape[0] // devices
    return jax.lax.dynamic_slice_in_dim(leaf, own * rows, rows)

  return jax.tree.map(share, whole)


def _average(tree, axis_name):
  """Averages over a mapped axis; integers, like counters, are equal there."""

  def one(leaf):
    real = jnp.issubdtype(leaf.dtype, jnp.inexact)
    return jax.lax.pmean(leaf, axis_name) if real else leaf

  return jax.tree.map(one, tree)


def _check_model_state(task, before, after):
  """Refuses a model state that the next step could not be taken with.

  Raises:
    UserError: if `Task.loss` returned other collections, shapes or types.
  """

  def described(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]

  if described(before) != described(after):
    raise errors.UserError(
      f'{type(task).__name__}.loss got the model state '
      f'{jax.tree.map(jnp.shape, before)} and returned '
      f'{jax.tree.map(jnp.shape, after)}; return all of its collections, '
      'with shapes and types as they were.'
    )


def _options(config, iterations, restarts):
  """Of `Task.loss`; what is the model's own is left out."""
  options = {}
  if iterations is not None:
    options['iterations'] = iterations
  if restarts is not None:
    options['restarts'] = model.build_restarts(config.model, restarts)
  return options


def _gradients(task, state, batch, key, options):
  """Loss, what comes with it, gradients, and the count of fallbacks."""
  if not task.counts_fallbacks:
    found, gradient = jax.value_and_grad(task.loss, has_aux=True)(
      state.params, state.model_state, batch, key, **options
    )
    return found, gradient, {}
  rows = len(jax.tree.leaves(batch)[0])

  def loss(params, fallbacks):
    with_counts = {**batch, 'fallbacks': fallbacks}
    return task.loss(params, state.model_state, with_counts, key, **options)

  run = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
  found, (gradient, fallbacks) = run(state.params, jnp.zeros((rows,)))
  return found, gradient, {'fallbacks': jnp.sum(fallbacks)}


def _averaged(state, config):
  """Moves the averages of a state, if it has them, toward its values."""
  if state.ema_params is None:
    return state
  decay = config.ema_decay
  if config.ema_warmup:
    taken = state.step.astype(jnp.float32)
    decay = jnp.minimum(decay, taken / (taken + 9))

  def moved(average, value):
    if not jnp.issubdtype(value.dtype, jnp.inexact):
      return value  # Counters are not averaged.
    return (decay * average + (1 - decay) * value).astype(value.dtype)

  state = state.replace(
    ema_params=jax.tree.map(moved, state.ema_params, state.params)
  )
  if state.ema_model_state is None:
    return state
  return state.replace(
    ema_model_state=jax.tree.map(
      moved, state.ema_model_state, state.model_state
    )
  )


def _keep_finite(state, new, scalars, norm, on_nonfinite):
  """Leaves an update out whose loss or gradient is not finite.

  With 'skip' the next step is taken from the state as it was. With 'stop' the
  state stays, its step too, whatever batches follow: it is what the bad step
  was taken from, and `skipped_at` equals its `step`.

  Args:
    state: before the step.
    new: after it.
    scalars: of the step, with its loss.
    norm: of the gradient.
    on_nonfinite: 'stop' or 'skip', see `runs.config`.

  Returns:
    The state to go on with, and the scalars; after a 'stop' the loss is NaN.
  """
  finite = jnp.isfinite(scalars['loss']) & jnp.isfinite(norm)
  stays = jnp.zeros((), bool)
  if on_nonfinite == 'stop':
    stays = state.skipped_at == state.step
    loss = jnp.where(stays, jnp.nan, scalars['loss'])
    scalars = {**scalars, 'loss': loss}
  bad = ~finite & ~stays
  kept = jax.tree.map(
    lambda after, before: jnp.where(finite & ~stays, after, before), new, state
  )
  kept = kept.replace(
    skipped=state.skipped + bad,
    skipped_at=jnp.where(bad, state.step, state.skipped_at),
  )
  if on_nonfinite == 'skip':
    kept = kept.replace(step=new.step)
    scalars = {**scalars, 'skipped_steps': kept.skipped}
  return kept, scalars


def make_measure(
  task: task_lib.Task,
  config: ml_collections.ConfigDict,
  iterations: int | None = None,
  restarts: int | None = None,
) -> Callable[..., tuple[jax.Array, Any]]:
  """Returns what a step computes before its update, on one device.

  Args:
    task: the experiment's task.
    config: its configuration.
    iterations: inner steps, or None for the model's own.
    restarts: starts, or None for the model's own.

  Returns:
    A pure function from state and prepared batch (see `prepared`) to the loss
    and the gradient.
  """
  options = _options(config, iterations, restarts)

  def measure(state, batch):
    (loss, _), gradient, _ = _gradients(
      task, state, batch, _key(state, _MODEL), options
    )
    return loss, gradient

  return measure


def prepared(
  task: task_lib.Task, state: state_lib.TrainState, batch: task_lib.Batch
) -> task_lib.Batch:
  """The batch that a step computes with, see `Task.prepare`."""
  return _prepare(task, batch, _key(state, _PREPARE), None, None)


def make_train_step(
  task: task_lib.Task,
  config: ml_collections.ConfigDict,
  iterations: int | None = None,
  restarts: int | None = None,
  axis_name: str | None = None,
  mesh: jax.sharding.Mesh | None = None,
) -> TrainStep:
  """Returns one training step: forward, loss, backward, outer optimiser.

  Args:
    task: the experiment's task.
    config: its configuration.
    iterations: inner steps, or None for the model's own.
    restarts: starts, or None for the model's own.
    axis_name: the mapped axis over which the batch is divided; None if the
      batch is whole.
    mesh: the devices over whose only axis a whole batch is divided; None for
      one device.

  Returns:
    A pure function from state and batch to the new state and scalars; its
    random numbers follow from the state's seed and step.
  """
  optimizer = optimizer_lib.make_optimizer(config)
  options = _options(config, iterations, restarts)

  def train_step(state, batch):
    batch = _prepare(task, batch, _key(state, _PREPARE), axis_name, mesh)
    (loss, output), gradient, counts = _gradients(
      task, state, batch, _key(state, _MODEL), options
    )
    scalars = {'loss': loss, **output.scalars}
    model_state = output.model_state
    _check_model_state(task, state.model_state, model_state)
    if axis_name is not None:
      gradient, scalars, model_state = _average(
        (gradient, scalars, model_state), axis_name
      )
      counts = jax.lax.psum(counts, axis_name)
    updates, opt_state = optimizer.update(
      gradient, state.opt_state, state.params
    )
    params = optax.apply_updates(state.params, updates)
    new = state.replace(
      step=state.step + 1,
      params=params,
      opt_state=opt_state,
      model_state=model_state,
    )
    norm = optax.tree.norm(gradient)
    new, scalars = _keep_finite(
      state, _averaged(new, config), scalars, norm, config.on_nonfinite
    )
    return new, {**scalars, 'gradient_norm': norm, **counts}

  return train_step
