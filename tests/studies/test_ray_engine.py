"""The engine that needs Ray, as far as it can be tested without."""

import socket

import pytest

from idspn_jax import errors
from idspn_jax.studies import ray_engine


class TestAddresses:
  @pytest.mark.parametrize(
    'address',
    ['127.0.0.1:1', 'ray://127.0.0.1:1', 'localhost:99999', '[::1]:1', '.:1'],
  )
  def test_at_which_nothing_listens(self, address):
    with pytest.raises(errors.UserError, match='no Ray cluster answers there'):
      ray_engine.check_reachable(address)

  def test_at_which_something_listens(self):
    with socket.create_server(('127.0.0.1', 0)) as server:
      port = server.getsockname()[1]
      ray_engine.check_reachable(f'127.0.0.1:{port}')
      ray_engine.check_reachable(f'ray://localhost:{port}')

  @pytest.mark.parametrize('address', ['auto', 'local', 'anything'])
  def test_of_other_kinds_are_left_to_ray(self, address):
    ray_engine.check_reachable(address)
