"""Paths that users write: home directories, and addresses elsewhere."""

import pathlib

import pytest

from idspn_jax.data import local_paths


def test_home_is_expanded(monkeypatch):
  monkeypatch.setenv('HOME', '/home/ada')
  assert local_paths.local_path('~/a.npz') == pathlib.Path('/home/ada/a.npz')
  assert local_paths.local_path('a~b/c') == pathlib.Path('a~b/c')
  assert local_paths.local_path(pathlib.Path('/x')) == pathlib.Path('/x')


@pytest.mark.parametrize('path', ['gs://b/a.npz', 's3://b/a', 'file:///a'])
def test_remote_paths_are_refused(path):
  with pytest.raises(ValueError, match='remote') as caught:
    local_paths.local_path(path)
  assert path in str(caught.value)


def test_unknown_user():
  with pytest.raises(ValueError, match='nobody-of-this-name'):
    local_paths.local_path('~nobody-of-this-name/a.npz')
