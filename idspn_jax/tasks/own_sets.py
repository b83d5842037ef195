"""Autoencoding of a user's own sets, read from a file.

Sets of different sizes are padded with zero rows and carry a presence feature
in their last column, which the decoder has to predict as well: an element
exists if its presence exceeds one half. Padded rows count in the loss, as they
do on CLEVR (Section 4.3).
"""

import os

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax import errors
from idspn_jax.data import clevr_scenes
from idspn_jax.data import set_files
from idspn_jax.ops import assignment
from idspn_jax.ops import cost_matrix
from idspn_jax.tasks import model
from idspn_jax.tasks import task

EXAMPLES = 4


def _standardization(sets, sizes):
  """Mean and deviation of the features of existing elements, `(D,)` each."""
  there = np.arange(sets.shape[1])[None] < sizes[:, None]
  elements = sets[there]
  if not len(elements):
    return np.zeros(sets.shape[-1]), np.ones(sets.shape[-1])
  deviation = elements.std(0)
  return elements.mean(0), np.where(deviation > 0, deviation, 1.0)


class OwnSets(task.Task):
  """Reconstructs the sets of a file, sizes included."""

  def __init__(self, config):
    """Reads the file and builds the model; see `Task`."""
    super().__init__(config)
    if not config.data.path:
      raise errors.UserError(
        'own_sets needs a file: --config.data.path=FILE (.npz with arrays '
        '`sets` and `sizes`, or a CLEVR scenes .json).'
      )
    try:
      self.file = set_files.load_set_file(config.data.path)
      train, test = set_files.split(
        len(self.file.sets), config.data.test_fraction, config.seed
      )
    except ValueError as e:
      raise errors.UserError(str(e)) from e
    sets, sizes = self.file.sets, self.file.sizes
    self.mean, self.deviation = np.zeros(1), np.ones(1)
    if self.file.kind == 'npz':
      if config.data.standardize:
        self.mean, self.deviation = _standardization(sets[train], sizes[train])
      sets = (sets - self.mean) / self.deviation
      sets = set_files.with_presence(sets.astype(np.float32), sizes)
    self.train = {'input': sets[train], 'size': sizes[train]}
    self.test = {'input': sets[test], 'size': sizes[test]}
    if config.batch_size > len(train):
      raise errors.UserError(
        f'batch_size is {config.batch_size} but {config.data.path} has only '
        f'{len(train)} sets to train on; lower --config.batch_size.'
      )
    self.model = model.build_autoencoder(config.model, *sets.shape[1:])
    self.set_loss = model.build_loss(config.loss)

  def init(self, key):
    """See `Task.init`."""
    params_key, set_key = jax.random.split(key)
    rngs = {'params': params_key, 'initial_set': set_key}
    return self.model.init(rngs, jnp.asarray(self.test['input'][:1]))['params']

  def train_batches(self, first_step):
    """See `Task.train_batches`."""
    config = self.config
    return task.shuffled_batches(
      self.train, config.batch_size, config.seed, first_step
    )

  def eval_batches(self, split='test'):
    """See `Task.eval_batches`."""
    del split  # Nothing is selected: all that is held out is to test.
    size = min(self.config.eval_batch_size, len(self.test['size']))
    return task.padded_batches(self.test, size)

  def reconstruct(self, params, sets, key, iterations=None):
    """Returns reconstructions with their presence column, `(B, N, D)`."""
    return self.model.apply(
      {'params': params},
      sets,
      iterations=iterations,
      rngs={'initial_set': key},
    )

  def loss(self, params, batch, key):
    """See `Task.loss`."""
    prediction = self.reconstruct(params, batch['input'], key)
    return jnp.mean(self.set_loss(prediction, batch['input'])), {}

  def metrics(self, params, batch, key, iterations=None):
    """See `Task.metrics`.

    `size_correct` and `size_error` score the predicted set size; `distance` is
    the mean L2 distance of existing elements to their matched predictions
    (CLEVR: of coordinates, in scene units), `attributes_correct` (CLEVR only)
    the share of existing objects whose four attributes are all right.
    """
    target = batch['input']
    prediction = self.reconstruct(params, target, key, iterations)
    cost = cost_matrix.smooth_l1_cost(prediction, target)
    # Targets as rows: every existing element gets its prediction.
    matching = assignment.match(jnp.swapaxes(cost, -1, -2))
    matched = assignment.gather_matched(prediction, matching)
    there = target[..., -1] > 0.5
    count = jnp.maximum(jnp.sum(there, -1), 1).astype(target.dtype)

    def over_elements(values):
      return jnp.sum(jnp.where(there, values, 0.0), -1) / count

    size = jnp.sum(prediction[..., -1] > 0.5, -1)
    out = {
      'loss': model.LOSSES['hungarian'](prediction, target),
      'size_correct': (size == batch['size']).astype(target.dtype),
      'size_error': jnp.abs(size - batch['size']).astype(target.dtype),
    }
    if self.file.kind == 'npz':
      scale = jnp.asarray(self.deviation, target.dtype).reshape(1, 1, -1)
      offset = (matched - target)[..., :-1] * scale
      out['distance'] = over_elements(jnp.linalg.norm(offset, axis=-1))
      return out
    offset = (matched - target)[..., clevr_scenes.COORDINATES]
    distance = clevr_scenes.COORDINATE_SCALE * jnp.linalg.norm(offset, axis=-1)
    right = jnp.ones_like(there)
    for _, columns in clevr_scenes.ATTRIBUTES.values():
      guess = jnp.argmax(matched[..., columns], -1)
      right &= guess == jnp.argmax(target[..., columns], -1)
    out['distance'] = over_elements(distance)
    out['attributes_correct'] = over_elements(right.astype(target.dtype))
    return out

  def draw(self, params, key, iterations, directory):
    """See `Task.draw`."""
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import scenes
    from idspn_jax.figures import sets as set_figures

    shown = self.test['input'][:EXAMPLES]
    decoded = {
      t: np.asarray(self.reconstruct(params, jnp.asarray(shown), key, t))
      for t in iterations
    }
    path = os.path.join(directory, 'sets.png')
    if self.file.kind == 'clevr':
      return [scenes.draw_scenes(shown, decoded, path)]

    def original_units(sets):
      features = sets[..., :-1] * self.deviation + self.mean
      return np.concatenate([features, sets[..., -1:]], -1)

    return [
      set_figures.draw_sets_with_presence(
        original_units(shown),
        {t: original_units(y) for t, y in decoded.items()},
        path,
      )
    ]
