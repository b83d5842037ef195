"""The image encoder in numbers of PyTorch (`make_image_encoder_golden.py`)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax.interop import comparison
from idspn_jax.interop import image_weights
from idspn_jax.modules import image_encoder
from tests.parity import image_encoder_case as golden

# Compiling takes longer than running.
_QUICK = {
  'xla_backend_optimization_level': 0,
  'xla_llvm_disable_expensive_passes': True,
}


@pytest.mark.parametrize('name', golden.CASES)
def test_outputs_statistics_and_gradients_are_those_of_pytorch(name, x64):
  case = golden.CASES[name]
  with np.load(golden.DIRECTORY / f'{name}.npz') as file:
    expected = dict(file)
  encoder = image_encoder.ImageEncoder(
    case.latent_dim, golden.WIDTH, case.stem, case.image_size
  )
  images = jnp.asarray(golden.pictures(case))
  shapes = jax.eval_shape(encoder.init, jax.random.key(0), images)
  state = image_weights.to_state_dict(
    jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes), 'torchvision'
  )
  state = golden.weights({name: array.shape for name, array in state.items()})
  variables = image_weights.from_state_dict(state, encoder)

  @functools.partial(jax.jit, compiler_options=_QUICK)
  def run(variables, images):
    def weighted(params, images):
      output, changed = encoder.apply(
        {**variables, 'params': params},
        images,
        train=True,
        mutable=['batch_stats'],
      )
      return jnp.vdot(output, golden.cotangent(case)), (output, changed)

    grads, (output, changed) = jax.grad(weighted, (0, 1), has_aux=True)(
      variables['params'], images
    )
    return *grads, output, changed, encoder.apply(variables, images)

  variables = jax.tree.map(jnp.asarray, variables)
  of_params, of_images, train, changed, evaluation = run(variables, images)
  found = {
    'train/output': train,
    'eval/output': evaluation,
    'grad/images': golden.kept(of_images),
  }
  for name, array in image_weights.to_state_dict(
    changed, 'torchvision'
  ).items():
    found[f'stats/{name}'] = array
  for name, array in image_weights.to_state_dict(
    {'params': of_params}, 'torchvision'
  ).items():
    found[f'grad/{name}'] = golden.kept(array)
  assert found.keys() == expected.keys()
  errors = {
    name: comparison.relative_error(found[name], array)
    for name, array in expected.items()
  }
  assert max(errors.values()) <= 1e-9, errors
