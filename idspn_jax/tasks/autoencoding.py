"""What the tasks share whose model is a set autoencoder (Section 4.2)."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from idspn_jax.solvers import decode as decode_lib
from idspn_jax.solvers import gradients
from idspn_jax.tasks import model
from idspn_jax.tasks import task


def counts_fallbacks(gradient: gradients.Gradient) -> bool:
  """Whether a mode solves a linear system, and so may fall back."""
  free = isinstance(gradient, gradients.JacobianFree)
  return isinstance(gradient, gradients.Implicit) and not free


class SetAutoencoding(task.Task):
  """Reconstructs the sets `batch['input']`, `(B, N, D)`."""

  def __init__(
    self, config: ml_collections.ConfigDict, set_size: int, set_dim: int
  ):
    """Builds the model.

    Args:
      config: a configuration with the parts `model` and `loss`.
      set_size: elements per set N.
      set_dim: features per element D.

    Raises:
      UserError: if a value is impossible.
    """
    super().__init__(config)
    self.shape = (set_size, set_dim)
    self.model = model.build_autoencoder(
      config.model, *self.shape, model.axis_name_of(config)
    )
    self.set_loss = model.build_loss(config.loss)
    self.counts_fallbacks = counts_fallbacks(self.model.decoder.gradient)

  def init(self, key):
    """See `Task.init`."""
    params_key, set_key = jax.random.split(key)
    rngs = {'params': params_key, 'initial_set': set_key}
    return self.model.init(rngs, jnp.zeros((1, *self.shape)))

  def decode(
    self,
    variables: task.Variables,
    sets: jax.Array,
    key: jax.Array,
    **options: Any,
  ) -> decode_lib.Decoded:
    """Encodes and decodes sets.

    Args:
      variables: of the model.
      sets: `(B, N, D)`.
      key: for a sampled initial set.
      **options: of the decoder, such as `iterations` or `trajectory`.

    Returns:
      What the decoder found; its `set` is the reconstruction.
    """

    def reconstruct(module, x):
      return module.decode(module.encode(x), x, **options)

    return self.model.apply(
      variables, sets, method=reconstruct, rngs={'initial_set': key}
    )

  def loss(
    self,
    params,
    model_state,
    batch,
    key,
    *,
    iterations=None,
    restarts=None,
  ):
    """See `Task.loss`."""
    variables = task.join_variables(params, model_state)
    decoded = self.decode(
      variables,
      batch['input'],
      key,
      iterations=iterations,
      restarts=restarts,
      fallbacks=batch.get('fallbacks'),
    )
    loss = jnp.mean(self.set_loss(decoded.set, batch['input']))
    return loss, task.LossOutput(model_state, inner_scalars(decoded))

  def predict(self, variables, batch, key, **decode_options):
    """See `Task.predict`."""
    decoded = self.decode(variables, batch['input'], key, **decode_options)
    return prediction(decoded)


def inner_scalars(decoded: decode_lib.Decoded) -> dict[str, jax.Array]:
  """What to log of the inner problem: means over the batch."""
  return {
    'inner_energy': jnp.mean(decoded.last_energy),
    'inner_residual': jnp.mean(decoded.last_residual),
  }


def prediction(decoded: decode_lib.Decoded) -> dict[str, jax.Array]:
  """The arrays that `Task.predict` returns of a decoded batch."""
  return {
    'sets': decoded.set,
    'energy': decoded.last_energy,
    'residual': decoded.last_residual,
  }
