"""Evaluation of whole splits: compiled once, every example counted once."""

import jax
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.tasks import registry
from idspn_jax.training import evaluation


def evaluator(experiment, config):
  return evaluation.Evaluator(
    experiment.task, [experiment.data(config.seed)], [config.seed]
  )


def test_compiles_once_per_number_of_steps(small):
  config = small(data__num_test=20, eval_batch_size=8)
  experiment = registry.build(config)
  traces = []
  evaluate_rows = experiment.task.evaluate

  def counting(variables, batch, key, iterations=None):
    traces.append(iterations)
    return evaluate_rows(variables, batch, key, iterations=iterations)

  experiment.task.evaluate = counting
  variables = experiment.task.init(jax.random.key(0))
  evaluate = evaluator(experiment, config)
  results = [
    evaluate(variables, iterations=count) for count in (2, 3, 2, None, None)
  ]
  assert traces == [2, 3, None]
  assert results[0] == results[2]
  assert results[1] == results[3] == results[4]  # Three are configured.


@pytest.mark.parametrize('size', [1, 3, 10, 128])
def test_averages_examples_whatever_the_batches(size, small):
  config = small(eval_batch_size=size)
  experiment = registry.build(config)

  def evaluate_rows(variables, batch, key, iterations=None):
    return {'sum': batch['input'].sum((-2, -1))}

  experiment.task.evaluate = evaluate_rows
  (found,) = evaluator(experiment, config)({})
  sets = experiment.data(config.seed).splits['test']['input']
  expected = sets.sum((-2, -1), dtype=np.float64).mean()
  np.testing.assert_allclose(found['sum'], expected, rtol=1e-5)


def test_a_split_without_examples_is_refused(small, monkeypatch):
  config = small()
  experiment = registry.build(config)
  data = experiment.data(config.seed)
  monkeypatch.setattr(data, 'evaluate', lambda split: iter(()))
  with pytest.raises(errors.UserError, match="no examples in the split 'test'"):
    evaluator(experiment, config)({})
