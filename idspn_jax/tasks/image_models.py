"""Builds the models from images to sets from the `model` part of a config."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.modules import image_encoder
from idspn_jax.modules import resnet
from idspn_jax.modules import set_predictor
from idspn_jax.ops import convolution
from idspn_jax.tasks import autoencoding
from idspn_jax.tasks import image_model
from idspn_jax.tasks import model
from idspn_jax.tasks import slot_models
from idspn_jax.tasks import task

# Of the largest standard deviation of a latent component.
_LEAST_STD = 0.02
NAMES = ('set_decoder', 'slot_attention', 'slot_mlp')


def default_config() -> ml_collections.ConfigDict:
  """The model of Section 4.3: ResNet-18 and iDSPN."""
  config = model.default_config()
  config.name = 'set_decoder'
  config.update(
    {
      'iterations': 20,
      'grad_clip': 10.0,
      'regularizer': 0.0,
      'initial_set': 'normal',
    }
  )
  config.image_encoder = ml_collections.ConfigDict(
    {
      # Channels of the first stage; 64 in ResNet-18.
      'width': 64,
      # 'imagenet': 7×7 convolution and max-pool; 'small' and 'patch' suit 64
      # pixels, see `modules.resnet`.
      'stem': 'imagenet',
      'blocks': (2, 2, 2, 2),
      # 'im2col' is faster on CPUs; '' chooses by the backend.
      'convolution': '',
    }
  )
  # Weight of a loss between the latent vectors of an image and of its true set,
  # as in DSPN; 0 for none.
  config.latent_loss = 0.0
  # Whether the decoder is trained, or stays as it began.
  config.train_decoder = True
  config.slots = slot_models.default_config()
  return config


class DecoderModel(image_model.ImageModel):
  """An image encoder and the set decoder (iDSPN, DSPN)."""

  def __init__(
    self,
    module: set_predictor.SetPredictor,
    image_size: int,
    scale: jax.Array,
    train_decoder: bool = True,
  ):
    """Remembers the module.

    Args:
      module: the model.
      image_size: height and width of its images.
      scale: what features are multiplied by inside the model and in its loss,
        `(1, 1, D)`.
      train_decoder: whether the decoder's parameters get gradients.
    """
    super().__init__(module, image_size)
    self._scale = scale
    self._train_decoder = train_decoder
    self.counts_fallbacks = autoencoding.counts_fallbacks(
      module.decoder.gradient
    )

  def in_loss_units(self, sets, is_target=False):
    """See `ImageModel.in_loss_units`."""
    del is_target  # Zero times the scale is zero.
    return sets * self._scale

  def apply(self, variables, images, rngs, train, options):
    """See `ImageModel.apply`."""
    latent, changed = self.module.apply(
      variables,
      images,
      train,
      method='encode',
      mutable=['batch_stats'] if train else [],
    )
    if not self._train_decoder:
      params = variables['params']
      fixed = jax.lax.stop_gradient(params['decoder'])
      variables = {**variables, 'params': {**params, 'decoder': fixed}}
    found = self.module.apply(
      variables, latent, method='decode', rngs=rngs, **options
    )
    found = found._replace(set=found.set / self._scale)
    return image_model.Prediction(
      found.set, found.set[None], changed, found, latent
    )

  def _latent_of_sets(self, params, target):
    sets = self.in_loss_units(target, is_target=True)
    return self.module.apply({'params': params}, sets, method='encode_sets')

  def center_latent(
    self, variables: task.Variables, target: jax.Array
  ) -> task.Variables:
    """Sets the image encoder's last bias to the mean latent of true sets.

    A decoder that was trained before may have latent vectors far from zero,
    which this bias would reach in thousands of steps only.

    Args:
      variables: of the module.
      target: true sets, `(B, N, D)`.

    Returns:
      All variables.
    """
    params = variables['params']
    mean = jnp.mean(self._latent_of_sets(params, target), axis=0)
    # The head's positions share its channels, which come first.
    head = params['encoder']['head_conv']
    bias = jnp.mean(mean.reshape(len(head['bias']), -1), axis=-1)
    encoder = {
      **params['encoder'],
      'head_conv': {**head, 'bias': bias.astype(head['bias'].dtype)},
    }
    return {**variables, 'params': {**params, 'encoder': encoder}}

  def latent_loss(
    self, params: Any, found: image_model.Prediction, target: jax.Array
  ) -> jax.Array:
    """How far the latent vectors of images are from those of their true sets.

    The representation loss of DSPN (Zhang et al., 2019), in units of the
    batch's standard deviation of every component. The true sets' vectors are
    constants of it, so that no set encoder can lower it by shrinking.

    Args:
      params: of the module.
      found: the prediction.
      target: true sets, `(B, N, D)`.

    Returns:
      The mean of the squared errors.
    """
    wanted = jax.lax.stop_gradient(self._latent_of_sets(params, target))
    std = jnp.std(wanted, axis=0, keepdims=True)
    # Components that do not vary, or hardly, weigh no more than others.
    std = jnp.maximum(std, _LEAST_STD * jnp.max(std))
    return jnp.mean(((found.latent - wanted) / std) ** 2)


def build(
  config: ml_collections.ConfigDict,
  image_size: int,
  set_size: int,
  set_dim: int,
  scale: jax.Array,
  axis_name: str | None = None,
) -> image_model.ImageModel:
  """Builds the model that a config describes.

  Args:
    config: like `default_config()`.
    image_size: height and width of the images.
    set_size: elements per set N.
    set_dim: features per element D.
    scale: what features are multiplied by inside the model, `(1, 1, D)`.
    axis_name: see `model.axis_name_of`.

  Raises:
    UserError: if a value is impossible or two do not combine.
  """
  checks.choice(config.name, 'config.model.name', NAMES)
  checks.boolean(config.train_decoder, 'config.model.train_decoder')
  checks.number(config.latent_loss, 'config.model.latent_loss', least=0)
  if config.name != 'set_decoder':
    if config.latent_loss or not config.train_decoder:
      raise errors.UserError(
        'config.model.latent_loss and train_decoder are of the set decoder; '
        f'leave them at 0 and True for {config.name}.'
      )
    return slot_models.build(
      config.name,
      config.slots,
      image_size,
      set_size,
      set_dim,
      model.DTYPES[config.dtype],
      axis_name,
    )
  own = config.image_encoder
  checks.integer(own.width, 'config.model.image_encoder.width')
  checks.choice(
    own.stem, 'config.model.image_encoder.stem', tuple(resnet.STEMS)
  )
  checks.choice(
    own.convolution,
    'config.model.image_encoder.convolution',
    ('', *convolution.METHODS),
  )
  decoder = model.build_decoder(config, set_size, set_dim, axis_name)
  encoder = image_encoder.ImageEncoder(
    config.latent_dim,
    own.width,
    own.stem,
    image_size,
    tuple(own.blocks),
    convolution=own.convolution or None,
    dtype=model.DTYPES[config.dtype],
    axis_name=axis_name,
  )
  try:
    image = jnp.zeros((1, image_size, image_size, 3))
    jax.eval_shape(encoder.init, jax.random.key(0), image)
  except ValueError as e:
    raise errors.UserError(f'config.model.image_encoder: {e}') from e
  module = set_predictor.SetPredictor(encoder, decoder)
  return DecoderModel(module, image_size, scale, config.train_decoder)
