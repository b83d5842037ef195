"""The state of a training run and the compiled step that advances it."""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from idspn_jax import errors
from idspn_jax.tasks import task as task_lib


@flax.struct.dataclass
class Best:
  """The parameters that did best on the validation data so far.

  Attributes:
    step: the step they are from, int32.
    value: the metric that selects; -inf before the first validation.
    params: the parameters.
  """

  step: jax.Array
  value: jax.Array
  params: Any


@flax.struct.dataclass
class TrainState:
  """What a checkpoint holds.

  Attributes:
    seed: of the run's random numbers, uint32.
    step: steps taken, int32.
    params: the model's parameters.
    opt_state: the outer optimiser's state.
    best: what to test in the end, if the task selects; else None.
  """

  seed: jax.Array
  step: jax.Array
  params: Any
  opt_state: Any
  best: Best | None = None

  @property
  def selected(self) -> Any:
    """The parameters to test: the best if the task selects, else the last."""
    return self.params if self.best is None else self.best.params


def make_optimizer(
  config: ml_collections.ConfigDict,
) -> optax.GradientTransformation:
  """Adam with the paper's settings (Appendix F).

  With a cooldown its rate falls linearly to zero over the last steps.
  """
  rate = config.learning_rate
  falling = round(config.cooldown * config.steps)
  if falling:
    rate = optax.linear_schedule(rate, 0.0, falling, config.steps - falling)
  return optax.adam(rate)


def init_state(
  task: task_lib.Task, config: ml_collections.ConfigDict
) -> TrainState:
  """Returns the state before the first step; a function of the seed alone."""
  params = task.init(jax.random.fold_in(jax.random.key(config.seed), 0))
  opt_state = make_optimizer(config).init(params)
  zero = jnp.zeros((), jnp.int32)
  best = None
  if task.selection is not None:
    lowest = jnp.full((), -jnp.inf)
    # Copies, because a training step may reuse the memory of its arguments.
    best = Best(zero + 0, lowest, jax.tree.map(jnp.copy, params))
  return TrainState(jnp.uint32(config.seed), zero, params, opt_state, best)


def keep_best(state: TrainState, value: jax.Array) -> TrainState:
  """Remembers the present parameters if `value` is above the best so far."""
  better = value > state.best.value
  now = Best(state.step, value.astype(state.best.value.dtype), state.params)
  best = jax.tree.map(
    lambda new, old: jnp.where(better, new, old), now, state.best
  )
  return state.replace(best=best)


def make_train_step(
  task: task_lib.Task, config: ml_collections.ConfigDict
) -> Callable[
  [TrainState, task_lib.Batch], tuple[TrainState, dict[str, jax.Array]]
]:
  """Returns one training step: forward, loss, backward, Adam.

  Args:
    task: the experiment.
    config: its configuration.

  Returns:
    A pure function from state and batch to the new state and scalars; its
    random numbers follow from the state's seed and step.
  """
  optimizer = make_optimizer(config)

  def train_step(state, batch):
    base = jax.random.fold_in(jax.random.key(state.seed), 1)
    key = jax.random.fold_in(base, state.step)
    (loss, extra), gradient = jax.value_and_grad(task.loss, has_aux=True)(
      state.params, batch, key
    )
    updates, opt_state = optimizer.update(
      gradient, state.opt_state, state.params
    )
    scalars = {
      'loss': loss,
      'gradient_norm': optax.tree.norm(gradient),
      **extra,
    }
    new = state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      opt_state=opt_state,
    )
    return new, scalars

  return train_step


class DataParallel:
  """Places states and batches on all devices: data-parallel by sharding.

  The compiled step keeps the meaning of one global batch; the compiler adds
  the reductions.
  """

  def __init__(self, batch_size: int, seeds: int = 1):
    """Builds the mesh.

    Args:
      batch_size: rows of a batch.
      seeds: how many seeds train in lockstep; see `lockstep`.

    Raises:
      UserError: if the batch does not divide among the devices.
    """
    devices = jax.devices()
    if batch_size % len(devices):
      raise errors.UserError(
        f'batch_size {batch_size} does not divide among {len(devices)} '
        f'devices; use a multiple of {len(devices)}.'
      )
    mesh = jax.sharding.Mesh(np.asarray(devices), ('data',))
    spec = jax.sharding.PartitionSpec
    self.everywhere = jax.sharding.NamedSharding(mesh, spec())
    rows = spec('data') if seeds == 1 else spec(None, 'data')
    self.by_row = jax.sharding.NamedSharding(mesh, rows)

  def replicate(self, tree: Any) -> Any:
    """Puts a copy of every array on every device."""
    return jax.device_put(tree, self.everywhere)

  def shard(self, batch: task_lib.Batch) -> dict[str, jax.Array]:
    """Splits every array of a batch by rows."""
    return jax.device_put(batch, self.by_row)

  def compile(self, train_step: Callable, state: Any, batch: Any) -> Any:
    """Compiles a step whose state is replicated and updated in place."""
    jitted = jax.jit(
      train_step,
      donate_argnums=0,
      out_shardings=(self.everywhere, self.everywhere),
    )
    return jitted.lower(state, batch).compile()


def peak_bytes(compiled: Any) -> int:
  """Temporary plus argument plus output bytes of a compiled program."""
  memory = compiled.memory_analysis()
  return int(
    memory.temp_size_in_bytes
    + memory.argument_size_in_bytes
    + memory.output_size_in_bytes
  )
