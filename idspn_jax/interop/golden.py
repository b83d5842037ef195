"""Golden numbers of the official code: read a file, rebuild, compare.

A golden file of the set autoencoder is an `.npz` of float64 arrays: `input`,
`target`, `initial_set`, `latent`, `latent_grad`, `output`, `loss`, for implicit
modes `inner_step`, and `param/NAME` and `grad/NAME` under PyTorch names;
`config` is a JSON string.
Files of average precisions are `golden_precision`'s.
"""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax import errors
from idspn_jax.interop import comparison
from idspn_jax.interop import golden_precision
from idspn_jax.interop import official
from idspn_jax.losses import class_matching
from idspn_jax.losses import set_losses
from idspn_jax.modules import autoencoder
from idspn_jax.modules import set_decoder
from idspn_jax.modules import set_encoders
from idspn_jax.ops import simplex
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step

_ARRAYS = (
  'input',
  'target',
  'initial_set',
  'latent',
  'latent_grad',
  'output',
  'loss',
)
_KEYS = (
  'set_size',
  'set_dim',
  'hidden_dim',
  'latent_dim',
  'pool',
  'objective',
  'momentum',
  'iterations',
  'grad_clip',
  'projection',
  'gradient',
  'learn_initial_set',
  'task',
  'learning_rate',
)
_OBJECTIVES = ('mse', 'mse_regularized', 'mse_cat_input')
_TASKS = ('autoencode', 'numbering')
_REGULARIZER = 0.1


def read_arrays(path: str) -> dict[str, np.ndarray]:
  """Reads all arrays of an `.npz` file.

  Raises:
    UserError: if the file cannot be read.
  """
  try:
    # NumPy leaves a file that it opened itself open when it is damaged.
    with open(path, 'rb') as file, np.load(file, allow_pickle=False) as f:
      return {name: f[name] for name in f.files}
  except Exception as e:  # Damaged archives fail in a dozen ways.
    raise errors.UserError(f'Cannot read {path}: {e}.') from e
  except (AttributeError, TypeError) as e:
    raise errors.UserError(f'Cannot read {path}: not an .npz file.') from e


def load(path: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Reads a golden file of the set autoencoder.

  Args:
    path: an `.npz` file.

  Returns:
    The configuration and the arrays by name.

  Raises:
    UserError: if the file cannot be read or is not of this format.
  """
  return _checked(path, read_arrays(path))


def _checked(path, arrays):
  """Configuration and arrays; refuses what is not of the format."""
  if 'config' not in arrays:
    raise errors.UserError(
      f'{path} has no `config`; it holds {", ".join(sorted(arrays))}.'
    )
  try:
    config = json.loads(str(arrays.pop('config')))
  except ValueError as e:
    raise errors.UserError(f'{path}: `config` is not JSON: {e}.') from e
  missing = [name for name in _ARRAYS if name not in arrays]
  missing += [f'config.{key}' for key in _KEYS if key not in config]
  if missing:
    raise errors.UserError(f'{path} lacks {", ".join(missing)}.')
  for key, choices in (
    ('pool', set_encoders.POOLS),
    ('objective', _OBJECTIVES),
    ('projection', (None, 'simplex')),
    ('gradient', tuple(gradients.MODES)),
    ('task', _TASKS),
  ):
    if config[key] not in choices:
      raise errors.UserError(
        f'{path}: config.{key} is {config[key]!r}; known: {choices}.'
      )
  return config, arrays


def build(config: dict[str, Any]) -> autoencoder.SetAutoencoder:
  """Builds the autoencoder of a golden file's configuration."""
  sizes = (config['hidden_dim'], config['latent_dim'])
  options = {}
  if config['gradient'] == 'regularized_cg':
    options = {
      'gamma': config['cg_gamma'],
      'iterations': config['cg_iterations'],
    }
  gradient = gradients.gradient_mode(config['gradient'], **options)
  clip = config['grad_clip']
  if isinstance(gradient, gradients.Unrolled):
    clip = None  # The official DSPN takes the flag and never clips.
  decoder = set_decoder.SetDecoder(
    set_encoders.SetEncoder(*sizes, pool=config['pool']),
    config['set_size'],
    config['set_dim'],
    iterations=config['iterations'],
    optimizer=inner_step.GradientDescent(
      config['learning_rate'], config['momentum']
    ),
    gradient=gradient,
    grad_clip=clip,
    projection=simplex.project_simplex if config['projection'] else None,
    regularizer=(
      _REGULARIZER if config['objective'] == 'mse_regularized' else 0.0
    ),
    initial_set='learned' if config['learn_initial_set'] else 'given',
  )
  return autoencoder.SetAutoencoder(
    set_encoders.SetEncoder(*sizes),
    decoder,
    condition_on_input=config['objective'] == 'mse_cat_input',
  )


def _batch_loss(config, arrays, output):
  target = jnp.asarray(arrays['target'])
  if config['task'] == 'autoencode':
    return jnp.mean(set_losses.hungarian_loss(output, target))
  classes = jnp.argmax(jnp.asarray(arrays['input']), axis=-1)
  losses, _ = class_matching.class_matched_loss(output, target, classes)
  return jnp.mean(losses)


def _inner_step(config, arrays, decoder, params, decoded):
  """`-F` at `Y_{T-1}`: the gradient step whose derivative is taken."""
  encode = set_encoders.encode_with(decoder.encoder)
  energy = energy_lib.squared_distance(encode)
  if decoder.regularizer:
    energy = energy_lib.regularized(energy, decoder.regularizer)
  conditioned = config['objective'] == 'mse_cat_input'
  inputs = energy_lib.Inputs(
    params['decoder']['encoder'],
    jnp.asarray(arrays['latent']),
    jnp.broadcast_to(arrays['initial_set'], decoded.set.shape),
    known_features=jnp.asarray(arrays['input']) if conditioned else None,
  )
  optimality = inner_step.residual(energy, decoder.projection)
  return -optimality(decoded.trajectory[-2], inputs)


def _latent_gradient_count(model, params, arrays, recorded):
  """How often the recorded latent gradient was accumulated, 1 or 2.

  The official implicit modes run a second backward pass inside a hook, so
  that the latent's `.grad` is added to twice while the parameters behind it
  receive it once. The file itself tells: pulled back through the input
  encoder, its latent gradient must give its input encoder's gradients.
  """
  prefix = 'input_to_z.'
  names = [name for name in recorded if name.startswith(prefix)]
  if not names:
    return 1

  def encode(encoder_params):
    return model.apply(
      {'params': {**params, 'input_encoder': encoder_params}},
      jnp.asarray(arrays['input']),
      method='encode',
    )

  _, pull = jax.vjp(encode, params['input_encoder'])
  (pulled,) = pull(jnp.asarray(arrays['latent_grad']))
  pulled = official.to_official({'input_encoder': pulled})
  a = np.concatenate([pulled[name].ravel() for name in names])
  b = np.concatenate([recorded[name].ravel() for name in names])
  return 2 if abs(a @ b / max(b @ b, 1e-300) - 2.0) < 1e-6 else 1


def compare(path: str) -> tuple[dict[str, float], list[str]]:
  """Recomputes a golden file's numbers and compares.

  Needs 64-bit mode (`jax_enable_x64`).

  Args:
    path: an `.npz` file.

  Returns:
    Relative errors by array name (`output`, `loss`, `latent`, `latent_grad`,
    `inner_step`, `grad/NAME`; or see `golden_precision.compare`), and remarks
    on the file.

  Raises:
    UserError: if the file is not of the documented format.
  """
  arrays = read_arrays(path)
  if golden_precision.ARRAYS.intersection(arrays):
    return golden_precision.compare(path, arrays)
  return _compare_autoencoder(path, *_checked(path, arrays))


def _compare_autoencoder(path, config, arrays):
  by_name = {
    kind: {
      name.removeprefix(kind).removeprefix(official.PREFIX): value
      for name, value in arrays.items()
      if name.startswith(kind)
    }
    for kind in ('param/', 'grad/')
  }
  try:
    params = jax.tree.map(
      jnp.asarray, official.from_official(by_name['param/'])
    )
  except KeyError as e:
    raise errors.UserError(f'{path}: {e.args[0]}') from e
  model = build(config)
  options = {}
  if not config['learn_initial_set']:
    options['initial_set'] = jnp.asarray(arrays['initial_set'])
  x = jnp.asarray(arrays['input'])

  def loss(params, shift):
    z = model.apply({'params': params}, x, method='encode') + shift
    decoded = model.apply(
      {'params': params}, z, x, method='decode', trajectory=True, **options
    )
    return _batch_loss(config, arrays, decoded.set), (z, decoded)

  run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
  zero = jnp.zeros(arrays['latent'].shape, x.dtype)
  (value, (z, decoded)), (grads, z_grad) = run(params, zero)

  count, remarks = 1, []
  if isinstance(model.decoder.gradient, gradients.Implicit):
    count = _latent_gradient_count(model, params, arrays, by_name['grad/'])
  if count == 2:
    remarks.append('latent_grad was recorded twice over; compared with half')
  found = {
    'output': comparison.relative_error(decoded.set, arrays['output']),
    'loss': comparison.relative_error(value, arrays['loss']),
    'latent': comparison.relative_error(z, arrays['latent']),
    'latent_grad': comparison.relative_error(
      z_grad, arrays['latent_grad'] / count
    ),
  }
  if 'inner_step' in arrays:
    step = _inner_step(config, arrays, model.decoder, params, decoded)
    found['inner_step'] = comparison.relative_error(step, arrays['inner_step'])
  ours = official.to_official(grads)
  for name in sorted({*ours, *by_name['grad/']}):
    found[f'grad/{name}'] = (
      comparison.relative_error(ours[name], by_name['grad/'][name])
      if name in ours and name in by_name['grad/']
      else float('inf')
    )
  return found, remarks
