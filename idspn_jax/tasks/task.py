"""What training and evaluation know about an experiment.

An experiment is a `Task`, pure functions of parameters and batches, and a
`Data` per seed, the source of those batches. Axis letters: `B` batch, `N` set
size, `D` features.
"""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from idspn_jax.metrics import averages
from idspn_jax.solvers import restarts as restarts_lib
from idspn_jax.tasks import data as data_lib

Batch = data_lib.Batch
Variables = Mapping[str, Any]
Params = Any
ModelState = Mapping[str, Any]
Metrics = Mapping[str, Any]


class LossOutput(NamedTuple):
  """What a training loss returns besides its value.

  Attributes:
    model_state: the collections besides 'params' after this step (for example
      `{'batch_stats': …}`); `{}` for models without.
    scalars: further numbers to log, by name.
  """

  model_state: ModelState
  scalars: Mapping[str, jax.Array]


class Task(abc.ABC):
  """Model, loss and metrics of an experiment, without a seed or files.

  All methods but `summarize` and `draw` are pure and run inside `jax.jit`.

  Attributes:
    config: the experiment's configuration; its seed is never read.
    headline: the metric to quote, a key of what `summarize` returns.
    selection: the metric whose highest value on the split 'validation' picks
      the parameters to test; None tests the last ones.
    iterates: whether the model takes inner steps, so that their number may be
      changed.
    counts_fallbacks: whether `loss` passes `batch['fallbacks']`, `(B,)` zeros,
      to the decoder, whose gradient then flags the sets whose linear solve
      fell back to the Jacobian-free one.
  """

  headline = 'loss'
  selection: str | None = None
  iterates: bool = True
  counts_fallbacks: bool = False

  def __init__(self, config: ml_collections.ConfigDict):
    """Builds the model.

    Args:
      config: a configuration of `configs/`.

    Raises:
      UserError: if a value is impossible.
    """
    self.config = config

  @abc.abstractmethod
  def init(self, key: jax.Array) -> Variables:
    """Returns fresh variables: 'params', and further collections if any."""

  def fill(self, batch: Batch, key: jax.Array) -> Batch:
    """Makes examples from their numbers, before `prepare`; pure.

    Every device makes its own: what is made of a row must follow from the key
    and the values of this row, whichever rows come with it.

    Args:
      batch: from `Data.train`, or consecutive rows of it.
      key: that of `prepare`; differs from step to step.
    """
    del key
    return batch

  def prepare(self, batch: Batch, key: jax.Array) -> Batch:
    """Makes or augments a training batch on the device; pure.

    By default batches are used as the data yields them.

    Args:
      batch: a whole batch, filled.
      key: differs from step to step.
    """
    del key
    return batch

  def fit_start(self, variables: Variables, batch: Batch) -> Variables:
    """Fits variables that came from another model to this one's data.

    Called once, before the first step of a training that starts from the
    weights of another model. By default they stay as they are.

    Args:
      variables: of this model, partly from the other one.
      batch: the first training batch, as `prepare` makes it.
    """
    del batch
    return variables

  @abc.abstractmethod
  def loss(
    self,
    params: Params,
    model_state: ModelState,
    batch: Batch,
    key: jax.Array,
    *,
    iterations: int | None = None,
    restarts: restarts_lib.Restarts | None = None,
  ) -> tuple[jax.Array, LossOutput]:
    """Returns the training loss, a scalar, and a `LossOutput`.

    Args:
      params: parameters.
      model_state: the other collections.
      batch: a prepared batch.
      key: for random numbers of the model.
      iterations: inner steps, static; None for the configured number.
      restarts: starts, static; likewise. A task that is not trained with
        `config.restarts_schedule` need not take it.
    """

  @abc.abstractmethod
  def evaluate(
    self,
    variables: Variables,
    batch: Batch,
    key: jax.Array,
    **decode_options: Any,
  ) -> Metrics:
    """Returns what `summarize` needs of every example, arrays `(B, …)`.

    Args:
      variables: 'params' and the other collections.
      batch: an evaluation batch; rows where its `mask` is false are ignored.
      key: for a sampled initial set.
      **decode_options: static options of the decoder, such as `iterations`;
        empty for a task that does not iterate.

    Returns:
      Arrays with one row per example, by name. A quantity that is undefined
      for some examples is an `averages.Weighted`, with weight 0 there.
    """

  def summarize(self, metrics: Metrics) -> dict[str, float]:
    """Turns the rows of a whole data set into numbers; by default their means.

    Args:
      metrics: what `evaluate` returned, as NumPy arrays over all examples.
    """
    means = {}
    for name, rows in metrics.items():
      count = len(jax.tree.leaves(rows)[0])
      means[name] = averages.average(rows, np.ones(count, bool))
    return means

  def predict(
    self,
    variables: Variables,
    batch: Batch,
    key: jax.Array,
    **decode_options: Any,
  ) -> dict[str, jax.Array]:
    """Predicts sets for new inputs.

    Args:
      variables: 'params' and the other collections.
      batch: inputs, from `Data.read_inputs`.
      key: for a sampled initial set.
      **decode_options: see `evaluate`.

    Returns:
      Arrays with one row per example: `sets`, `(B, N, D)`, and where there is
      an inner problem its `energy` and `residual`, `(B,)`.

    Raises:
      UserError: if the task has no such predictions.
    """
    del variables, batch, key, decode_options
    raise data_lib.no_predictions(self.config.task)

  def draw(
    self,
    variables: Variables,
    data: data_lib.Data,
    key: jax.Array,
    iterations: Sequence[int | None],
  ) -> dict[str, Any]:
    """Draws evaluation examples at several numbers of inner steps.

    Args:
      variables: 'params' and the other collections.
      data: where the examples come from.
      key: for a sampled initial set.
      iterations: numbers of inner steps; None for the configured number.

    Returns:
      Matplotlib figures by file name (without a suffix); none by default.
    """
    del variables, data, key, iterations
    return {}


class Experiment(NamedTuple):
  """A task and its data, as built from a config.

  Attributes:
    task: the task.
    data: the data of a seed; all seeds share one underlying source.
    record: what identifies the data files (digest, split, statistics), as
      plain JSON values; stored with the run and given to the builder when the
      run is opened again. None for data that follow from the config.
    other_file: the path of a data file that the run was not trained on and is
      evaluated on whole; None for the run's own data.
  """

  task: Task
  data: Callable[[int], data_lib.Data]
  record: dict[str, Any] | None = None
  other_file: str | None = None


# What is registered under a task's name: `build(config)`. Tasks that read files
# also take `record` (what the run stored of its data) and `data_path` (where
# the data file is now, or another file to evaluate on), both None by default;
# those on pictures of CLEVR scenes also `num_objects`, see `registry.build`.
Builder = Callable[..., Experiment]


def split_variables(variables: Variables) -> tuple[Params, ModelState]:
  """Separates 'params' from the other collections."""
  rest = {name: tree for name, tree in variables.items() if name != 'params'}
  return variables['params'], rest


def join_variables(params: Params, model_state: ModelState) -> dict[str, Any]:
  """The inverse of `split_variables`."""
  return {'params': params, **model_state}


def stack_rows(rows: Sequence[Metrics], masks: Sequence[np.ndarray]) -> Metrics:
  """Joins the metrics of batches to arrays over all real examples.

  Args:
    rows: what `Task.evaluate` returned for every batch.
    masks: the batches' masks, `(B,)` each.
  """

  def join(*leaves):
    kept = [np.asarray(a)[m] for a, m in zip(leaves, masks, strict=True)]
    return np.concatenate(kept)

  return jax.tree.map(join, *map(dict, rows))
