"""The slot models of Table 3 behind the interface of `image_models`."""

from typing import Any

import ml_collections

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.modules import slot_backbone
from idspn_jax.modules import slot_predictors
from idspn_jax.tasks import image_model

LOSS_AT = ('last', 'all')


def default_config() -> ml_collections.ConfigDict:
  """Slot Attention as published, for 128×128 pixels."""
  return ml_collections.ConfigDict(
    {
      'width': 64,
      # Of the four convolutions.
      'strides': slot_backbone.STRIDES,
      'slot_dim': 64,
      'mlp_dim': 128,
      'iterations': 3,
      # The scale of coordinates in the loss: 'unit', 'symmetric' or 'scene', in
      # Table 3 Slot Attention, Slot Attention* and Slot Attention†.
      'coordinates': 'unit',
      # Iterations whose predictions enter the loss; 'all' for * and †.
      'loss_at': 'last',
      # Of Slot MLP: rows and columns that features are averaged to.
      'pooled': 8,
    }
  )


class SlotModel(image_model.ImageModel):
  """Slot Attention or Slot MLP."""

  iterates = False

  def __init__(
    self, module: Any, image_size: int, coordinates: str, loss_at: str
  ):
    """Remembers the module.

    Args:
      module: a `SlotAttentionPredictor` or `SlotMLPPredictor`.
      image_size: height and width of its images.
      coordinates: the scale of the loss, see `rescale_coordinates`.
      loss_at: iterations that enter the loss, one of `LOSS_AT`.
    """
    super().__init__(module, image_size)
    self._coordinates = coordinates
    self._stages = slice(-1, None) if loss_at == 'last' else slice(None)

  def in_loss_units(self, sets, is_target=False):
    """See `ImageModel.in_loss_units`."""
    mask = sets[..., clevr_features.PRESENCE] > 0 if is_target else None
    return slot_predictors.rescale_coordinates(
      sets, self._coordinates, mask=mask
    )

  def apply(self, variables, images, rngs, train, options):
    """See `ImageModel.apply`."""
    del train, options
    stages = self.module.apply(
      variables, images, rngs=rngs, method='all_iterations'
    )
    return image_model.Prediction(stages[-1], stages[self._stages], {}, None)


def build(
  name: str,
  config: ml_collections.ConfigDict,
  image_size: int,
  set_size: int,
  set_dim: int,
  dtype: Any = None,
  axis_name: str | None = None,
) -> SlotModel:
  """Builds 'slot_attention' or 'slot_mlp'.

  Args:
    name: which.
    config: like `default_config()`.
    image_size: height and width of the images.
    set_size: slots N.
    set_dim: features per slot, CLEVR's 19.
    dtype: type to compute in.
    axis_name: see `model.axis_name_of`.

  Raises:
    UserError: if a value is impossible.
  """
  if set_dim != clevr_features.NUM_FEATURES:
    raise errors.UserError(
      f'config.model.name={name!r} predicts CLEVR objects only; use '
      "'set_decoder'."
    )
  prefix = 'config.model.slots'
  checks.choice(config.loss_at, f'{prefix}.loss_at', LOSS_AT)
  checks.choice(
    config.coordinates,
    f'{prefix}.coordinates',
    tuple(slot_predictors.COORDINATES),
  )
  for key in ('width', 'slot_dim', 'mlp_dim', 'iterations', 'pooled'):
    checks.integer(config[key], f'{prefix}.{key}')
  common = {
    'num_slots': set_size,
    'set_dim': set_dim,
    'width': config.width,
    'strides': tuple(config.strides),
    'slot_dim': config.slot_dim,
    'dtype': dtype,
  }
  if name == 'slot_mlp':
    module = slot_predictors.SlotMLPPredictor(pooled=config.pooled, **common)
  else:
    module = slot_predictors.SlotAttentionPredictor(
      mlp_dim=config.mlp_dim,
      iterations=config.iterations,
      axis_name=axis_name,
      **common,
    )
  built = SlotModel(module, image_size, config.coordinates, config.loss_at)
  try:
    built.check()
  except ValueError as e:
    raise errors.UserError(f'{prefix}: {e}') from e
  return built
