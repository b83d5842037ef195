"""Files of a run: whole or not at all, and strictly JSON."""

import errno
import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.runs import files
from idspn_jax.runs import provenance


class TestWriteJson:
  def test_numbers_of_every_kind(self, tmp_path, read_json):
    path = tmp_path / 'out.json'
    files.write_json(
      str(path),
      {
        'nan': float('nan'),
        'inf': [np.float32('inf'), -float('inf')],
        'numbers': (1, 2.5, np.float64(0.1), jnp.float32(0.5)),
        'flags': [True, None],
        3: 'ü',
      },
    )
    assert read_json(path) == {
      'nan': None,
      'inf': [None, None],
      'numbers': [1, 2.5, 0.1, 0.5],
      'flags': [True, None],
      '3': 'ü',
    }

  def test_a_failure_leaves_the_old_file(self, tmp_path, monkeypatch):
    path = tmp_path / 'out.json'
    files.write_json(str(path), {'a': 1})
    with pytest.raises(TypeError):
      files.write_json(str(path), {'a': object()})

    def fail(*_):
      raise OSError(errno.ENOSPC, 'disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(errors.UserError, match='Cannot write .*out.json'):
      files.write_json(str(path), {'a': 2})
    assert json.loads(path.read_text()) == {'a': 1}
    assert os.listdir(tmp_path) == ['out.json']

  def test_leaves_no_other_file(self, tmp_path):
    files.write_json(str(tmp_path / 'out.json'), {})
    assert os.listdir(tmp_path) == ['out.json']


class TestReadJson:
  def test_what_was_written(self, tmp_path):
    path = str(tmp_path / 'a.json')
    files.write_json(path, {'a': [1, None]})
    assert files.read_json(path) == {'a': [1, None]}

  @pytest.mark.parametrize('content', [b'', b'{"a": ', b'\xff\xfe'])
  def test_broken(self, content, tmp_path):
    path = tmp_path / 'a.json'
    path.write_bytes(content)
    with pytest.raises(errors.UserError, match='Cannot read .*a.json.* remove'):
      files.read_json(str(path))


def test_directories(tmp_path):
  path = tmp_path / 'a' / 'b'
  for _ in range(2):
    files.make_directory(str(path), '--output')
    assert path.is_dir()
  (tmp_path / 'file').touch()
  with pytest.raises(errors.UserError, match='Cannot create --output=.*file'):
    files.make_directory(str(tmp_path / 'file'), '--output')


def test_provenance_is_json():
  found = json.loads(json.dumps(provenance.provenance(), allow_nan=False))
  assert {'python', 'jax', 'flax', 'numpy'} <= set(found['versions'])
  assert found['device']['count'] >= 1
