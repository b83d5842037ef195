"""The numbering files again, through the modules and loss of the task."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import class_numbering as config_file
from idspn_jax.interop import comparison
from idspn_jax.interop import golden
from idspn_jax.interop import official
from idspn_jax.losses import class_matching
from idspn_jax.tasks import numbering_models

FILES = sorted(
  (pathlib.Path(__file__).parent / 'golden').glob('numbering*.npz')
)
TOLERANCE = 1e-8


def numbering_config(given):
  """The task's configuration of a golden file's settings."""
  name = 'dspn' if given['gradient'] == 'unrolled' else 'idspn'
  config = config_file.get_config(
    f'model={name},n={given["set_size"]},T={given["iterations"]},'
    f'classes={given["n_classes"]}'
  )
  config.model.hidden_dim = given['hidden_dim']
  config.model.latent_dim = given['latent_dim']
  config.model.momentum = given['momentum']
  if name == 'idspn':
    config.model.grad_clip = given['grad_clip'] or 0.0
  return config


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_the_task_gives_the_official_numbers(path, x64):
  given, arrays = golden.load(str(path))
  config = numbering_config(given)
  model = numbering_models.build_model(
    config.model_name, config.model, given['set_size']
  )
  params = official.from_official(
    {
      name.removeprefix('param/'): array
      for name, array in arrays.items()
      if name.startswith('param/')
    }
  )
  one_hot = jnp.asarray(arrays['input'])
  start = jnp.asarray(arrays['initial_set'])

  @jax.jit
  def run(params):
    def loss(params):
      output = model.apply({'params': params}, one_hot, initial_set=start)
      losses, _ = class_matching.class_matched_loss(
        output, jnp.asarray(arrays['target']), jnp.argmax(one_hot, -1)
      )
      return jnp.mean(losses), output

    return jax.value_and_grad(loss, has_aux=True)(params)

  (loss, output), grads = run(jax.tree.map(jnp.asarray, params))
  errors = {
    'output': comparison.relative_error(output, arrays['output']),
    'loss': comparison.relative_error(loss, arrays['loss']),
  }
  for name, grad in official.to_official(grads).items():
    errors[name] = comparison.relative_error(grad, arrays[f'grad/{name}'])
  assert len(errors) == 2 + sum(name.startswith('grad/') for name in arrays)
  assert max(errors.values()) <= TOLERANCE, errors


def test_both_models_are_among_the_files():
  modes = [json.loads(str(np.load(f)['config']))['gradient'] for f in FILES]
  assert 'unrolled' in modes and 'jacobian_free' in modes
