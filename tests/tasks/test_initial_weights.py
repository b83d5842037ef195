"""Trainings that start from the weights of another model."""

import json
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.runs import loading
from idspn_jax.tasks import clevr
from idspn_jax.tasks import image_model
from idspn_jax.training import loop
from tests.tasks.test_clevr_task import batch_of
from tests.tasks.test_clevr_task import small_config

KEY = jax.random.key(0)


@pytest.fixture(scope='module')
def tree(tmp_path_factory, write_clevr_tree):
  """Noise pictures that are shared by this file's tests."""
  return write_clevr_tree(tmp_path_factory.mktemp('clevr'))


@pytest.fixture(scope='module')
def trained(tmp_path_factory, tree):
  """A finished run: its directory and result."""
  workdir = str(tmp_path_factory.mktemp('run'))
  return workdir, loop.train_and_evaluate(small_config(tree), workdir)


@pytest.fixture(scope='module')
def begun(tree, trained, tmp_path_factory):
  """A training of a step with the decoder of another run."""
  workdir = str(tmp_path_factory.mktemp('begun'))
  config = small_config(tree, f'decoder={trained[0]}')
  config.steps = config.log_every = 1
  config.ema_decay = 0.0
  loop.train_and_evaluate(config, workdir)
  return config, workdir


def test_the_decoder_stays_as_it_was(trained, begun):
  there = loading.load_run(trained[0]).variables['params']
  here = loading.load_run(begun[1]).variables['params']
  chex.assert_trees_all_equal(here['decoder'], there['decoder'])
  with pytest.raises(AssertionError):
    chex.assert_trees_all_equal(here['encoder'], there['encoder'])


def test_both_losses_are_logged(begun):
  config, workdir = begun
  with open(f'{workdir}/scalars.jsonl') as f:
    row = json.loads(f.readline())
  assert row['train/loss'] == pytest.approx(
    row['train/set_loss'] + row['train/latent_loss'], rel=1e-5
  )


def test_latent_vectors_begin_at_the_mean_of_true_sets(trained, tree):
  task = clevr.build(small_config(tree, f'decoder={trained[0]}')).task
  variables = loading.load_run(trained[0]).variables
  target = batch_of(task.config)['target']
  bias = task.fit_start(variables, {'target': target})['params']['encoder'][
    'head_conv'
  ]['bias']
  module = task.model.module
  sets = task.model.in_loss_units(jnp.asarray(target))
  latent = module.apply(variables, sets, method='encode_sets')
  np.testing.assert_allclose(bias.mean(), latent.mean(), rtol=1e-4)


def test_the_latent_loss_is_zero_at_the_latents_of_true_sets(tree):
  config = small_config(tree)
  config.model.latent_loss = 1.0
  task = clevr.build(config).task
  variables = task.init(KEY)
  target = jnp.asarray(batch_of(config)['target'])
  sets = task.model.in_loss_units(target)
  latent = task.model.module.apply(variables, sets, method='encode_sets')
  found = image_model.Prediction(target, target[None], {}, None, latent)
  params = variables['params']
  assert task.model.latent_loss(params, found, target) == 0
  off = found._replace(latent=latent + latent.std(0, keepdims=True))
  assert task.model.latent_loss(params, off, target) == pytest.approx(1, 0.2)


def test_resuming_does_not_need_the_source(tree, trained, tmp_path):
  source = shutil.copytree(trained[0], tmp_path / 'source')
  config = small_config(tree, f'decoder={source}')
  config.steps = 1
  loop.train_and_evaluate(config, str(tmp_path / 'run'))
  shutil.rmtree(source)
  config.steps = 2
  result = loop.train_and_evaluate(config, str(tmp_path / 'run'))
  assert result['step'] == 2


@pytest.mark.parametrize(
  'changes, culprit',
  [
    ({'initial_weights.part': 'decode'}, 'decode is no part of the model'),
    ({'model.latent_dim': 8}, 'does not fit the model: .*16.* there and'),
    ({'initial_weights.source': '/nowhere'}, '/nowhere'),
    ({'model.latent_loss': -1.0}, 'latent_loss.*-1'),
    ({'model.name': 'slot_mlp'}, 'of the set decoder'),
  ],
)
def test_what_does_not_fit(tree, trained, tmp_path, changes, culprit):
  config = small_config(tree, f'decoder={trained[0]}')
  config.update_from_flattened_dict(changes)
  with pytest.raises(errors.UserError, match=culprit):
    loop.train_and_evaluate(config, str(tmp_path / 'run'))
