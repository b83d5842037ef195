"""The inner problem of a trained or fresh set autoencoder, for the study."""

import jax
import jax.numpy as jnp
import ml_collections

from idspn_jax import errors
from idspn_jax.modules import set_encoders
from idspn_jax.ops import pairs
from idspn_jax.runs import loading
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import inner_step
from idspn_jax.studies import gradient_quality
from idspn_jax.studies import gradient_reference
from idspn_jax.tasks import autoencoding
from idspn_jax.tasks import task as task_lib

_SORTING = ('fs', 'rnfs', 'fs_autodiff')


def margins(encoder: set_encoders.SetEncoder) -> gradient_reference.Margins:
  """Where the energy of a `SetEncoder` has kinks.

  Args:
    encoder: the inner encoder.

  Returns:
    A function of `(inputs, y)`: the hidden layer's pre-activations if it has
    ReLUs, and the gaps between neighbours in the order of every feature if
    the pooling sorts, or between the two largest if it takes the maximum,
    `(B, K)`. K is zero for an encoder without kinks.
  """

  def of(inputs, y):
    variables = {'params': inputs.params}
    _, state = encoder.apply(variables, y, capture_intermediates=True)
    layers = state['intermediates']
    hidden, output = (layers[k]['__call__'][0] for k in ('hidden', 'output'))
    rows = y.shape[0]
    elements = pairs.all_pairs(y) if encoder.pool == 'rnfs' else y
    output = output.reshape(*elements.shape[:-1], encoder.latent_dim)
    found = [jnp.zeros((rows, 0), y.dtype)]
    if encoder.activation == 'relu':
      found.append(hidden.reshape(rows, -1))
    ordered = jnp.sort(output, axis=-2)
    gaps = jnp.diff(ordered, axis=-2)
    if encoder.pool in _SORTING:
      found.append(gaps.reshape(rows, -1))
    elif encoder.pool == 'max':
      found.append(gaps[:, -1:].reshape(rows, -1))
    return jnp.concatenate(found, axis=-1)

  return of


def check(config: ml_collections.ConfigDict, task: task_lib.Task) -> None:
  """Refuses a task that the study is not of.

  Args:
    config: of the task.
    task: built from it.

  Raises:
    UserError: naming the setting.
  """
  if not isinstance(task, autoencoding.SetAutoencoding):
    raise errors.UserError(
      f'config.task is {config.task!r}; the study is of autoencoders of sets, '
      'random_multisets or own_sets. For other models call '
      'idspn_jax.compare_gradients with their energy.'
    )
  decoder = task.model.decoder
  if decoder.projection is not None:
    raise errors.UserError(
      f'config.model.projection is {config.model.projection!r}; the study '
      'is of energies without a projection.'
    )
  if not isinstance(decoder.optimizer, inner_step.GradientDescent):
    raise errors.UserError(
      f'config.model.optimizer is {config.model.optimizer!r}, whose steps '
      "Unrolled cannot differentiate; choose 'gradient_descent'."
    )
  n, d = task.shape
  if n * d > gradient_reference.LARGEST:
    raise errors.UserError(
      f'The sets of shape ({n}, {d}) have {n * d} numbers, and Hessians are '
      f'built up to {gradient_reference.LARGEST}; study a model of smaller '
      'sets.'
    )


def left_out(config: ml_collections.ConfigDict) -> list[str]:
  """Sentences on settings of a task's model that the study does without."""
  config = config.model
  found = []
  if config.restarts > 1:
    found.append(
      f'config.model.restarts={config.restarts} is left out: sets are decoded '
      "from one start, but in the section 'starts'."
    )
  if config.tolerance > 0:
    found.append(
      f'config.model.tolerance={config.tolerance:g} is left out: sets take all '
      'inner steps.'
    )
  if config.dtype != 'float32':
    found.append(
      f'config.model.dtype={config.dtype} is left out of the energy, which is '
      'computed in float64; z is that of the model.'
    )
  return found


def of_run(
  run: loading.LoadedRun, sets: int
) -> tuple[gradient_reference.Problem, gradient_quality.Descent]:
  """The inner problem of a model on its first test sets.

  Args:
    run: a set autoencoder, trained or not.
    sets: how many test sets.

  Returns:
    The problem, and how the model solves it but for what `left_out` tells; its
    loss is what it trains with.

  Raises:
    UserError: if the model is of another kind.
  """
  check(run.config, run.task)
  task = run.task
  decoder = task.model.decoder
  # Of the type of its input: float64.
  encoder = decoder.encoder.clone(dtype=None)
  target = jnp.asarray(run.data.examples(sets)['input'])
  variables = run.variables
  z = task.model.apply(variables, target, method='encode')
  own = variables['params']['decoder']
  if decoder.initial_set == 'learned':
    y = jnp.broadcast_to(own['initial_set'], target.shape)
  elif decoder.initial_set == 'normal':
    noise = jax.random.normal(jax.random.key(run.config.seed), target.shape)
    y = decoder.initial_scale * noise
  else:
    y = jnp.zeros_like(target)
  energy = energy_lib.squared_distance(set_encoders.encode_with(encoder))
  if decoder.regularizer > 0:
    energy = energy_lib.regularized(energy, decoder.regularizer)
  problem = gradient_reference.Problem(
    energy,
    energy_lib.Inputs(own['encoder'], z, y),
    lambda y: task.set_loss(y, target.astype(y.dtype)),
    margins(encoder),
  )
  descent = gradient_quality.Descent(
    run.config.model.iterations, decoder.optimizer, decoder.grad_clip
  )
  return problem, descent
