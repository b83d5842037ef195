"""The log of scalars: strict JSON lines, each once."""

import json

import pytest

from idspn_jax.runs import scalars


class TestScalarLog:
  def test_resuming_drops_what_is_repeated(self, tmp_path):
    log = scalars.ScalarLog(str(tmp_path), 0)
    for step in (1, 2, 3):
      log.write(step, {'loss': float(step)})
    log.write(4, {'loss': float('nan')})
    log.close()
    path = tmp_path / 'scalars.jsonl'
    with path.open('a') as f:
      f.write('{"step": 5, "lo')
    log = scalars.ScalarLog(str(tmp_path), 2)
    log.write(3, {'loss': 30.0})
    log.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
      {'step': 1, 'loss': 1.0},
      {'step': 2, 'loss': 2.0},
      {'step': 3, 'loss': 30.0},
    ]

  @pytest.mark.parametrize(
    'line',
    ['{"step": 2, "lo', '[' * 100_000, '"step"', '{"step": "2"}', '\0\0\0', ''],
  )
  def test_damaged_lines_are_kept_and_told(self, line, tmp_path, caplog):
    path = tmp_path / 'scalars.jsonl'
    text = f'{{"step": 1}}\n{line}\n{{"step": 3}}\n{line}\n{{"step": 5}}\n['
    path.write_text(text)
    scalars.ScalarLog(str(tmp_path), 3).close()
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'
    assert (tmp_path / 'scalars.jsonl.damaged').read_text() == text
    assert 'left out: 1; ' in caplog.text
    assert len(caplog.records) == 1

  def test_what_no_checkpoint_covers_is_dropped_quietly(self, tmp_path, caplog):
    path = tmp_path / 'scalars.jsonl'
    path.write_text('{"step": 1}\n[\n{"step": 3}\n[')
    scalars.ScalarLog(str(tmp_path), 1).close()
    assert path.read_text() == '{"step": 1}\n'
    assert [*tmp_path.glob('*.damaged')] == [] and not caplog.records

  def test_not_finite_is_null(self, tmp_path):
    log = scalars.ScalarLog(str(tmp_path), 0)
    log.write(1, {'loss': float('inf')})
    log.close()
    assert json.loads((tmp_path / 'scalars.jsonl').read_text()) == {
      'step': 1,
      'loss': None,
    }
