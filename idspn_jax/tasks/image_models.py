"""Builds the models from images to sets from the `model` part of a config."""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.modules import image_encoder
from idspn_jax.modules import resnet
from idspn_jax.modules import set_predictor
from idspn_jax.ops import convolution
from idspn_jax.solvers import decode as decode_lib
from idspn_jax.tasks import autoencoding
from idspn_jax.tasks import model
from idspn_jax.tasks import task

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
  return config


class Prediction(NamedTuple):
  """What a model makes of a batch of images.

  Attributes:
    sets: `(B, N, D)`.
    stages: all predictions that the loss is averaged over, `(S, B, N, D)`;
      the last is `sets`.
    model_state: the collections besides 'params' after this call.
    decoded: what the set decoder reports; None for models without.
  """

  sets: jax.Array
  stages: jax.Array
  model_state: task.ModelState
  decoded: decode_lib.Decoded | None


class ImageModel(abc.ABC):
  """A model from images to sets.

  Attributes:
    iterates: whether it has inner steps that may be changed.
    counts_fallbacks: see `Task.counts_fallbacks`.
  """

  iterates = True
  counts_fallbacks = False

  def __init__(self, module: Any, image_size: int):
    """Remembers the module, of Flax, and the size of its images."""
    self.module = module
    self._shape = (image_size, image_size, 3)

  def init(self, key: jax.Array) -> task.Variables:
    """Returns fresh variables."""
    params_key, set_key = jax.random.split(key)
    rngs = {'params': params_key, 'initial_set': set_key}
    return self.module.init(rngs, jnp.zeros((1, *self._shape)))

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
    """
    found, changed = self.module.apply(
      variables,
      images,
      train,
      rngs={'initial_set': key},
      mutable=['batch_stats'] if train else [],
      **self._call(options),
    )
    state = {**task.split_variables(variables)[1], **changed}
    return self._prediction(found, state)

  @abc.abstractmethod
  def _call(self, options):
    """Arguments of `Module.apply`: the method, and its options."""

  @abc.abstractmethod
  def _prediction(self, found, model_state):
    """Of what the module returned."""


class DecoderModel(ImageModel):
  """An image encoder and the set decoder (iDSPN, DSPN)."""

  def __init__(
    self, module: set_predictor.SetPredictor, image_size: int, scale: jax.Array
  ):
    """Remembers the module.

    Args:
      module: the model.
      image_size: height and width of its images.
      scale: what features are multiplied by inside the model, `(1, 1, D)`.
    """
    super().__init__(module, image_size)
    self._scale = scale
    self.counts_fallbacks = autoencoding.counts_fallbacks(
      module.decoder.gradient
    )

  def _call(self, options):
    return {'method': 'solve', **options}

  def _prediction(self, found, model_state):
    found = found._replace(set=found.set / self._scale)
    return Prediction(found.set, found.set[None], model_state, found)


def build(
  config: ml_collections.ConfigDict,
  image_size: int,
  set_size: int,
  set_dim: int,
  scale: jax.Array,
  axis_name: str | None = None,
) -> ImageModel:
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
  return DecoderModel(module, image_size, scale)
