"""Files of a run: whole or not at all, and strictly JSON."""

import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.training import records


class TestWriteJson:
  def test_numbers_of_every_kind(self, tmp_path, read_json):
    path = tmp_path / 'out.json'
    records.write_json(
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
    records.write_json(str(path), {'a': 1})
    with pytest.raises(TypeError):
      records.write_json(str(path), {'a': object()})

    def fail(*_):
      raise OSError('disk full')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(OSError):
      records.write_json(str(path), {'a': 2})
    assert json.loads(path.read_text()) == {'a': 1}

  def test_leaves_no_other_file(self, tmp_path):
    records.write_json(str(tmp_path / 'out.json'), {})
    assert os.listdir(tmp_path) == ['out.json']


class TestReadJson:
  def test_what_was_written(self, tmp_path):
    path = str(tmp_path / 'a.json')
    records.write_json(path, {'a': [1, None]})
    assert records.read_json(path) == {'a': [1, None]}

  @pytest.mark.parametrize('content', [b'', b'{"a": ', b'\xff\xfe'])
  def test_broken(self, content, tmp_path):
    path = tmp_path / 'a.json'
    path.write_bytes(content)
    with pytest.raises(errors.UserError, match='Cannot read .*a.json.* remove'):
      records.read_json(str(path))


def test_directories(tmp_path):
  path = tmp_path / 'a' / 'b'
  for _ in range(2):
    records.make_directory(str(path), '--output')
    assert path.is_dir()
  (tmp_path / 'file').touch()
  with pytest.raises(errors.UserError, match='Cannot create --output=.*file'):
    records.make_directory(str(tmp_path / 'file'), '--output')


class TestScalarLog:
  def test_resuming_drops_what_is_repeated(self, tmp_path):
    log = records.ScalarLog(str(tmp_path), 0)
    for step in (1, 2, 3):
      log.write(step, {'loss': float(step)})
    log.write(4, {'loss': float('nan')})
    log.close()
    path = tmp_path / 'scalars.jsonl'
    with path.open('a') as f:
      f.write('{"step": 5, "lo')
    log = records.ScalarLog(str(tmp_path), 2)
    log.write(3, {'loss': 30.0})
    log.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
      {'step': 1, 'loss': 1.0},
      {'step': 2, 'loss': 2.0},
      {'step': 3, 'loss': 30.0},
    ]

  def test_not_finite_is_null(self, tmp_path):
    log = records.ScalarLog(str(tmp_path), 0)
    log.write(1, {'loss': float('inf')})
    log.close()
    assert json.loads((tmp_path / 'scalars.jsonl').read_text()) == {
      'step': 1,
      'loss': None,
    }


def test_provenance_is_json():
  found = json.loads(json.dumps(records.provenance(), allow_nan=False))
  assert {'python', 'jax', 'flax', 'numpy'} <= set(found['versions'])
  assert found['device']['count'] >= 1
