"""Sweeps without training: what is tried again, told, shown and resumed."""

import io
import json
import os
import pathlib
import shutil
import signal

import pytest

from idspn_jax import errors
from idspn_jax.runs import directory
from idspn_jax.studies import sweep_board
from idspn_jax.studies import sweep_processes
from idspn_jax.studies import sweep_results
from idspn_jax.studies import sweep_trials
from idspn_jax.studies import sweeps

GRID = {'config': 'file', 'grid': 'a=1'}


def finish(trial, diverged=False):
  """Writes the results that training the trial would write."""
  for seed, config in trial.configs.items():
    workdir = pathlib.Path(trial.directory, f'seed{seed}')
    workdir.mkdir(parents=True, exist_ok=True)
    result = {
      'step': config.steps,
      'diverged': diverged,
      'metrics': {'loss': 1.0 + seed},
      'config': json.loads(config.to_json()),
    }
    (workdir / 'result.json').write_text(json.dumps(result))


def read_trials(results):
  return json.loads(pathlib.Path(results.path).read_text())['trials']


class FakeEngine:
  """Ends trials as a script says; `None` raises a signal while they run."""

  def __init__(self, script, room=1):
    self._script = script
    self._room = room
    self._running = []
    self.submitted = []
    self.stopped = False

  def has_room(self):
    return len(self._running) < self._room

  def submit(self, trial):
    self.submitted.append(trial.name)
    self._running.append(trial)
    os.makedirs(trial.directory, exist_ok=True)
    pathlib.Path(trial.log).touch()

  def wait(self, seconds):
    if not self._running:
      return []
    trial = self._running.pop(0)
    if self.stopped:
      return [(trial, sweep_trials.Outcome(sweep_trials.STOPPED, 'at step 2'))]
    kind = self._script[trial.name].pop(0)
    if kind is None:
      os.kill(os.getpid(), signal.SIGINT)
      self._running.append(trial)
      return []
    if kind == sweep_trials.DONE:
      finish(trial)
    return [(trial, sweep_trials.Outcome(kind, 'because'))]

  def stop(self):
    self.stopped = True


@pytest.fixture
def sweep(plan, tmp_path):
  def call(script, room=1, retries=1, **options):
    trials = plan(**options)
    (tmp_path / 'sweep').mkdir(exist_ok=True)
    results = sweep_results.ResultsFile(str(tmp_path / 'sweep'), GRID, trials)
    shown = io.StringIO()
    board = sweep_board.Board(shown)
    engine = FakeEngine(script, room)
    status = sweeps.Sweep(trials, results, board, retries).run(engine)
    return status, engine.submitted, results, shown.getvalue()

  return call


class TestTrials:
  def test_seeds_train_together_or_alone(self, plan):
    together, alone = plan(('a',)), plan(('a',), together=False)
    assert [trial.name for trial in together] == ['a/seed0..1']
    assert [trial.name for trial in alone] == ['a/seed0', 'a/seed1']
    assert together[0].seeds == [0, 1] and alone[1].seeds == [1]
    assert plan(('a',), seeds=(0, 2))[0].name == 'a/seed0+2'
    assert together[0].log.endswith('sweep/a/seed0..1.log')

  def test_progress_is_of_the_slowest_seed(self, plan):
    (trial,) = plan(('a',))
    assert trial.progress() == (0, 6)
    for seed, steps in ((0, (2, 4)), (1, (2,))):
      workdir = pathlib.Path(trial.directory, f'seed{seed}')
      workdir.mkdir(parents=True)
      rows = [json.dumps({'step': s, 'train/loss': 1.0}) for s in steps]
      (workdir / 'scalars.jsonl').write_text('\n'.join(rows) + '\n{"st')
    assert trial.progress() == (2, 6)

  def test_outcomes_survive_the_pipe(self):
    outcome = sweep_trials.Outcome(sweep_trials.FAILED, 'a "b" ü')
    assert sweep_trials.outcome_of(outcome.line()) == outcome
    for text in ('', 'x', '[]', '{}', '{"kind": "done"}', 'null'):
      assert sweep_trials.outcome_of(text) is None

  @pytest.mark.parametrize(
    'error, kind',
    [
      (errors.UserError('no'), sweep_trials.REFUSED),
      (MemoryError(), sweep_trials.MEMORY),
      (RuntimeError('RESOURCE_EXHAUSTED: 9 GB'), sweep_trials.MEMORY),
      (OSError('odd'), sweep_trials.FAILED),
    ],
  )
  def test_whatever_happens_is_an_outcome(
    self, error, kind, plan, monkeypatch, capsys
  ):
    def train(*_):
      raise error

    monkeypatch.setattr('idspn_jax.studies.cells.train', train)
    (trial,) = plan(('a',))
    outcome = sweep_trials.run(trial)
    assert outcome.kind == kind and str(error) in outcome.text
    told = 'Traceback' in capsys.readouterr().err
    assert told == (kind != sweep_trials.REFUSED)


class TestSweep:
  def test_crashes_are_tried_again(self, sweep):
    script = {'a/seed0..1': ['crashed', 'done'], 'b/seed0..1': ['done']}
    status, submitted, results, shown = sweep(script)
    assert status == 0
    assert submitted == ['a/seed0..1', 'b/seed0..1', 'a/seed0..1']
    kinds = [one['kind'] for one in results.attempts['a/seed0..1']]
    assert kinds == ['crashed', 'done']
    assert 'a/seed0..1: crashed, step 0 of 6: because' in shown
    assert 'a/seed0..1: done (attempt 2)' in shown

  @pytest.mark.parametrize('kind', ['crashed', 'out of memory', 'failed'])
  def test_but_not_for_ever(self, kind, sweep):
    script = {'a/seed0..1': [kind] * 9, 'b/seed0..1': ['done']}
    status, submitted, results, _ = sweep(script)
    assert status == 1 and submitted.count('a/seed0..1') == 2
    states = {one['trial']: one['state'] for one in read_trials(results)}
    assert states == {'a/seed0..1': kind, 'b/seed0..1': 'done'}

  def test_what_cannot_work_is_tried_once(self, sweep):
    script = {'a/seed0..1': ['refused'], 'b/seed0..1': ['done']}
    status, submitted, *_ = sweep(script)
    assert status == 1 and submitted.count('a/seed0..1') == 1

  def test_who_stops_by_itself_is_tried_again(self, sweep):
    script = {'a/seed0..1': ['stopped', 'done'], 'b/seed0..1': ['stopped'] * 9}
    status, submitted, results, _ = sweep(script)
    assert status == 1 and submitted.count('a/seed0..1') == 2
    states = {one['trial']: one['state'] for one in read_trials(results)}
    assert states == {'a/seed0..1': 'done', 'b/seed0..1': 'stopped'}

  def test_again_trains_what_is_missing(self, sweep):
    sweep({'a/seed0..1': ['done'], 'b/seed0..1': ['failed'] * 2})
    status, submitted, results, _ = sweep({'b/seed0..1': ['done']})
    assert status == 0 and submitted == ['b/seed0..1']
    kinds = [one['kind'] for one in results.attempts['b/seed0..1']]
    assert kinds == ['failed', 'failed', 'done']
    assert sweep({})[1] == []

  def test_a_signal_stops_all(self, sweep):
    names = ('a', 'b', 'c')
    script = {'a/seed0..1': [None], 'b/seed0..1': [], 'c/seed0..1': []}
    status, submitted, results, _ = sweep(script, room=2, names=names)
    assert status == 130 and submitted == ['a/seed0..1', 'b/seed0..1']
    states = [one['state'] for one in read_trials(results)]
    assert states == ['stopped', 'stopped', 'waiting']


class TestResultsFile:
  def test_is_read_back(self, sweep):
    script = {'a/seed0..1': ['done'], 'b/seed0..1': ['failed'] * 2}
    _, _, results, _ = sweep(script)
    found = sweep_results.read(results.path)
    assert found.table is None and found.setting is None
    assert found.results['b'] == {}
    assert found.results['a'][1]['metrics'] == {'loss': 2.0}
    text = pathlib.Path(results.path).with_suffix('.md').read_text('utf-8')
    assert '| a    | 1.5 ± 0.71 | 2     | 0        |' in text
    assert '| b    | –          | 0     | 0        |' in text

  @pytest.mark.parametrize(
    'text',
    [
      '',
      '[]',
      '{"sweep": 1}',
      '{"sweep": [], "trials": [], "cells": []}',
      '{"sweep": {}, "trials": [1], "cells": []}',
      '{"sweep": {}, "trials": [{"trial": "a", "cell": "a", "seeds": [0], '
      '"state": "done", "attempts": [3]}], "cells": []}',
      '{"sweep": {}, "trials": [], "cells": [{"cell": "a", "runs": '
      '[{"seed": Infinity, "result": {}}]}]}',
      '{"sweep": {}, "trials": [], "cells": [{"cell": "a"}]}',
      '{"sweep": {}, "trials": [], "cells": [{"cell": "a", "runs": [{}]}]}',
    ],
  )
  def test_damage_is_told(self, text, tmp_path):
    path = tmp_path / 'sweep.json'
    path.write_text(text)
    with pytest.raises(errors.UserError, match='sweep.json is damaged'):
      sweep_results.read(str(path))

  def test_a_damaged_one_is_set_aside(self, sweep, caplog):
    _, _, results, _ = sweep({'a/seed0..1': ['done'], 'b/seed0..1': ['done']})
    path = pathlib.Path(results.path)
    path.write_text(path.read_text()[:100])
    assert sweep({})[0] == 0
    assert 'sweep.json is damaged' in caplog.text
    assert len(path.with_name('sweep.json.damaged').read_text()) == 100
    assert set(sweep_results.read(str(path)).results['b']) == {0, 1}

  def test_one_that_cannot_be_read_is_not_damaged(self, plan, tmp_path):
    (tmp_path / 'sweep.json').mkdir()
    with pytest.raises(errors.UserError, match='Cannot read.*a directory'):
      sweep_results.ResultsFile(str(tmp_path), GRID, plan())

  def test_keeps_what_is_of_other_trials(self, sweep):
    sweep({'a/seed0..1': ['done'], 'b/seed0..1': ['failed', 'failed']})
    _, _, results, _ = sweep({'a/seed0': []}, names=('a',), seeds=(0,))
    states = {one['trial']: one['state'] for one in read_trials(results)}
    expected = {'a/seed0': 'done', 'a/seed0..1': 'done', 'b/seed0..1': 'failed'}
    assert states == expected
    found = sweep_results.read(results.path)
    assert set(found.results['a']) == {0, 1}
    assert len(found.trials['b/seed0..1']['attempts']) == 2
    # A run that was removed since is not shown.
    shutil.rmtree(pathlib.Path(results.path).parent / 'a' / 'seed1')
    _, _, results, _ = sweep({'a/seed0': []}, names=('a',), seeds=(0,))
    assert set(sweep_results.read(results.path).results['a']) == {0}
    states = {one['trial']: one['state'] for one in read_trials(results)}
    assert states == {**expected, 'a/seed0..1': 'waiting'}

  def test_another_table_is_refused(self, plan, tmp_path):
    trials = plan()
    results = sweep_results.ResultsFile(str(tmp_path), GRID, trials)
    results.write()
    with pytest.raises(errors.UserError, match='of a grid, not of Table 5'):
      sweep_results.ResultsFile(str(tmp_path), {'table': '5'}, trials)

  def test_another_setting_is_refused(self, plan, tmp_path):
    paper, reduced = ({'table': '2', 'setting': s} for s in ('paper', 'small'))
    sweep_results.ResultsFile(str(tmp_path), paper, plan()).write()
    with pytest.raises(errors.UserError, match='Table 2, paper, not of Table'):
      sweep_results.ResultsFile(str(tmp_path), reduced, plan())


class TestRows:
  def test_what_others_train_is_seen(self, plan, tmp_path):
    trials = plan(('a', 'b', 'c'))
    for name in ('a', 'b'):
      workdir = tmp_path / 'sweep' / name / 'seed1'
      workdir.mkdir(parents=True)
      (workdir / 'config.json').touch()
    results = sweep_results.ResultsFile(str(tmp_path / 'sweep'), GRID, trials)
    sweep = sweeps.Sweep(trials, results, sweep_board.Board(io.StringIO()))
    with directory.locked(str(tmp_path / 'sweep' / 'a' / 'seed1')):
      states = [row.state for row in sweep.rows(look=True)]
    assert states == ['running', 'unfinished', 'waiting']


class TestBoard:
  def test_rows_that_matter_come_first(self):
    rows = [
      sweep_board.Row('a', 'done', 6, 6, 1, ''),
      sweep_board.Row('b', 'waiting', 0, 6, 0, ''),
      sweep_board.Row('c', 'running', 3, 6, 2, ''),
      sweep_board.Row('d', 'crashed', 3, 6, 3, 'x' * 99),
    ]
    lines = sweep_board.format_rows(rows, (60, 9))
    assert lines[0] == '4 trials: 1 crashed, 1 done, 1 running, 1 waiting'
    assert [line[0] for line in lines[1:4]] == ['c', 'd', 'b']
    assert '3/6 (attempt 2)' in lines[1] and lines[-1] == 'and 1 more'
    assert max(map(len, lines)) == 59

  def test_a_terminal_is_drawn_over(self):
    class Terminal(io.StringIO):
      def isatty(self):
        return True

    board = sweep_board.Board(Terminal())
    rows = [sweep_board.Row('a', 'running', 1, 6, 1, '')]
    board.draw(rows)
    board.draw(rows)
    text = board._file.getvalue()
    assert text.count('\x1b[2F') == 1 and text.count('1 trials') == 2


class TestProcesses:
  """The engine with commands that are no trainings."""

  def outcome(self, code, plan, stop=False):
    engine = sweep_processes.ProcessEngine(lambda trial: ['sh', '-c', code])
    (trial,) = plan(('a',))
    engine.submit(trial)
    assert not engine.has_room()
    if stop:
      engine.stop()
    while not (found := engine.wait(5)):
      pass
    engine.close()
    assert engine.has_room()
    ((ended, outcome),) = found
    assert ended is trial
    return outcome

  def test_told(self, plan):
    line = sweep_trials.Outcome('done', 'x').line()
    assert self.outcome(f"echo noise; echo '{line}'", plan) == ('done', 'x')

  def test_killed(self, plan):
    kind, text = self.outcome('kill -9 $$', plan)
    assert kind == 'crashed' and text.startswith('ended by SIGKILL; see ')
    assert text.endswith('a/seed0..1.log')

  def test_ended_without_a_word(self, plan):
    kind, text = self.outcome('exit 7', plan)
    assert kind == 'crashed' and text.startswith('ended with status 7')

  def test_stopped(self, plan):
    assert self.outcome('cat; exit 1', plan, stop=True).kind == 'stopped'
