"""The decoder of the CLEVR task's own config against the official code's."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import clevr as clevr_config
from idspn_jax.interop import golden
from idspn_jax.interop import official
from idspn_jax.losses import set_losses
from idspn_jax.tasks import image_models

PATH = pathlib.Path(__file__).parent / 'golden' / 'clevr_decoder_clipped.npz'


def error(found, expected):
  return np.max(np.abs(found - expected)) / np.max(np.abs(expected))


@pytest.mark.usefixtures('x64')
def test_agrees_with_the_official_decoder():
  facts, arrays = golden.load(str(PATH))
  config = clevr_config.get_config('model=idspn').model
  config.hidden_dim, config.latent_dim = (
    facts['hidden_dim'],
    facts['latent_dim'],
  )
  config.iterations = facts['iterations']
  # The fixture clips more, so that clipping happens at all; the rest is ours.
  config.grad_clip = facts['grad_clip']
  assert (config.momentum, config.learning_rate) == (0.9, 1.0)
  model = image_models.build(
    config, 128, facts['set_size'], facts['set_dim'], jnp.ones((1, 1, 3))
  )
  decoder = model.module.decoder
  state = {
    name.removeprefix('param/'): array
    for name, array in arrays.items()
    if name.startswith('param/inner_obj')
  }
  params = official.from_official(state)['decoder']

  def run(params, z):
    sets = decoder.apply(
      {'params': params}, z, initial_set=arrays['initial_set']
    )
    losses = set_losses.hungarian_loss(sets, jnp.asarray(arrays['target']))
    return jnp.mean(losses), sets

  gradient = jax.value_and_grad(run, argnums=(0, 1), has_aux=True)
  (loss, sets), (to_params, to_z) = jax.jit(gradient)(params, arrays['latent'])
  assert error(sets, arrays['output']) < 1e-8
  assert abs(loss - arrays['loss']) < 1e-8 * abs(arrays['loss'])
  # Recorded twice over by the official code.
  assert error(2 * to_z, arrays['latent_grad']) < 1e-8
  for name, array in official.to_official({'decoder': to_params}).items():
    assert error(array, arrays[f'grad/{name}']) < 1e-8, name
