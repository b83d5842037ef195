"""Measured steps: memory by gradient mode, and time side by side."""

from idspn_jax.studies import benchmarks


class TestMemory:
  def test_grows_with_the_steps_only_when_unrolled(self, small):
    config = small(batch_size=32)
    rows = benchmarks.memory_rows(
      config,
      [5, 40],
      ['jacobian_free', 'unrolled', 'unrolled_checkpointed'],
    )
    peak = {
      (row['gradient'], row['iterations']): row['peak_bytes'] for row in rows
    }
    growth = {
      mode: peak[mode, 40] - peak[mode, 5]
      for mode in ('jacobian_free', 'unrolled', 'unrolled_checkpointed')
    }
    assert growth['jacobian_free'] == 0
    # Thirty-five more steps keep at least the hidden activations.
    activations = 4 * 35 * 32 * 2 * 16
    assert growth['unrolled'] > activations
    assert 0 < growth['unrolled_checkpointed'] < 0.5 * growth['unrolled']
    # The config itself stays as it was.
    assert config.model.iterations == 3

  def test_leaves_out_what_does_not_apply(self, small):
    config = small(model__projection='simplex')
    rows = benchmarks.memory_rows(config, [2], ['cg', 'jacobian_free'])
    assert [row['gradient'] for row in rows] == ['jacobian_free']

  def test_reports_progress(self, small):
    seen = []
    rows = benchmarks.memory_rows(small(), [2], ['jacobian_free'], seen.append)
    assert seen == rows and len(rows) == 1


def test_time_side_by_side(small):
  steps = [benchmarks.CompiledStep(small(model__pool='sum'))] * 2
  seconds = benchmarks.time_side_by_side(steps, 3)
  assert [len(found) for found in seconds] == [3, 3]
  assert all(second > 0 for found in seconds for second in found)
