"""The log of scalars: strict JSON lines, each once."""

import json

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

  def test_not_finite_is_null(self, tmp_path):
    log = scalars.ScalarLog(str(tmp_path), 0)
    log.write(1, {'loss': float('inf')})
    log.close()
    assert json.loads((tmp_path / 'scalars.jsonl').read_text()) == {
      'step': 1,
      'loss': None,
    }
