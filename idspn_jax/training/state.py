"""The state of a training run."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from idspn_jax.tasks import task as task_lib
from idspn_jax.training import optimizer as optimizer_lib


@flax.struct.dataclass
class Snapshot:
  """What did best on the validation data so far.

  Attributes:
    step: the step that it is from, int32.
    value: the metric that selects; -inf before the first validation.
    params: the parameters that were evaluated.
    model_state: the other collections, see `TrainState`.
  """

  step: jax.Array
  value: jax.Array
  params: Any
  model_state: Any = flax.struct.field(default_factory=dict)


@flax.struct.dataclass
class TrainState:
  """What a checkpoint holds.

  Attributes:
    seed: of the run's random numbers, uint32.
    step: steps taken, int32.
    params: the model's parameters.
    opt_state: the outer optimiser's state.
    best: what to test in the end, if the task selects; else None.
    model_state: the model's other collections, such as `{'batch_stats': …}`;
      `{}` if there are none.
    ema_params: moving average of the parameters, or None.
    ema_model_state: likewise of `model_state`; None if only parameters are
      averaged, or nothing is.
    skipped: steps whose update was left out because the loss or the gradient
      was not finite, int32.
    skipped_at: the last such step, counted from 0, int32; -1 if there is none.
  """

  seed: jax.Array
  step: jax.Array
  params: Any
  opt_state: Any
  best: Snapshot | None = None
  model_state: Any = flax.struct.field(default_factory=dict)
  ema_params: Any = None
  ema_model_state: Any = None
  skipped: Any = None
  skipped_at: Any = None

  @property
  def eval_params(self) -> Any:
    """The parameters to evaluate: their moving average if there is one."""
    return self.params if self.ema_params is None else self.ema_params

  @property
  def eval_model_state(self) -> Any:
    """The other collections to evaluate: averaged if they are."""
    if self.ema_model_state is None:
      return self.model_state
    return self.ema_model_state

  @property
  def variables(self) -> dict[str, Any]:
    """The model's variables to evaluate at this step."""
    return task_lib.join_variables(self.eval_params, self.eval_model_state)

  @property
  def selected(self) -> dict[str, Any]:
    """The variables to test: the best if the task selects, else the last."""
    if self.best is None:
      return self.variables
    return task_lib.join_variables(self.best.params, self.best.model_state)


def init_state(
  task: task_lib.Task, config: ml_collections.ConfigDict
) -> TrainState:
  """Returns the state before the first step; a function of the seed alone."""
  key = jax.random.fold_in(jax.random.key(config.seed), 0)
  params, model_state = task_lib.split_variables(task.init(key))
  zero = jnp.zeros((), jnp.int32)
  # Copies, because a training step may reuse the memory of its arguments.
  best = ema_params = ema_model_state = None
  if task.selection is not None:
    lowest = jnp.full((), -jnp.inf)
    best = Snapshot(zero + 0, lowest, *_copy((params, model_state)))
  if config.ema_decay:
    ema_params = _copy(params)
    ema_model_state = _copy(model_state) if config.ema_warmup else None
  return TrainState(
    seed=jnp.uint32(config.seed),
    step=zero,
    params=params,
    opt_state=optimizer_lib.make_optimizer(config).init(params),
    best=best,
    model_state=model_state,
    ema_params=ema_params,
    ema_model_state=ema_model_state,
    skipped=zero + 0,
    skipped_at=zero - 1,
  )


def complete(stored: dict[str, Any]) -> dict[str, Any]:
  """Adds what checkpoints lack that were written before it existed.

  Args:
    stored: a checkpoint as nested dictionaries; not changed.
  """
  return {'skipped': np.int32(0), 'skipped_at': np.int32(-1), **stored}


def start_from(state: TrainState, variables: task_lib.Variables) -> TrainState:
  """The state before the first step with other variables.

  Args:
    state: of `init_state`.
    variables: of the same structure.
  """
  params, model_state = task_lib.split_variables(variables)
  state = state.replace(params=params, model_state=model_state)
  if state.best is not None:
    best = state.best.replace(params=params, model_state=model_state)
    state = state.replace(best=best)
  if state.ema_params is not None:
    state = state.replace(ema_params=params)
  if state.ema_model_state is not None:
    state = state.replace(ema_model_state=model_state)
  return _copy(state)


def _copy(tree):
  return jax.tree.map(jnp.copy, tree)


def keep_best(state: TrainState, value: jax.Array) -> TrainState:
  """Remembers the present variables if `value` is above the best so far."""
  better = value > state.best.value
  now = Snapshot(
    state.step,
    value.astype(state.best.value.dtype),
    state.eval_params,
    state.eval_model_state,
  )
  best = jax.tree.map(
    lambda new, old: jnp.where(better, new, old), now, state.best
  )
  return state.replace(best=best)
