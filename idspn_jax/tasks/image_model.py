"""What tasks need of a model from images to sets."""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from idspn_jax.solvers import decode as decode_lib
from idspn_jax.tasks import task


class Prediction(NamedTuple):
  """What a model makes of a batch of images.

  Attributes:
    sets: `(B, N, D)`.
    stages: all predictions that the loss is averaged over, `(S, B, N, D)`.
    model_state: the collections besides 'params' that this call changed.
    decoded: what the set decoder reports; None for models without.
    latent: what the set decoder was given, `(B, Z)`, or None.
  """

  sets: jax.Array
  stages: jax.Array
  model_state: task.ModelState
  decoded: decode_lib.Decoded | None
  latent: jax.Array | None = None


class ImageModel(abc.ABC):
  """A model from images to sets.

  Attributes:
    module: of Flax.
    iterates: whether it has inner steps that may be changed.
    counts_fallbacks: see `Task.counts_fallbacks`.
  """

  iterates = True
  counts_fallbacks = False

  def __init__(self, module: Any, image_size: int):
    """Remembers the module and the size of its images."""
    self.module = module
    self._shape = (image_size, image_size, 3)

  def init(self, key: jax.Array) -> task.Variables:
    """Returns fresh variables."""
    params_key, set_key = jax.random.split(key)
    rngs = {'params': params_key, 'initial_set': set_key}
    return self.module.init(rngs, jnp.zeros((1, *self._shape)))

  def check(self) -> None:
    """Traces the module once.

    Raises:
      ValueError: if its settings do not fit.
    """
    jax.eval_shape(self.init, jax.random.key(0))

  def __call__(
    self,
    variables: task.Variables,
    images: jax.Array,
    key: jax.Array,
    train: bool = False,
    **options: Any,
  ) -> Prediction:
    """Predicts sets from images.

    Args:
      variables: of the module.
      images: `(B, H, W, 3)`, uint8, or floats from 0 to 1.
      key: for a sampled initial set.
      train: take statistics of the batch, and update them.
      **options: of the set decoder.

    Returns:
      The prediction, with all collections besides 'params'.
    """
    found = self.apply(variables, images, {'initial_set': key}, train, options)
    state = {**task.split_variables(variables)[1], **found.model_state}
    return found._replace(model_state=state)

  @abc.abstractmethod
  def apply(
    self,
    variables: task.Variables,
    images: jax.Array,
    rngs: dict[str, jax.Array],
    train: bool,
    options: dict[str, Any],
  ) -> Prediction:
    """Calls the module; see `__call__`."""

  @abc.abstractmethod
  def in_loss_units(
    self, sets: jax.Array, is_target: bool = False
  ) -> jax.Array:
    """Features as this model's loss compares them.

    Args:
      sets: `(B, N, D)`.
      is_target: whether they are true sets, whose padding stays zero.
    """
