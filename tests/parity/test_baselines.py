"""The baselines of Section 4.1 in numbers of PyTorch (`make_baselines.py`)."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import class_numbering as config_file
from idspn_jax.interop import comparison
from idspn_jax.interop import official
from idspn_jax.losses import class_matching
from idspn_jax.modules import transformer
from idspn_jax.tasks import numbering_models

FILES = sorted((pathlib.Path(__file__).parent / 'baselines').glob('*.npz'))
TOLERANCE = 1e-8


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_the_task_gives_the_numbers_of_pytorch(path, x64, monkeypatch):
  with np.load(path) as file:
    arrays = dict(file)
  given = json.loads(str(arrays.pop('config')))
  noise = jnp.asarray(arrays['noise'])

  def known_noise(key, shape, dtype):
    assert (shape, dtype) == (noise.shape, noise.dtype)
    return noise

  monkeypatch.setattr(transformer.jax.random, 'normal', known_noise)
  config = config_file.get_config(
    f'model={given["model"]},n={given["set_size"]},classes={given["n_classes"]}'
  )
  config.model.hidden_dim = given['hidden_dim']
  model = numbering_models.build_model(
    given['model'], config.model, given['set_size']
  )
  params = official.from_official(
    {
      name.removeprefix('param/'): array
      for name, array in arrays.items()
      if name.startswith('param/')
    }
  )
  one_hot = jnp.asarray(arrays['input'])

  @jax.jit
  def run(params):
    def loss(params):
      rngs = {'positions': jax.random.key(0)}
      output = model.apply({'params': params}, one_hot, rngs=rngs)
      losses, _ = class_matching.class_matched_loss(
        output,
        jnp.asarray(arrays['target']),
        jnp.argmax(one_hot, -1),
        'cross_entropy',
      )
      return jnp.mean(losses), output

    return jax.value_and_grad(loss, has_aux=True)(params)

  (loss, output), grads = run(jax.tree.map(jnp.asarray, params))
  errors = {
    'output': comparison.relative_error(output, arrays['output']),
    'loss': comparison.relative_error(loss, arrays['loss']),
  }
  found = official.to_official(grads)
  # The largest gradient is the measure: that of a key's bias is zero.
  largest = max(np.max(np.abs(grad)) for grad in found.values())
  for name, array in arrays.items():
    # Both biases of an LSTM cell have the gradient that ours has.
    key = name.removeprefix('grad/').replace('bias_hh', 'bias_ih')
    if name.startswith('grad/'):
      errors[name] = np.max(np.abs(found[key] - array)) / largest
  assert max(errors.values()) <= TOLERANCE, errors


def test_all_five_are_among_the_files():
  assert {f.stem for f in FILES} == {*numbering_models.MODELS} - {
    *numbering_models.DECODERS
  }
