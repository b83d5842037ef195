"""Bad runs and exported models: configs, results, checkpoints, weights."""

import json
import os
import pathlib
import shutil

from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from idspn_jax.runs import checkpoints
from idspn_jax.runs import directory
from idspn_jax.runs import loading
from idspn_jax.runs import pretrained
from idspn_jax.runs import scalars
from idspn_jax.studies import sweep_results
from idspn_jax.training import loop
from tests.bad_input.refusal import Refused
from tests.bad_input.test_data_files import ARRAYS
from tests.bad_input.test_data_files import _mutations


@pytest.fixture(scope='module')
def stored(small, tmp_path_factory):
  """A finished run."""
  workdir = tmp_path_factory.mktemp('runs') / 'run'
  loop.train_and_evaluate(small(), str(workdir))
  return workdir


@pytest.fixture
def run(stored, tmp_path):
  """A copy of it, to be damaged."""
  return pathlib.Path(shutil.copytree(stored, tmp_path / 'run'))


@pytest.fixture(scope='module')
def variables(stored):
  return loading.load_run(str(stored)).variables


def _equal(a, b):
  return all(
    np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


class TestConfig:
  """`config.json` of a run."""

  def test_other_content(self, run, small, fuzz, attempt):
    path = run / 'config.json'
    good = json.loads(path.read_text())

    def check(content):
      if content == good:
        return
      path.write_text(json.dumps(content))
      try:
        attempt(
          'stored config',
          content,
          lambda: directory.adopt(small(), str(run)),
        )
        attempt(
          'stored config',
          (content, 'loaded'),
          lambda: loading.load_run(str(run)),
        )
      except Refused as e:
        assert '\n' not in str(e)

    fuzz(_mutations(good), check)

  def test_damage(self, run, fuzz, attempt, damage):
    content = (run / 'config.json').read_bytes()

    def check(seed):
      for what, changed in damage(content, seed, 4):
        (run / 'config.json').write_bytes(changed)
        try:
          attempt(
            'damaged config', what, lambda: directory.read_config(str(run))
          )
        except Refused as e:
          assert '\n' not in str(e)

    fuzz(st.integers(0, 10**6), check)


@pytest.mark.parametrize('name', ['result.json', 'data.json', 'scalars.jsonl'])
def test_damaged_records(name, run, fuzz, attempt, damage):
  path = run / name
  content = path.read_bytes() if path.exists() else b'{"path": "x", "n": 1}'
  read = {
    'result.json': lambda: directory.read_result(str(run)),
    'data.json': lambda: directory.read_record(str(run)),
    'scalars.jsonl': lambda: scalars.read_scalars(str(run), 'train/loss'),
  }[name]

  def check(seed):
    for what, changed in damage(content, seed, 4):
      path.write_bytes(changed)
      try:
        attempt('damaged records', (name, what), read)
      except Refused:
        continue

  fuzz(st.integers(0, 10**6), check)


def test_results_of_sweeps(fuzz, attempt, tmp_path):
  path = tmp_path / 'sweep.json'
  good = {
    'sweep': {'table': '5', 'setting': 'paper'},
    'trials': [{'trial': 'a/seed0', 'attempts': [{'kind': 'done'}]}],
    'cells': [{'cell': 'a', 'runs': [{'seed': 0, 'result': {'step': 1}}]}],
  }

  def check(content):
    path.write_text(json.dumps(content))
    try:
      attempt('results of sweeps', content, lambda: sweep_results.read(path))
    except Refused:
      return

  fuzz(_mutations(good), check)


class TestCheckpoint:
  def test_damage(self, run, variables, fuzz, attempt, damage):
    """A damaged checkpoint is refused, or gives what was saved."""
    folder = run / 'checkpoints'
    files = sorted(p for p in folder.rglob('*') if p.is_file())
    contents = {path: path.read_bytes() for path in files}

    def check(value):
      number, seed = value
      path = files[number % len(files)]
      # Of all checkpoints, as the older ones would be taken otherwise.
      for what, changed in damage(contents[path] or b'\0', seed, 2):
        path.write_bytes(changed)
        try:
          found = attempt(
            'damaged checkpoint',
            (str(path.relative_to(folder)), what),
            lambda: loading.load_run(
              str(run), int(path.relative_to(folder).parts[0])
            ),
          )
        except Refused as e:
          assert '\n' not in str(e)
          continue
        finally:
          path.write_bytes(contents[path])
        if found.step == 6:
          assert _equal(found.variables, variables), (path, what)

    fuzz(st.tuples(st.integers(0, 99), st.integers(0, 10**6)), check)

  def test_missing_files(self, run, attempt):
    folder = run / 'checkpoints' / '6'
    for path in sorted(p for p in folder.rglob('*') if p.is_file()):
      content = path.read_bytes()
      path.unlink()
      try:
        attempt(
          'damaged checkpoint',
          str(path.relative_to(folder)),
          lambda: loading.load_run(str(run), 6),
        )
      except Refused:
        pass
      path.write_bytes(content)

  @pytest.mark.parametrize(
    'state',
    [
      {},
      {'params': {}},
      {'params': {'a': np.zeros(2)}},
      {'step': np.zeros(())},
      {'params': np.zeros(3)},
      [np.zeros(2)],
      {'params': {'a': np.zeros(2)}, 'best': {'value': np.zeros(())}},
    ],
  )
  def test_of_something_else(self, state, run, refused):
    shutil.rmtree(run / 'checkpoints')
    with checkpoints.Checkpoints(str(run)) as saved:
      try:
        saved.save(3, state)
        saved.wait()
      except ValueError:  # Orbax saves no empty tree.
        return
    refused('other checkpoints', state, lambda: loading.load_run(str(run)))

  @pytest.mark.parametrize('name', ['x', '-1', '007', '1.5', '9' * 30, ''])
  def test_names_of_folders(self, name, run, attempt):
    folder = run / 'checkpoints' / name
    folder.mkdir(exist_ok=True)
    try:
      found = attempt(
        'other checkpoints', name, lambda: loading.load_run(str(run))
      )
    except Refused:
      return
    assert found.step == 6


class TestExportedModel:
  @pytest.fixture
  def path(self, stored, tmp_path):
    path = tmp_path / 'model.npz'
    pretrained.export(loading.load_run(str(stored)), str(path))
    return path

  def test_damage(self, path, fuzz, attempt, damage):
    content = path.read_bytes()
    good = pretrained.read(str(path), '').variables

    def check(seed):
      for what, changed in damage(content, seed, 4):
        path.write_bytes(changed)
        try:
          found = attempt(
            'damaged model', what, lambda: pretrained.read(str(path), '')
          )
        except Refused:
          continue
        assert _equal(found.variables, good)

    fuzz(st.integers(0, 10**6), check)

  def test_other_arrays(self, path, fuzz, attempt):
    with np.load(path) as file:
      good = dict(file)
    names = [*good, 'x', 'variables', 'variables/params', 'x/params', '/']

    def check(change):
      name, array = change
      np.savez(path, **{**good, name: array})
      try:
        found = attempt(
          'model arrays', change, lambda: pretrained.read(str(path), '')
        )
      except Refused:
        return
      assert name not in good or np.array_equal(good[name], array), name
      assert found.step == 6

    fuzz(st.tuples(st.sampled_from(names), ARRAYS), check)

  def test_other_texts(self, path, fuzz, attempt):
    with np.load(path) as file:
      good = dict(file)
    config, about = (json.loads(str(good[k])) for k in ('config', 'about'))

    def check(value):
      name, content = value
      np.savez(path, **{**good, name: json.dumps(content)})
      try:
        attempt('model texts', value, lambda: pretrained.read(str(path), ''))
      except Refused:
        return

    fuzz(
      st.tuples(st.just('config'), _mutations(config))
      | st.tuples(st.just('about'), _mutations(about)),
      check,
    )


def test_a_run_that_is_no_directory(refused, tmp_path):
  for name in ('nothing', 'file', 'x' * 300, 'a\0b'):
    if name == 'file':
      (tmp_path / name).write_text('x')
    refused(
      'other runs',
      name,
      lambda n=name: loading.load_run(os.path.join(tmp_path, n)),
    )
