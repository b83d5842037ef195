"""One training step: a pure function from state and batch to the new state."""

from collections.abc import Callable

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


def _prepare(task, batch, key, axis_name):
  """Prepares the batch; each device's share of it under a mapped axis.

  There every device prepares the whole batch and keeps its own rows, so that
  what is drawn from the key does not depend on the number of devices.
  """
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


def make_train_step(
  task: task_lib.Task,
  config: ml_collections.ConfigDict,
  iterations: int | None = None,
  restarts: int | None = None,
  axis_name: str | None = None,
) -> TrainStep:
  """Returns one training step: forward, loss, backward, outer optimiser.

  Args:
    task: the experiment's task.
    config: its configuration.
    iterations: inner steps, or None for the model's own.
    restarts: starts, or None for the model's own.
    axis_name: the mapped axis over which the batch is divided; None if the
      batch is whole.

  Returns:
    A pure function from state and batch to the new state and scalars; its
    random numbers follow from the state's seed and step.
  """
  optimizer = optimizer_lib.make_optimizer(config)
  options = _options(config, iterations, restarts)

  def train_step(state, batch):
    batch = _prepare(task, batch, _key(state, _PREPARE), axis_name)
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
    new = _averaged(new, config)
    norm = {'gradient_norm': optax.tree.norm(gradient)}
    return new, {**scalars, **norm, **counts}

  return train_step
