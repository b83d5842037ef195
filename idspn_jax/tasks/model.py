"""Builds set autoencoders and losses from the `model` part of a config."""

from collections.abc import Callable
import functools

import ml_collections

from idspn_jax import errors
from idspn_jax.losses import set_losses
from idspn_jax.modules import autoencoder
from idspn_jax.modules import linear
from idspn_jax.modules import set_decoder
from idspn_jax.modules import set_encoders
from idspn_jax.ops import simplex
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step
from idspn_jax.solvers import projected_gradient

PROJECTIONS = {'none': None, 'simplex': simplex.project_simplex}
LOSSES = {
  'hungarian': set_losses.hungarian_loss,
  'chamfer': set_losses.chamfer_loss,
  'sinkhorn': set_losses.sinkhorn_loss,
}
OPTIMIZERS = ('gradient_descent', 'line_search', 'projected_gradient')


def default_config() -> ml_collections.ConfigDict:
  """The paper's decoder of Section 4.2; tasks override what differs."""
  return ml_collections.ConfigDict(
    {
      'hidden_dim': 512,
      'latent_dim': 512,
      'pool': 'fs',
      'linear_init': 'torch',
      'iterations': 10,
      'optimizer': 'gradient_descent',
      'learning_rate': 1.0,
      'momentum': 0.9,
      'gradient': 'jacobian_free',
      'gradient_options': ml_collections.ConfigDict(),
      'grad_clip': 0.0,
      'projection': 'none',
      'regularizer': 0.1,
      'initial_set': 'learned',
      'initial_scale': 0.1,
      'tolerance': 0.0,
    }
  )


def positive(value, name: str) -> None:
  """Refuses values that are not positive integers.

  Raises:
    UserError: naming the setting and its value.
  """
  if isinstance(value, bool) or not isinstance(value, int) or value < 1:
    raise errors.UserError(f'{name} must be a positive integer; got {value!r}.')


def choice(value, name: str, choices) -> None:
  """Refuses values that are not among the choices.

  Raises:
    UserError: naming the setting, its value and the choices.
  """
  if value not in choices:
    raise errors.UserError(
      f'{name} is {value!r}; choose one of {", ".join(choices)}.'
    )


def _optimizer(config):
  if config.optimizer == 'line_search':
    return inner_step.BacktrackingLineSearch(config.learning_rate)
  if config.optimizer == 'projected_gradient':
    return projected_gradient.ProjectedGradient()
  return inner_step.GradientDescent(config.learning_rate, config.momentum)


def _check(config):
  for name in ('hidden_dim', 'latent_dim', 'iterations'):
    positive(config[name], f'model.{name}')
  choice(config.pool, 'model.pool', set_encoders.POOLS)
  choice(config.linear_init, 'model.linear_init', linear.LINEAR_INITS)
  choice(config.optimizer, 'model.optimizer', OPTIMIZERS)
  choice(config.gradient, 'model.gradient', gradients.MODES)
  choice(config.projection, 'model.projection', PROJECTIONS)
  choice(
    config.initial_set, 'model.initial_set', ('learned', 'normal', 'zeros')
  )
  for name in ('grad_clip', 'regularizer', 'initial_scale', 'tolerance'):
    if not config[name] >= 0:
      raise errors.UserError(
        f'model.{name} must not be negative; got {config[name]}.'
      )
  if not config.learning_rate > 0:
    raise errors.UserError(
      f'model.learning_rate must be positive; got {config.learning_rate}.'
    )


def build_autoencoder(
  config: ml_collections.ConfigDict, set_size: int, set_dim: int
) -> autoencoder.SetAutoencoder:
  """Builds the autoencoder that a config describes.

  Args:
    config: like `default_config()`.
    set_size: elements per set N.
    set_dim: features per element D.

  Returns:
    The module; zero for clip and tolerance mean none.

  Raises:
    UserError: if a value is impossible or two do not combine.
  """
  _check(config)
  try:
    optimizer = _optimizer(config)
    gradient = gradients.gradient_mode(
      config.gradient, **config.gradient_options.to_dict()
    )
    gradients.check_applies(gradient, config.projection != 'none')
    # Built once more by the decoder; here for the error it may raise.
    inner_step.make_step(
      lambda inputs, y: y,
      optimizer,
      config.grad_clip or None,
      PROJECTIONS[config.projection],
    )
  except ValueError as e:
    raise errors.UserError(f'config.model: {e}') from e
  encoder = functools.partial(
    set_encoders.SetEncoder,
    config.hidden_dim,
    config.latent_dim,
    linear_init=config.linear_init,
  )
  decoder = set_decoder.SetDecoder(
    encoder(pool=config.pool),
    set_size,
    set_dim,
    iterations=config.iterations,
    optimizer=optimizer,
    gradient=gradient,
    grad_clip=config.grad_clip or None,
    projection=PROJECTIONS[config.projection],
    tolerance=config.tolerance or None,
    regularizer=config.regularizer,
    initial_set=config.initial_set,
    initial_scale=config.initial_scale,
  )
  input_pool = 'fs_autodiff' if config.pool == 'fs_autodiff' else 'fs'
  return autoencoder.SetAutoencoder(encoder(pool=input_pool), decoder)


def build_loss(name: str) -> Callable:
  """Looks up a loss `(prediction, target) -> (B,)`.

  Raises:
    UserError: if the name is unknown.
  """
  choice(name, 'loss', LOSSES)
  return LOSSES[name]
