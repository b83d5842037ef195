"""What several starts bring, and how they are best drawn, on a trained run."""

from collections.abc import Callable, Sequence
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax import errors
from idspn_jax.runs import loading
from idspn_jax.solvers import inner_step
from idspn_jax.solvers import restarts as restarts_lib
from idspn_jax.tasks import autoencoding
from idspn_jax.tasks import model

# A set is stuck where another start reaches less than this share of its loss.
STUCK = 0.1
_loss = model.LOSSES['hungarian']
# `(Y_0, key, k)` to start k, `(B, N, D)`.
Draw = Callable[[jax.Array, jax.Array, int], jax.Array]


class Starts(NamedTuple):
  """What K starts of S sets reached.

  Attributes:
    energy: without regulariser, `(K, S)`.
    loss: reconstruction loss, `(K, S)`.
  """

  energy: np.ndarray
  loss: np.ndarray


def least_energy(starts: Starts, count: int | None = None) -> np.ndarray:
  """Which start each set keeps, `(S,)`, of the first `count` or of all."""
  return np.argmin(_finite(starts.energy[:count]), axis=0)


def loss_by_energy(starts: Starts, count: int) -> float:
  """Mean loss if of the first starts the one of least energy is kept."""
  winner = least_energy(starts, count)
  return float(np.mean(_chosen(starts.loss, winner)))


def loss_by_target(starts: Starts, count: int) -> float:
  """Mean loss if the target chose; no choice among these starts is better."""
  return float(np.mean(np.min(_finite(starts.loss[:count]), axis=0)))


def _finite(values):
  return np.where(np.isfinite(values), values, np.inf)


def _chosen(values, index):
  return np.take_along_axis(values, index[None], axis=0)[0]


def stuck_sets(starts: Starts) -> dict[str, float]:
  """How many sets are stuck, and what the energy of one start tells of them.

  Args:
    starts: the first one is the one in question.

  Returns:
    `share` of the sets that are stuck, `share_of_loss` that they carry, and
    `auc`: how often the energy of a stuck set is above that of another one.
  """
  first = starts.loss[0]
  stuck = np.min(_finite(starts.loss), axis=0) < STUCK * first
  share = float(np.mean(stuck))
  found = {
    'share': share,
    'share_of_loss': float(np.sum(first[stuck]) / np.sum(first)),
    'auc': float('nan'),
  }
  if 0 < share < 1:
    order = np.sort(starts.energy[0][~stuck])
    below = np.searchsorted(order, starts.energy[0][stuck])
    found['auc'] = float(np.mean(below) / len(order))
  return found


def judge(
  starts: Starts, target_energy: np.ndarray, count: int
) -> dict[str, float]:
  """Whether the least energy leads to the target.

  Args:
    starts: of S sets.
    target_energy: without regulariser, of the targets themselves, `(S,)`.
    count: number of starts.

  Returns:
    `energy` of the kept start and `energy of the target`, medians, and
    `targets below`: the share of the sets whose target has less energy than
    what was kept. If it is 0 with one start, the search ends below every target
    already, and less energy need not be nearer to it.
  """
  kept = np.min(_finite(starts.energy[:count]), axis=0)
  return {
    'energy': float(np.median(kept)),
    'energy of the target': float(np.median(target_energy)),
    'targets below': float(np.mean(target_energy < kept)),
  }


def restart_worst(
  starts: Starts, share: float, count: int, batch: int = 128
) -> tuple[float, float]:
  """Restarts only the sets of highest energy of every batch.

  Args:
    starts: of many sets.
    share: of a batch's sets that get `count` starts; the others get one.
    count: number of starts.
    batch: sets per batch.

  Returns:
    Mean loss, and mean number of starts per set.
  """
  losses = []
  batch = min(batch, starts.loss.shape[1])
  number = max(1, round(share * batch))
  sets = starts.loss.shape[1] // batch * batch
  for i in range(0, sets, batch):
    own = Starts(
      _finite(starts.energy[:count, i : i + batch]),
      starts.loss[:count, i : i + batch],
    )
    winner = np.argmin(own.energy, axis=0)
    worst = np.argsort(own.energy[0])[-number:]
    again = np.zeros(batch, bool)
    again[worst] = True
    losses.append(_chosen(own.loss, np.where(again, winner, 0)))
  mean_starts = 1 + (count - 1) * number / batch
  return float(np.mean(losses)), mean_starts


def stop_when_agreed(
  starts: Starts, tolerance: float, count: int
) -> tuple[float, float]:
  """Stops a set's search once its two least energies agree.

  Args:
    starts: of many sets.
    tolerance: the largest relative difference of the two.
    count: the largest number of starts.

  Returns:
    Mean loss, and mean number of starts per set.
  """
  energy = _finite(starts.energy[:count])
  taken = np.full(energy.shape[1], count)
  for k in range(count, 1, -1):
    two = np.sort(energy[:k], axis=0)[:2]
    agree = two[1] - two[0] <= tolerance * two[0]
    taken = np.where(agree, k, taken)
  index = np.arange(count)[:, None]
  winner = np.argmin(np.where(index < taken, energy, np.inf), axis=0)
  return float(np.mean(_chosen(starts.loss, winner))), float(np.mean(taken))


def around(scale: float) -> Draw:
  """Starts are `Y_0 + scale * noise`, as those of `Restarts`."""
  return lambda y, key, k: y + (scale * _noise(key, k, y) if k else 0.0)


def antithetic(scale: float) -> Draw:
  """As `around`; every second start negates the noise of the one before."""

  def draw(y, key, k):
    sign = 1.0 if k % 2 else -1.0
    return y + (sign * scale * _noise(key, (k + 1) // 2, y) if k else 0.0)

  return draw


def fresh(scale: float) -> Draw:
  """The first start is `Y_0`, the others are noise alone."""
  return lambda y, key, k: scale * _noise(key, k, y) if k else y


def permuted_noise(scale: float) -> Draw:
  """As `around` with one noise set, whose rows are permuted for every start."""

  def draw(y, key, k):
    if not k:
      return y
    order = jax.random.permutation(jax.random.fold_in(key, k), y.shape[1])
    return y + scale * _noise(key, 1, y)[:, order]

  return draw


def orthogonal(scale: float) -> Draw:
  """As `around` with noise of the same norm for all starts of a set, where that
  of any N·D starts is orthogonal: rows of a random orthogonal matrix per set.
  """

  def draw(y, key, k):
    if not k:
      return y
    size = y[0].size
    block, row = divmod(k - 1, size)
    keys = jax.random.split(jax.random.fold_in(key, block), len(y))
    noise = jax.vmap(lambda key: jax.random.orthogonal(key, size)[row])(keys)
    noise = jnp.sqrt(size) * noise.astype(y.dtype)
    return y + scale * noise.reshape(y.shape)

  return draw


def _noise(key, k, y):
  return jax.random.normal(jax.random.fold_in(key, k), y.shape, y.dtype)


class Decoding:
  """Decodes test sets of a run from chosen starts, with changed settings."""

  def __init__(self, run: loading.LoadedRun, sets: int):
    """Takes the first test sets of a run.

    Args:
      run: of a task that autoencodes sets.
      sets: how many.

    Raises:
      UserError: if it is of another task, or its initial set is not learned.
    """
    if not isinstance(run.task, autoencoding.SetAutoencoding):
      raise errors.UserError(
        f'{run.workdir} is a run of {run.config.task}; the study of starts '
        'needs one that autoencodes sets, such as random_multisets.'
      )
    if run.config.model.initial_set != 'learned':
      raise errors.UserError(
        'The study of starts needs model.initial_set=learned; '
        f'{run.workdir} has {run.config.model.initial_set}.'
      )
    self._run = run
    self.sets = jnp.asarray(run.data.examples(sets)['input'])
    self._batch = run.config.eval_batch_size
    self._key = jax.random.key(run.config.seed)

  def initial(self, draw: Draw, count: int) -> jax.Array:
    """Draws starts, `(K, S, N, D)`."""
    y = jnp.broadcast_to(self.initial_set, self.sets.shape)
    return jnp.stack([draw(y, self._key, k) for k in range(count)])

  def starts(
    self,
    initial: jax.Array,
    iterations: Sequence[int],
    optimizers: Sequence[inner_step.Optimizer] | None = None,
  ) -> tuple[Starts, jax.Array]:
    """Decodes every set from given starts; the regulariser pulls to each.

    Args:
      initial: the starts, `(K, S, N, D)`.
      iterations: inner steps of several runs, each of which starts where the
        one before ended, without its momentum.
      optimizers: of these runs; None for the model's.

    Returns:
      The `Starts`, and the sets that were reached, `(K, S, N, D)`.
    """
    own = self._run.task.model.decoder.optimizer
    optimizers = optimizers or [own] * len(iterations)

    @jax.jit
    def one(sets, y):
      for steps, optimizer in zip(iterations, optimizers, strict=True):
        found = self._decode(
          sets, optimizer=optimizer, initial_set=y, iterations=steps
        )
        y = found.set
      return found.start_energies[0], _loss(y, sets), y

    parts = []
    for rows in self._batches():
      own_parts = [one(self.sets[rows], y[rows]) for y in initial]
      parts.append([jnp.stack(part) for part in zip(*own_parts, strict=True)])
    energy, loss, reached = (
      jnp.concatenate(part, axis=1) for part in zip(*parts, strict=True)
    )
    return Starts(np.asarray(energy), np.asarray(loss)), reached

  def _batches(self):
    for i in range(0, len(self.sets), self._batch):
      yield slice(i, i + self._batch)

  def restarted(self, restarts: restarts_lib.Restarts) -> Starts:
    """Decodes with `Restarts`, whose regulariser pulls all to `Y_0`."""

    @jax.jit
    def one(sets, key):
      found = self._decode(sets, key, restarts=restarts)
      loss = jax.lax.map(lambda y: _loss(y, sets), found.start_sets)
      return found.start_energies, loss

    parts = [
      one(self.sets[rows], jax.random.fold_in(self._key, i))
      for i, rows in enumerate(self._batches())
    ]
    energy, loss = (
      np.concatenate(part, axis=1) for part in zip(*parts, strict=True)
    )
    return Starts(energy, loss)

  def seconds(self, restarts: restarts_lib.Restarts, repeats: int) -> float:
    """Wall-clock time of decoding one batch, the least of some repeats."""
    run = jax.jit(lambda sets: self._decode(sets, restarts=restarts).set)
    batch = self.sets[: self._batch]
    times = []
    for _ in range(repeats + 1):  # The first one compiles.
      begin = time.perf_counter()
      jax.block_until_ready(run(batch))
      times.append(time.perf_counter() - begin)
    return min(times[1:])

  @property
  def initial_set(self) -> jax.Array:
    """The learned `Y_0`, `(N, D)`."""
    return self._run.variables['params']['decoder']['initial_set']

  def energies(self, sets: jax.Array, y: jax.Array) -> jax.Array:
    """Energies `(K,)` without regulariser of sets `(K, N, D)` for one target.

    Args:
      sets: what is evaluated.
      y: the target `(N, D)`, whose latent vector counts.
    """
    targets = jnp.broadcast_to(y, sets.shape)
    found = self._decode(targets, initial_set=sets, iterations=0)
    return found.start_energies[0]

  def _decode(self, sets, key=None, optimizer=None, **options):
    module = self._run.task.model
    if optimizer is not None:
      module = module.clone(decoder=module.decoder.clone(optimizer=optimizer))
    options.setdefault('restarts', restarts_lib.Restarts(1))

    def reconstruct(module, x):
      return module.decode(module.encode(x), x, **options)

    return module.apply(
      self._run.variables,
      sets,
      method=reconstruct,
      rngs={'initial_set': self._key if key is None else key},
    )
