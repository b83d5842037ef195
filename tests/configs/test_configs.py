"""Every file in configs/ describes a run that can be built."""

import importlib
import json
import pathlib

import ml_collections
import pytest

from idspn_jax import errors
from idspn_jax.runs import config as config_lib
from idspn_jax.tasks import model
from idspn_jax.tasks import numbering_models
from idspn_jax.tasks import registry

ROOT = pathlib.Path(__file__).parents[2]
NAMES = sorted(
  path.stem
  for path in (ROOT / 'configs').glob('*.py')
  if path.stem != '__init__'
)
MODELS = ('idspn_momentum', 'idspn', 'dspn')


def load(name, arguments=None):
  module = importlib.import_module(f'configs.{name}')
  if arguments is None:
    return module.get_config()
  return module.get_config(arguments)


@pytest.fixture(params=NAMES)
def name(request):
  """Each config file's name."""
  return request.param


class TestEveryConfig:
  def test_loads_and_is_checked(self, name):
    config = load(name)
    assert isinstance(config, ml_collections.ConfigDict)
    config_lib.check(config)
    assert config.task in registry.names()
    model.build_autoencoder(config.model, 3, 2)
    model.build_loss(config.loss)

  def test_is_locked(self, name):
    config = load(name)
    assert config.is_locked and config.model.is_locked
    with pytest.raises(AttributeError):
      config.stepz = 3
    with pytest.raises(AttributeError):
      config.model.poool = 'fs'

  def test_survives_json(self, name):
    config = load(name)
    text = config.to_json()
    again = ml_collections.ConfigDict(json.loads(text))
    assert again.to_json() == text

  def test_docstring_shows_the_command(self, name):
    doc = importlib.import_module(f'configs.{name}').__doc__
    assert 'python -m experiments.' in doc
    assert '--workdir=' in doc
    module = doc.split('python -m experiments.')[1].split()[0]
    assert (ROOT / 'experiments' / f'{module}.py').exists()
    if module == 'train':
      assert f'--config=configs/{name}.py' in doc

  @pytest.mark.parametrize(
    'arguments, culprit',
    [('q=3', 'q=3'), ('model=magic', 'magic'), ('q', 'q')],
  )
  def test_wrong_arguments_are_named(self, name, arguments, culprit):
    with pytest.raises(errors.UserError, match=culprit):
      load(name, arguments)

  def test_can_be_overridden(self, name):
    config = load(name)
    config.steps = 7
    config.model.pool = 'sum'
    config.model.gradient_options.linearize_at = 'final'
    config.model.gradient_options.terms = 3
    assert (config.steps, config.model.pool) == (7, 'sum')
    with pytest.raises(TypeError):
      config.model.gradient_options.terms = 'many'
    with pytest.raises(AttributeError):
      config.model.gradient_options.term = 3
    config.cooldown = 0.0
    config.optimizer.schedule = 'steps'
    config.optimizer.drops = (0.5, 0.8)
    config.optimizer.warmup_steps = 3
    config_lib.check(config)
    with pytest.raises(TypeError):
      config.steps = 'many'


@pytest.mark.parametrize('name', ['demo', 'own_sets', 'random_multisets'])
@pytest.mark.parametrize('which', MODELS)
def test_models_of_section_4_2(name, which):
  config = load(name, f'model={which}')
  assert config.model.gradient == (
    'unrolled' if which == 'dspn' else 'jacobian_free'
  )
  assert config.model.momentum == (0.9 if which == 'idspn_momentum' else 0.0)
  assert which in importlib.import_module(f'configs.{name}').__doc__


class TestArguments:
  def test_random_multisets(self):
    config = load('random_multisets', 'n=8,d=2,T=40,model=dspn,seed=3')
    assert (config.data.set_size, config.data.set_dim) == (8, 2)
    assert config.model.iterations == 40
    assert config.model.gradient == 'unrolled'
    assert config.seed == 3

  def test_defaults_are_the_papers(self):
    config = load('random_multisets')
    assert (config.data.set_size, config.data.set_dim) == (4, 4)
    assert (config.data.num_train, config.data.num_test) == (64_000, 6_400)
    assert (config.model.hidden_dim, config.model.latent_dim) == (512, 512)
    assert (config.model.iterations, config.model.regularizer) == (10, 0.1)
    assert (config.batch_size, config.steps) == (128, 20_000)
    assert config.learning_rate == 1e-3

  def test_class_numbering_is_the_papers(self):
    config = load('class_numbering', 'samples=6400,classes=8,permute=1,T=5')
    data = config.data
    assert (data.set_size, data.num_classes, data.distinct_classes) == (
      64,
      8,
      4,
    )
    assert (data.num_train, data.num_validation, data.num_test) == (
      6_400,
      6_400,
      64_000,
    )
    assert data.permute is True and config.model.iterations == 5
    assert (config.model.hidden_dim, config.model.latent_dim) == (512, 512)
    assert (config.batch_size, config.steps) == (128, 50_000)
    assert config.eval_every == 500 and config.learning_rate == 1e-3
    assert load('class_numbering').data.distinct_classes == 4
    assert load('class_numbering', 'model=bilstm').model.hidden_dim == 64

  def test_class_numbering_reduced(self):
    for name in numbering_models.MODELS:
      config = load('class_numbering', f'setting=reduced,model={name}')
      assert (config.data.set_size, config.data.num_train) == (16, 640)
      assert config.data.num_classes == 4 and config.steps <= 10_000
      # Momentum multiplies iDSPN's inner rate by ten.
      expected = {'dspn': (3.0, 0.1), 'idspn': (1.0, 0.8)}
      found = config.model.learning_rate, config.cooldown
      assert found == expected.get(name, (1.0, 0.0))
      through = '_straight_through' if name == 'idspn' else ''
      assert config.model.projection == f'simplex{through}'
      assert (
        load(
          'class_numbering', f'setting=reduced,model={name},n=20'
        ).data.set_size
        == 20
      )
    with pytest.raises(errors.UserError, match="setting is 'tiny'"):
      load('class_numbering', 'setting=tiny')

  def test_own_sets(self):
    config = load('own_sets', 'T=5,seed=2')
    assert (config.model.iterations, config.seed) == (5, 2)
    assert config.data.path == ''

  def test_own_images(self):
    config = load('own_images', 'size=32,model=dspn,seed=2')
    assert (config.data.image_size, config.seed) == (32, 2)
    assert config.model.gradient == 'unrolled'
    assert len(config.model.image_encoder.blocks) == 3
    assert load('own_images').model.image_encoder.blocks == (2, 2, 2, 2)
    with pytest.raises(errors.UserError, match="'slot_mlp'"):
      load('own_images', 'model=slot_mlp')

  def test_wrong_type_is_named(self):
    with pytest.raises(errors.UserError, match="n needs int; got 'four'"):
      load('random_multisets', 'n=four')
