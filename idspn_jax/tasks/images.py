"""What the tasks share that predict sets from images (Section 4.3)."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from idspn_jax import checks
from idspn_jax.data import pictures
from idspn_jax.data import set_layout
from idspn_jax.tasks import autoencoding
from idspn_jax.tasks import image_models
from idspn_jax.tasks import model
from idspn_jax.tasks import task


def default_augmentation() -> ml_collections.ConfigDict:
  """Changes of training images that leave their sets true; none."""
  return ml_collections.ConfigDict(
    {
      # Every image is multiplied by a factor from 1 - b to 1 + b.
      'brightness': 0.0,
      # Standard deviation of noise on every pixel, of the range 0 to 1.
      'noise': 0.0,
    }
  )


# What `with_confidence` and the inner problem say of a whole set.
CONFIDENCES = (
  'margin',
  'energy',
  'residual',
  'start_energies',
  'energy_spread',
)


def with_confidence(
  predictions: dict[str, Any], layout: set_layout.Layout
) -> dict[str, Any]:
  """Adds how clear the predicted sets are, and how far their starts agree.

  None of it is a probability.

  Args:
    predictions: of `Task.predict`: `sets`, features `(S, N, D)`; if there were
      several starts, `start_energies`, `(S, K)`.
    layout: of the features.

  Returns:
    The predictions; `margins`, `(S, N)`, see `Layout.margins`, and the smallest
    of each set, `margin`, `(S,)`; and of several starts the standard deviation
    of the energies of every set, `energy_spread`, `(S,)`. The larger the margin
    and the smaller the spread, the more is right.
  """
  with np.errstate(invalid='ignore', over='ignore'):
    margins = layout.margins(predictions['sets'])
    found = {'margins': margins, 'margin': np.min(margins, axis=-1)}
    if 'start_energies' in predictions:
      spread = np.std(predictions['start_energies'], axis=-1)
      found['energy_spread'] = spread
  return {**predictions, **found}


class ImagesToSets(task.Task):
  """Predicts the sets `batch['target']`, `(B, N, D)`, from `batch['image']`."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    image_size: int,
    set_size: int,
    set_dim: int,
    scale: Any,
  ):
    """Builds the model.

    Args:
      config: a configuration with the parts `model`, `loss`, `augmentation`.
      image_size: height and width of the images.
      set_size: elements per set N.
      set_dim: features per element D.
      scale: what features are multiplied by before they are compared,
        `(1, 1, D)`.

    Raises:
      UserError: if a value is impossible.
    """
    super().__init__(config)
    for name, value in config.augmentation.items():
      checks.number(value, f'config.augmentation.{name}', least=0, most=1)
    self.shape = (set_size, set_dim)
    self._scale = jnp.asarray(scale)
    self.model = image_models.build(
      config.model, image_size, *self.shape, scale, model.axis_name_of(config)
    )
    self.iterates = self.model.iterates
    self.counts_fallbacks = self.model.counts_fallbacks
    self._loss = model.build_loss(config.loss)

  def _training_loss(self, prediction, target):
    """In the units of the model."""
    return self._loss(
      self.model.in_loss_units(prediction),
      self.model.in_loss_units(target, is_target=True),
    )

  def _reported_loss(self, prediction, target):
    """In the same units for all models."""
    return model.LOSSES['hungarian'](
      prediction * self._scale, target * self._scale
    )

  def init(self, key):
    """See `Task.init`."""
    return self.model.init(key)

  def prepare(self, batch, key):
    """See `Task.prepare`: augments the images."""
    own = self.config.augmentation
    if not own.brightness and not own.noise:
      return batch
    images = pictures.to_floats(batch['image'])
    factor_key, noise_key = jax.random.split(key)
    shape = (images.shape[0], 1, 1, 1)
    factor = jax.random.uniform(factor_key, shape, minval=-1.0, maxval=1.0)
    images *= 1 + own.brightness * factor
    images += own.noise * jax.random.normal(noise_key, images.shape)
    return {**batch, 'image': jnp.clip(images, 0.0, 1.0)}

  def fit_start(self, variables, batch):
    """See `Task.fit_start`: latent losses begin at their mean."""
    if not self.config.model.latent_loss:
      return variables
    return self.model.center_latent(variables, batch['target'])

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
    """See `Task.loss`: the mean over all stages that the model returns."""
    options = {}
    if self.iterates:
      options = {
        'iterations': iterations,
        'restarts': restarts,
        'fallbacks': batch.get('fallbacks'),
      }
    found = self.model(
      task.join_variables(params, model_state),
      batch['image'],
      key,
      train=True,
      **options,
    )
    losses = [self._training_loss(s, batch['target']) for s in found.stages]
    scalars = {}
    if found.decoded is not None:
      scalars = autoencoding.inner_scalars(found.decoded)
    loss = jnp.mean(jnp.stack(losses))
    weight = self.config.model.latent_loss
    if weight:
      latent_loss = self.model.latent_loss(params, found, batch['target'])
      scalars |= {'set_loss': loss, 'latent_loss': latent_loss}
      loss += weight * latent_loss
    return loss, task.LossOutput(found.model_state, scalars)

  def evaluate(self, variables, batch, key, **decode_options):
    """See `Task.evaluate`: the loss, and both sets for `summarize`."""
    found = self.model(variables, batch['image'], key, **decode_options)
    loss = self._reported_loss(found.sets, batch['target'])
    return {'loss': loss, 'prediction': found.sets, 'target': batch['target']}

  def predict(self, variables, batch, key, **decode_options):
    """See `Task.predict`; with several starts also `start_energies`."""
    found = self.model(variables, batch['image'], key, **decode_options)
    if found.decoded is None:
      return {'sets': found.sets}
    out = autoencoding.prediction(found.decoded)
    if found.decoded.start_energies is not None:
      out['start_energies'] = found.decoded.start_energies.T
    return out
