"""Trains one model under several gradient modes, from the same start.

The modes' gradients differ in scale, so that each gets a learning rate of its
own: a short training tries a grid of rates on one seed, a longer one takes the
best of them on other seeds. In both the rate falls linearly to zero, so that
none is chosen for its first steps alone. All pairs of a rate and a
seed, the *lanes*, take every step together in one compiled program.
"""

from collections.abc import Iterator, Sequence
import contextlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from idspn_jax import checks
from idspn_jax.studies import gradient_settings
from idspn_jax.tasks import registry
from idspn_jax.tasks import task as task_lib
from idspn_jax.training import evaluation
from idspn_jax.training import seeds as seeds_lib
from idspn_jax.training import state as state_lib

OPTIMIZERS = {'adam': optax.scale_by_adam, 'sgd': optax.identity}
# Learning rates that are tried. Adam hides the gradients' scale, SGD does not.
RATES = {
  'adam': (2.5e-3, 5e-3, 1e-2, 2e-2, 4e-2, 8e-2),
  'sgd': (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0),
}
# As many are tried at most, where the best one is at the edge of these.
MOST_RATES = 18
# Steps that one call of the compiled program takes.
CHUNK = 25
# Of the short training: the share of its steps, the last ones, whose mean loss
# picks the rate.
_LAST = 0.2
# How far the last training loss may be above the first one, by chance.
_NOISE = 1.1


class Lane(NamedTuple):
  """One of the trainings that run together.

  Attributes:
    rate: its learning rate.
    seed: of its parameters and of the order of its data.
  """

  rate: float
  seed: int


class Curves(NamedTuple):
  """What a training of L lanes logged.

  Attributes:
    loss: training loss, means over `CHUNK` steps, `(L, steps / CHUNK)`.
    gradient_norm: of the whole gradient before the optimiser, likewise.
    fallbacks: sets per step whose linear solve fell back, means, likewise.
    test_loss: after the last step, `(L,)`.
    variables: of the model after the last step, one tree per lane.
  """

  loss: np.ndarray
  gradient_norm: np.ndarray
  fallbacks: np.ndarray
  test_loss: np.ndarray
  variables: list[Any]


def diverged(loss: np.ndarray, test_loss: np.ndarray) -> np.ndarray:
  """Which trainings have diverged, `(L,)` booleans.

  Those whose test loss is not finite, or whose last training loss is more than
  a tenth above its first one, or the median of all first ones: a training may
  blow up within the steps of its own.

  Args:
    loss: training losses, means over some steps, `(L, K)`.
    test_loss: after the last step, `(L,)`.
  """
  first = loss[:, 0]
  finite = first[np.isfinite(first)]
  if finite.size:
    first = np.fmin(first, np.median(finite))
  return ~(np.isfinite(test_loss) & (loss[:, -1] <= _NOISE * first))


class Trainer:
  """Trains a config's model under one gradient mode and outer optimiser.

  Attributes:
    config: with that mode.
    experiment: its task and data.
  """

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    setting: gradient_settings.Setting,
    optimizer: str,
  ):
    """Builds the task under this mode; its own optimiser is not used.

    Args:
      config: of a task; its gradient mode is replaced.
      setting: the gradient mode.
      optimizer: a key of `OPTIMIZERS`.

    Raises:
      UserError: if the config is impossible or the optimiser unknown.
    """
    checks.choice(optimizer, 'optimizer', OPTIMIZERS)
    self.config = gradient_settings.with_setting(config, setting)
    self.experiment = registry.build(self.config)
    self._transformation = OPTIMIZERS[optimizer]()
    self._advance = jax.jit(self._steps, donate_argnums=0)

  def _gradients(self, params, model_state, batch, key):
    """Loss, the new model state, gradients, and the number of fallbacks."""
    task = self.experiment.task
    rows = len(jax.tree.leaves(batch)[0])

    def loss(params, fallbacks):
      if task.counts_fallbacks:
        own = {**batch, 'fallbacks': fallbacks}
      else:
        own = batch
      value, output = task.loss(params, model_state, own, key)
      return value, output.model_state

    found, (gradient, fallbacks) = jax.value_and_grad(
      loss, argnums=(0, 1), has_aux=True
    )(params, jnp.zeros((rows,)))
    return *found, gradient, jnp.sum(fallbacks)

  def _one_step(self, rate, seed, steps, carry, batch):
    """One of so many steps of one lane."""
    step, params, model_state, opt_state = carry
    rate = rate * (1 - step / steps)
    key = jax.random.fold_in(jax.random.key(seed), step)
    prepare, own = jax.random.split(key)
    batch = self.experiment.task.prepare(batch, prepare)
    loss, model_state, gradient, fallbacks = self._gradients(
      params, model_state, batch, own
    )
    updates, opt_state = self._transformation.update(
      gradient, opt_state, params
    )
    updates = jax.tree.map(lambda u: -rate * u, updates)
    params = optax.apply_updates(params, updates)
    logged = loss, optax.tree.norm(gradient), fallbacks
    return (step + 1, params, model_state, opt_state), logged

  def _steps(self, carry, rates, seeds, steps, batches):
    """Steps of all lanes; batches have axes of steps, lanes and rows."""
    step = jax.vmap(self._one_step, in_axes=(0, 0, None, 0, 0))
    carry, logged = jax.lax.scan(
      lambda carry, batch: step(rates, seeds, steps, carry, batch),
      carry,
      batches,
    )
    return carry, [jnp.mean(values, axis=0) for values in logged]

  def _start(self, lanes):
    """The lanes' states, stacked; equal seeds have equal parameters."""

    def one(seed):
      config = self.config.copy_and_resolve_references()
      with config.unlocked():
        config.seed = seed
      state = state_lib.init_state(self.experiment.task, config)
      opt_state = self._transformation.init(state.params)
      step = jnp.zeros((), jnp.int32)
      return step, state.params, state.model_state, opt_state

    of_seed = {seed: one(seed) for seed in {lane.seed for lane in lanes}}
    states = [of_seed[lane.seed] for lane in lanes]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

  @contextlib.contextmanager
  def _batches(self, lanes) -> Iterator[Iterator[Any]]:
    """Opens the stacked batches of all lanes, one seed read once."""
    with contextlib.ExitStack() as streams:
      opened = {
        seed: streams.enter_context(self.experiment.data(seed).train(0))
        for seed in {lane.seed for lane in lanes}
      }

      def stacked():
        while True:
          own = {seed: next(batches) for seed, batches in opened.items()}
          rows = [own[lane.seed] for lane in lanes]
          yield jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

      yield stacked()

  def train(self, lanes: Sequence[Lane], steps: int) -> Curves:
    """Trains all lanes together.

    Args:
      lanes: rates and seeds; another number of them compiles anew.
      steps: training steps, a multiple of `CHUNK`.

    Returns:
      Their `Curves`; losses of a lane that has diverged are not finite.

    Raises:
      UserError: if the steps are no such multiple.
    """
    if steps < CHUNK or steps % CHUNK:
      raise ValueError(f'steps must be a multiple of {CHUNK}; got {steps}.')
    carry = self._start(lanes)
    rates = jnp.array([lane.rate for lane in lanes], jnp.float32)
    seeds = jnp.array([lane.seed for lane in lanes], jnp.uint32)
    logged = []
    with self._batches(lanes) as batches:
      for _ in range(steps // CHUNK):
        own = [next(batches) for _ in range(CHUNK)]
        own = jax.tree.map(lambda *leaves: np.stack(leaves), *own)
        carry, found = self._advance(carry, rates, seeds, steps, own)
        logged.append(jax.device_get(found))
    loss, norm, fallbacks = (
      np.stack(values, axis=1) for values in zip(*logged, strict=True)
    )
    _, params, model_state, _ = carry
    every = task_lib.join_variables(params, model_state)
    every = [
      jax.tree.map(lambda leaf, i=i: leaf[i], every) for i in range(len(lanes))
    ]
    test = self._test(every, [lane.seed for lane in lanes])
    return Curves(loss, norm, fallbacks, test, every)

  def _test(self, variables, seeds):
    vectorized = seeds_lib.VectorizedSeeds(len(seeds))
    evaluate = evaluation.Evaluator(
      self.experiment.task, [self.experiment.data(s) for s in seeds], seeds
    )
    metrics = evaluate(vectorized.stack(variables))
    return np.array([own['loss'] for own in metrics])


def tune(
  trainer: Trainer,
  rates: Sequence[float],
  seed: int,
  steps: int,
  lanes: int,
) -> list[dict[str, float]]:
  """Tries learning rates on one seed.

  While the best one is the smallest or the largest tried, the grid goes on in
  that direction by factors of two, up to `MOST_RATES` rates in all.

  Args:
    trainer: of a mode and an optimiser.
    rates: the grid to begin with.
    seed: of all of them.
    steps: training steps of each.
    lanes: rates that are trained together.

  Returns:
    A row for every `rate`, ascending, with its `loss`: the mean training loss
    of the last fifth of the steps, infinite if it `diverged`.
  """
  losses: dict[float, float] = {}
  new = list(rates)
  while new:
    for first in range(0, len(new), lanes):
      own = new[first : first + lanes]
      # Always as many, so that one compiled program serves all.
      filled = own + own[-1:] * (lanes - len(own))
      found = trainer.train([Lane(rate, seed) for rate in filled], steps)
      loss, test_loss = found.loss[: len(own)], found.test_loss[: len(own)]
      last = max(1, round(_LAST * loss.shape[1]))
      means = np.mean(loss[:, -last:], axis=1)
      bad = diverged(loss, test_loss) | ~np.isfinite(means)
      means = np.where(bad, np.inf, means)
      losses.update(zip(own, means.tolist(), strict=True))
    new = _beyond(losses, lanes)
  return [{'rate': rate, 'loss': losses[rate]} for rate in sorted(losses)]


def _beyond(losses, count):
  """Rates to try next: past the best one if that is at an edge."""
  rates = sorted(losses)
  best = min(rates, key=losses.get)
  count = min(count, MOST_RATES - len(rates))
  if best == rates[0]:
    return [best / 2**i for i in range(1, count + 1)]
  if best == rates[-1]:
    return [best * 2**i for i in range(1, count + 1)]
  return []


def train_setting(
  config: ml_collections.ConfigDict,
  setting: gradient_settings.Setting,
  optimizer: str,
  *,
  seeds: int,
  tune_steps: int,
  steps: int,
) -> tuple[dict[str, Any], Any]:
  """Tunes a mode's learning rate, then trains it under several seeds.

  A rate that a short training bears may be too large for a longer one: where a
  seed has `diverged`, all are trained again with the next smaller rate.

  Args:
    config: of the task; its seed tunes, the seeds after it are trained.
    setting: the gradient mode.
    optimizer: a key of `OPTIMIZERS`.
    seeds: how many.
    tune_steps: training steps for every rate, of `RATES` and beyond.
    steps: training steps of every seed; both multiples of `CHUNK`.

  Returns:
    A row for the tables: the setting, its `rate`, the `tuned_rate` that it
      was to have, whether they are at an edge of those tried (`at_edge`,
      `tuned_at_edge`), rates that it `diverged_at` (its own is one of them if
      no smaller one was tried), the curves as lists, one per seed, and
      `test_loss`.
    The variables of the first of these seeds.
  """
  trainer = Trainer(config, setting, optimizer)
  tried = tune(trainer, RATES[optimizer], config.seed, tune_steps, seeds)
  rates = [row['rate'] for row in tried]
  best = min(tried, key=lambda row: row['loss'])['rate']
  own = [config.seed + 1 + i for i in range(seeds)]
  diverged_at = []
  for rate in sorted((r for r in rates if r <= best), reverse=True):
    found = trainer.train([Lane(rate, seed) for seed in own], steps)
    if not np.any(diverged(found.loss, found.test_loss)):
      break
    diverged_at.append(rate)
  row = {
    'setting': setting.label,
    'mode': setting.mode,
    'options': dict(setting.options),
    'optimizer': optimizer,
    'rate': rate,
    'at_edge': rate in (rates[0], rates[-1]),
    'tuned_rate': best,
    'tuned_at_edge': best in (rates[0], rates[-1]),
    'tried': tried,
    'diverged_at': diverged_at,
    'tune_steps': tune_steps,
    'steps': steps,
    'steps_per_point': CHUNK,
    'seeds': own,
    'loss': found.loss.tolist(),
    'gradient_norm': found.gradient_norm.tolist(),
    'fallbacks': found.fallbacks.tolist(),
    'test_loss': found.test_loss.tolist(),
  }
  return row, found.variables[0]
