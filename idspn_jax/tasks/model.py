"""Builds decoders, autoencoders and losses from `model` of a config."""

from collections.abc import Callable
import dataclasses

import jax.numpy as jnp
import ml_collections

from idspn_jax import checks
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
from idspn_jax.solvers import restarts as restarts_lib

PROJECTIONS = {
  'none': None,
  'simplex': simplex.project_simplex,
  'simplex_straight_through': simplex.project_simplex_straight_through,
}
LOSSES = {
  'hungarian': set_losses.hungarian_loss,
  'chamfer': set_losses.chamfer_loss,
  'sinkhorn': set_losses.sinkhorn_loss,
}
# Of `jax.pmap`, see `training.parallel`.
BATCH_AXIS = 'batch'
INITIAL_SETS = ('learned', 'normal', 'zeros')
DTYPES = {'float32': None, 'bfloat16': jnp.bfloat16}
OPTIMIZERS = ('gradient_descent', 'line_search', 'projected_gradient')


def default_config() -> ml_collections.ConfigDict:
  """The paper's decoder of Section 4.2; tasks override what differs."""
  return ml_collections.ConfigDict(
    {
      'hidden_dim': 512,
      'latent_dim': 512,
      'pool': 'fs',
      'activation': 'relu',
      'linear_init': 'torch',
      'iterations': 10,
      'optimizer': 'gradient_descent',
      'learning_rate': 1.0,
      'momentum': 0.9,
      'gradient': 'jacobian_free',
      'gradient_options': gradient_options(),
      'grad_clip': 0.0,
      'projection': 'none',
      'regularizer': 0.1,
      'initial_set': 'learned',
      'initial_scale': 0.1,
      'tolerance': 0.0,
      # Starts of every set, of which the one of least energy is kept, and the
      # standard deviation of the noise around the initial set.
      'restarts': 1,
      'restart_scale': 0.2,
      # Of the encoders' matrix products; parameters are float32.
      'dtype': 'float32',
    }
  )


def gradient_options() -> ml_collections.ConfigDict:
  """The options of all gradient modes; None takes the mode's own default."""
  kinds = {
    'checkpoint': bool,
    'gamma': float,
    'iterations': int,
    'linearize_at': str,
    'restart': int,
    'ridge': float,
    'scale': float,
    'terms': int,
    'tolerance': float,
  }
  return ml_collections.ConfigDict(
    {
      name: ml_collections.config_dict.placeholder(kind)
      for name, kind in kinds.items()
    }
  )


def _optimizer(config):
  if config.optimizer == 'line_search':
    return inner_step.BacktrackingLineSearch(config.learning_rate)
  if config.optimizer == 'projected_gradient':
    return projected_gradient.ProjectedGradient()
  return inner_step.GradientDescent(config.learning_rate, config.momentum)


def _check(config):
  for name in ('hidden_dim', 'latent_dim', 'iterations', 'restarts'):
    checks.integer(config[name], f'config.model.{name}')
  for name, choices in (
    ('pool', set_encoders.POOLS),
    ('activation', set_encoders.ACTIVATIONS),
    ('linear_init', linear.LINEAR_INITS),
    ('optimizer', OPTIMIZERS),
    ('gradient', gradients.MODES),
    ('projection', PROJECTIONS),
    ('initial_set', INITIAL_SETS),
    ('dtype', DTYPES),
  ):
    checks.choice(config[name], f'config.model.{name}', choices)
  for name in (
    'grad_clip',
    'regularizer',
    'initial_scale',
    'tolerance',
    'restart_scale',
  ):
    checks.number(config[name], f'config.model.{name}', least=0)
  checks.number(
    config.learning_rate, 'config.model.learning_rate', positive=True
  )
  checks.number(config.momentum, 'config.model.momentum', least=0, most=1)


def _check_straight_through(config, gradient):
  """Refuses a derivative that is biased on purpose in modes that are not."""
  biased = config.projection == 'simplex_straight_through'
  if biased and not isinstance(gradient, gradients.JacobianFree):
    raise errors.UserError(
      f'config.model.projection is {config.projection!r}, which is for '
      f"gradient 'jacobian_free'; gradient {config.gradient!r} needs "
      "projection 'simplex'."
    )


def _gradient(config):
  """The gradient mode, with clear errors for its options."""
  options = {
    name: value
    for name, value in config.gradient_options.to_dict().items()
    if value is not None
  }
  mode = gradients.MODES[config.gradient]
  fields = dataclasses.fields(mode) if dataclasses.is_dataclass(mode) else ()
  known = [field.name for field in fields]
  for name in options:
    if name not in known:
      raise errors.UserError(
        f'config.model.gradient_options.{name} is no option of gradient '
        f'{config.gradient!r}; it has: {", ".join(known) or "none"}.'
      )
  return gradients.gradient_mode(config.gradient, **options)


def _check_reverse(config, gradient):
  unrolled = isinstance(gradient, gradients.Unrolled)
  if unrolled and config.optimizer != 'gradient_descent':
    raise errors.UserError(
      f'config.model.optimizer={config.optimizer!r} has loops that '
      f'config.model.gradient={config.gradient!r} cannot differentiate; choose '
      "optimizer='gradient_descent', or a gradient such as 'jacobian_free'."
    )


def axis_name_of(config: ml_collections.ConfigDict) -> str | None:
  """The mapped axis over which a whole config's training divides batches."""
  return BATCH_AXIS if config.parallel == 'pmap' else None


def build_decoder(
  config: ml_collections.ConfigDict,
  set_size: int,
  set_dim: int,
  axis_name: str | None = None,
) -> set_decoder.SetDecoder:
  """Builds the decoder that a config describes.

  Args:
    config: like `default_config()`.
    set_size: elements per set N.
    set_dim: features per element D.
    axis_name: see `axis_name_of`.

  Returns:
    The module; zero for clip and tolerance mean none.

  Raises:
    UserError: if a value is impossible or two do not combine.
  """
  _check(config)
  try:
    optimizer = _optimizer(config)
    gradient = _gradient(config)
    _check_reverse(config, gradient)
    _check_straight_through(config, gradient)
    gradients.check_applies(gradient, config.projection != 'none')
    # Built once more by the decoder; here for the error it may raise.
    inner_step.make_step(
      lambda inputs, y: y,
      optimizer,
      config.grad_clip or None,
      PROJECTIONS[config.projection],
    )
  except errors.UserError:
    raise
  except ValueError as e:
    raise errors.UserError(f'config.model: {e}') from e
  return set_decoder.SetDecoder(
    _encoder(config, config.pool),
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
    restarts=(
      build_restarts(config, config.restarts) if config.restarts > 1 else None
    ),
    axis_name=axis_name,
  )


def _encoder(config, pool):
  return set_encoders.SetEncoder(
    config.hidden_dim,
    config.latent_dim,
    pool=pool,
    linear_init=config.linear_init,
    dtype=DTYPES[config.dtype],
    activation=config.activation,
  )


def build_autoencoder(
  config: ml_collections.ConfigDict,
  set_size: int,
  set_dim: int,
  axis_name: str | None = None,
) -> autoencoder.SetAutoencoder:
  """Builds the autoencoder that a config describes; see `build_decoder`."""
  decoder = build_decoder(config, set_size, set_dim, axis_name)
  input_pool = 'fs_autodiff' if config.pool == 'fs_autodiff' else 'fs'
  return autoencoder.SetAutoencoder(_encoder(config, input_pool), decoder)


def build_restarts(
  config: ml_collections.ConfigDict, starts: int
) -> restarts_lib.Restarts:
  """So many starts, with a config's scale.

  Args:
    config: like `default_config()`.
    starts: how many.
  """
  return restarts_lib.Restarts(starts, config.restart_scale)


def build_loss(name: str) -> Callable:
  """Looks up a loss `(prediction, target) -> (B,)`.

  Raises:
    UserError: if the name is unknown.
  """
  checks.choice(name, 'config.loss', LOSSES)
  return LOSSES[name]
