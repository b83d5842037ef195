"""The seven models of class numbering (Section 4.1, Tables 2 and 4)."""

from collections.abc import Callable

import ml_collections

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.modules import autoencoder
from idspn_jax.modules import deep_sets
from idspn_jax.modules import lstm
from idspn_jax.modules import transformer
from idspn_jax.tasks import model

DECODERS = ('idspn', 'dspn')
_BASELINES: dict[str, Callable] = {
  'deep_sets': deep_sets.EquivariantDeepSets,
  'transformer': transformer.SetTransformer,
  'transformer_pe': lambda h, n: transformer.SetTransformer(
    h, n, positions='sinusoidal'
  ),
  'transformer_random_pe': lambda h, n: transformer.SetTransformer(
    h, n, positions='random'
  ),
  'bilstm': lstm.BidirectionalLSTM,
}
MODELS = (*_BASELINES, *DECODERS)


def build_model(
  name: str,
  config: ml_collections.ConfigDict,
  set_size: int,
  axis_name: str | None = None,
) -> Callable:
  """Builds one of the seven models.

  Args:
    name: one of `MODELS`.
    config: the `model` part of a config.
    set_size: elements per set N, and numbers to choose from.
    axis_name: see `model.axis_name_of`.

  Returns:
    A Flax module from one-hot classes `(B, N, K)` to scores `(B, N, N)`.

  Raises:
    UserError: if the name or a setting is wrong.
  """
  checks.choice(name, 'config.model_name', MODELS)
  if name in DECODERS:
    built = model.build_autoencoder(config, set_size, set_size, axis_name)
    return autoencoder.SetAutoencoder(
      built.input_encoder, built.decoder, condition_on_input=True
    )
  checks.integer(config.hidden_dim, 'config.model.hidden_dim')
  if name.startswith('transformer') and config.hidden_dim % 8:
    raise errors.UserError(
      'config.model.hidden_dim must be a multiple of 8 (the attention heads); '
      f'got {config.hidden_dim}.'
    )
  built = _BASELINES[name](config.hidden_dim, set_size)
  if name == 'transformer_random_pe':
    built = built.clone(axis_name=axis_name)
  return built
