"""Processes of one run that were started with different settings or data."""

import json

import pytest

from configs import own_sets
from idspn_jax import errors
from idspn_jax.training import agreement
from idspn_jax.training import hosts
from idspn_jax.training import loop
from tests.training import toy


@pytest.fixture
def beside(monkeypatch):
  """Gives process 0 a process 1, whose text is changed on the way."""

  def start(change=lambda text: text):
    monkeypatch.setattr(hosts, 'count', lambda: 2)
    monkeypatch.setattr(hosts, 'gather', lambda text: [text, change(text)])

  return start


def changed(**values):
  """Replaces values of the other process's first config."""

  def change(text):
    settings = json.loads(text)
    settings['config'] |= values
    return json.dumps(settings)

  return change


class TestConfigs:
  def test_that_are_the_same(self, beside):
    beside()
    agreement.check_configs([toy.get_config(), toy.get_config(seed=1)])

  def test_of_a_single_process(self):
    agreement.check_configs([toy.get_config()])

  def test_all_differing_keys_are_named(self, beside):
    beside(changed(seed=7, learning_rate=0.5))
    told = r'config.learning_rate: 0.05 -> 0.5; config.seed: 0 -> 7\. .*same'
    with pytest.raises(errors.UserError, match=told):
      agreement.check_configs([toy.get_config()])

  # They may change when a run is continued; not between processes.
  @pytest.mark.parametrize(
    'key, value', [('steps', 7), ('eval_every', 2), ('parallel', 'pmap')]
  )
  def test_what_a_run_may_change(self, key, value, beside):
    beside(changed(**{key: value}))
    with pytest.raises(errors.UserError, match=f'config.{key}: '):
      agreement.check_configs([toy.get_config()])

  def test_a_later_seed(self, beside):
    beside(lambda text: text.replace('"seed": 5', '"seed": 6'))
    with pytest.raises(errors.UserError, match=r'config\[1\].seed: 5 -> 6'):
      agreement.check_configs([toy.get_config(), toy.get_config(seed=5)])

  def test_places_of_data_may_differ(self, beside):
    config = own_sets.get_config()
    beside(changed(data={**config.data.to_dict(), 'path': 'elsewhere.npz'}))
    agreement.check_configs([config])

  @pytest.mark.parametrize(
    'name', ['jax_enable_x64', 'version of jax', 'version of jaxlib']
  )
  def test_of_jax(self, name, beside):
    def change(text):
      return json.dumps({**json.loads(text), name: 'other'})

    beside(change)
    with pytest.raises(errors.UserError, match=f"{name}: .* -> 'other'"):
      agreement.check_configs([toy.get_config()])

  def test_come_before_anything_else(self, beside, tmp_path):
    beside(changed(batch_size=8))
    # Wrong in this process alone: the others would wait for it.
    with pytest.raises(errors.UserError, match='config.batch_size: -1 -> 8'):
      loop.train_and_evaluate(toy.get_config(batch_size=-1), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


class TestData:
  def test_same_content_elsewhere(self, beside):
    beside()
    agreement.check_data({'digest': 'a', 'path': '/here'})
    agreement.check_data(None)

  def test_other_content(self, beside):
    beside(lambda text: text.replace('abc', 'xyz'))
    with pytest.raises(errors.UserError, match="data: 'abc' -> 'xyz'"):
      agreement.check_data({'digest': 'abc', 'path': '/here'})
