"""What Tables 2 and 8 measure: equivariance, and the worst prediction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import class_numbering as config_file
from idspn_jax.studies import numbering
from idspn_jax.tasks import class_numbering
from idspn_jax.tasks import numbering_models


def config_of(arguments='model=idspn', **model):
  size = '' if ',n=' in f',{arguments}' else 'n=6,'
  config = config_file.get_config(f'{size}T=3,samples=32,{arguments}')
  config.batch_size = config.eval_batch_size = 16
  config.data.num_validation, config.data.num_test = 10, 20
  config.model.hidden_dim = config.model.latent_dim = 16
  config.model.update(model)
  return config


def build(config):
  """The task, and the data of seed 0."""
  experiment = class_numbering.build(config)
  return experiment.task, experiment.data(0)


def test_the_worst_prediction_is_among_the_test_sets(monkeypatch):
  task, data = build(config_of())
  numbers = {}
  for batch in data.evaluate('test'):
    for classes, right in zip(batch['classes'], batch['numbers'], strict=True):
      numbers[tuple(classes)] = right
  spoilt = list(numbers)[17]
  numbers[spoilt] = np.zeros(6, int)

  def scores(variables, classes, key):
    # Called while tracing: the worst is looked for batch by batch.
    found = jax.pure_callback(
      lambda rows: np.eye(6, dtype=np.float32)[
        np.array([numbers[tuple(row)] for row in np.asarray(rows)])
      ],
      jax.ShapeDtypeStruct((16, 6, 6), jnp.float32),
      classes,
    )
    return found, {}

  monkeypatch.setattr(task, 'scores', scores)
  found = numbering.worst_numbering(task, {}, data, jax.random.key(0))
  counts = np.bincount(spoilt, minlength=4)
  assert found.wrong == 6 - np.sum(counts > 0)
  assert [len(row) for row in found.rows] == counts.tolist()


EQUIVARIANT = {
  'deep_sets': (True, True),
  'transformer': (True, True),
  'transformer_random_pe': (False, False),
  'transformer_pe': (False, False),
  'bilstm': (False, False),
  'dspn': (False, True),
  'idspn': (False, True),
}


@pytest.mark.parametrize('name', numbering_models.MODELS)
def test_equivariances_are_those_of_table_2(name):
  task, data = build(config_of(f'model={name}'))
  variables = task.init(jax.random.key(2))
  found = numbering.equivariance(task, variables, data, jax.random.key(3))
  holds = found['set']['holds'], found['multiset']['holds']
  assert holds == EQUIVARIANT[name]
  # Nothing is a matter of rounding: an error is none or plain.
  for law in found.values():
    assert law['error'] < 1e-12 if law['holds'] else law['error'] > 1e-2


@pytest.mark.deep
@pytest.mark.parametrize('name', numbering_models.DECODERS)
def test_equivariances_in_the_papers_set_size(name):
  """In float32, rounding would tell equal elements of such sets apart."""
  config = config_of(f'model={name},n=64', iterations=20, hidden_dim=64)
  config.data.num_test = 4
  task, data = build(config)
  variables = task.init(jax.random.key(0))
  found = numbering.equivariance(task, variables, data, jax.random.key(1))
  assert not found['set']['holds'] and found['multiset']['holds']
  # Whoever asks keeps computing in float32.
  assert jnp.ones(()).dtype == jnp.float32


def test_non_finite_or_vanishing_scores_are_not_equivariant(monkeypatch):
  task, data = build(config_of())
  for value in (jnp.nan, jnp.inf, 0.0):
    monkeypatch.setattr(
      task,
      'scores',
      lambda variables, classes, key, initial_set, value=value: (
        jnp.full((1, 6, 6), value),
        {},
      ),
    )
    found = numbering.equivariance(task, {}, data, jax.random.key(0))
    for law in found.values():
      assert law == {'error': np.inf, 'holds': False}
