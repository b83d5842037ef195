"""Golden numbers of the official code: recomputed, and errors detected."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.interop import golden

GOLDEN = pathlib.Path(__file__).parent / 'golden'
ROOT = pathlib.Path(__file__).parents[2]
PRECISION = GOLDEN / 'average_precision.npz'
FILES = sorted({*GOLDEN.glob('*.npz')} - {PRECISION})
TOLERANCE = 1e-8
IMPLICIT = GOLDEN / 'idspn_momentum.npz'
UNROLLED = GOLDEN / 'dspn_unrolled.npz'


def changed(path, directory, change, name='changed.npz'):
  """Copies a golden file; `change` edits its configuration and arrays."""
  with np.load(path) as f:
    arrays = {name: f[name] for name in f.files}
  config = json.loads(str(arrays.pop('config')))
  change(config, arrays)
  out = directory / name
  np.savez(out, config=json.dumps(config), **arrays)
  return str(out)


def wrong(path):
  """Names of the arrays that differ."""
  found, _ = golden.compare(path)
  return {name for name, error in found.items() if not error <= TOLERANCE}


def parity(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'experiments.parity', *map(str, arguments)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


def test_there_are_twelve_files():
  assert len(FILES) == 12


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_official_numbers_are_reproduced(path, x64):
  found, remarks = golden.compare(str(path))
  config, arrays = golden.load(str(path))
  grads = {name for name in arrays if name.startswith('grad/')}
  assert {'output', 'loss', 'latent', 'latent_grad', *grads} <= set(found)
  assert ('inner_step' in found) == ('inner_step' in arrays)
  assert max(found.values()) <= TOLERANCE, found
  # Only the implicit modes accumulate the latent's gradient twice.
  assert len(remarks) == (not config['gradient'].startswith('unrolled'))


class TestErrorsAreDetected:
  @pytest.mark.parametrize(
    'names',
    [
      ['output', 'latent_grad'],
      ['loss', 'inner_step', 'grad/inner_obj.encoder.mlp.0.weight'],
    ],
    ids=lambda names: names[0],
  )
  def test_exactly_the_changed_arrays_are_wrong(self, names, tmp_path, x64):
    def change(_, arrays):
      for name in names:
        # One number of each, by a millionth of the largest.
        array = arrays[name] = np.array(arrays[name])
        index = (0,) * array.ndim
        array[index] += 1e-6 * np.max(np.abs(array))

    assert wrong(changed(IMPLICIT, tmp_path, change)) == set(names)

  def test_a_changed_parameter_spoils_what_depends_on_it(self, tmp_path, x64):
    def change(_, arrays):
      arrays['param/inner_obj.encoder.mlp.2.weight'][0, 0] += 1e-3

    found = wrong(changed(IMPLICIT, tmp_path, change))
    assert {'output', 'loss', 'latent_grad', 'inner_step'} <= found
    assert 'latent' not in found  # The input encoder has its own weights.

  def test_the_largest_error_is_reported_for_missing_numbers(
    self, tmp_path, x64
  ):
    def change(_, arrays):
      arrays['output'][0, 0, 0] = np.nan
      arrays['loss'] = arrays['loss'][None]
      del arrays['grad/inner_obj.encoder.mlp.2.bias']

    path = changed(IMPLICIT, tmp_path, change)
    found, _ = golden.compare(path)
    for name in ('output', 'loss', 'grad/inner_obj.encoder.mlp.2.bias'):
      assert found[name] == float('inf')


class TestLatentGradient:
  @pytest.mark.parametrize('factor, passes', [(0.5, True), (3.0, False)])
  def test_recorded_once_or_twice_only(self, factor, passes, tmp_path, x64):
    def change(_, arrays):
      arrays['latent_grad'] = factor * arrays['latent_grad']

    path = changed(IMPLICIT, tmp_path, change)
    found, remarks = golden.compare(path)
    assert not remarks
    assert (found['latent_grad'] <= TOLERANCE) == passes
    assert max(v for k, v in found.items() if k != 'latent_grad') <= TOLERANCE


def test_unrolled_files_are_not_clipped(tmp_path, x64):
  def change(config, _):
    config['grad_clip'] = 1e-3

  assert wrong(changed(UNROLLED, tmp_path, change)) == set()


def test_lightning_names_are_understood(tmp_path, x64):
  def change(_, arrays):
    for kind in ('param/', 'grad/'):
      for name in [name for name in arrays if name.startswith(kind)]:
        arrays[f'{kind}net.{name.removeprefix(kind)}'] = arrays.pop(name)

  assert wrong(changed(IMPLICIT, tmp_path, change)) == set()


class TestFilesThatDoNotFit:
  def refused(self, path):
    with pytest.raises(errors.UserError) as e:
      golden.compare(str(path))
    message = str(e.value)
    assert '\n' not in message
    assert pathlib.Path(path).name in message
    return message

  def test_missing(self, tmp_path):
    self.refused(tmp_path / 'absent.npz')

  @pytest.mark.parametrize('content', [b'', b'no numbers', b'PK\x03\x04'])
  def test_not_an_archive(self, content, tmp_path):
    path = tmp_path / 'broken.npz'
    path.write_bytes(content)
    self.refused(path)

  def test_truncated(self, tmp_path):
    path = tmp_path / 'half.npz'
    path.write_bytes(IMPLICIT.read_bytes()[:2000])
    self.refused(path)

  def test_a_bare_array(self, tmp_path):
    np.save(tmp_path / 'bare.npy', np.zeros(3))
    shutil.move(tmp_path / 'bare.npy', tmp_path / 'bare.npz')
    assert 'npz' in self.refused(tmp_path / 'bare.npz')

  def test_without_config(self, tmp_path):
    np.savez(tmp_path / 'plain.npz', output=np.zeros(3))
    message = self.refused(tmp_path / 'plain.npz')
    assert 'config' in message and 'output' in message

  def test_config_not_json(self, tmp_path):
    np.savez(tmp_path / 'text.npz', config='set_size: 3')
    assert 'JSON' in self.refused(tmp_path / 'text.npz')

  def test_missing_arrays_and_settings(self, tmp_path):
    def change(config, arrays):
      del arrays['latent'], arrays['loss'], config['momentum']

    message = self.refused(changed(IMPLICIT, tmp_path, change))
    for name in ('latent', 'loss', 'config.momentum'):
      assert name in message

  @pytest.mark.parametrize(
    'key', ['pool', 'objective', 'projection', 'gradient', 'task']
  )
  def test_unknown_setting(self, key, tmp_path):
    def change(config, _):
      config[key] = 'no-such'

    message = self.refused(changed(IMPLICIT, tmp_path, change))
    assert key in message and 'no-such' in message

  def test_unknown_parameter(self, tmp_path):
    def change(_, arrays):
      arrays['param/net.attention.weight'] = np.zeros((2, 2))

    message = self.refused(changed(IMPLICIT, tmp_path, change))
    assert 'attention.weight' in message

  def test_average_precisions_of_nothing(self, tmp_path):
    np.savez(tmp_path / 'ap.npz', dataset_ap=np.zeros(3))
    message = self.refused(tmp_path / 'ap.npz')
    assert 'prediction, target, thresholds' in message


class TestCommand:
  def test_exits_0_when_all_agree(self):
    done = parity(IMPLICIT)
    assert done.returncode == 0, done.stderr
    assert '1 of 1 files within 1e-08' in done.stdout
    assert done.stderr == ''

  def test_average_precisions_beside_other_files(self):
    done = parity(PRECISION, IMPLICIT)
    assert done.returncode == 0, done.stderr
    assert '2 of 2 files' in done.stdout
    assert 'worst of 2 arrays: ' in done.stdout

  def test_exits_1_when_one_differs(self, tmp_path):
    def change(_, arrays):
      arrays['output'] = arrays['output'] + 1e-3

    path = changed(UNROLLED, tmp_path, change, 'wrong.npz')
    done = parity(path, '--verbose')
    assert done.returncode == 1, done.stderr
    assert 'FAILED' in done.stdout and 'worst of 15 arrays: output' in (
      done.stdout
    )
    assert '0 of 1 files' in done.stdout

  @pytest.mark.parametrize(
    'arguments, culprit',
    [
      ([], 'golden .npz files'),
      (['absent.npz'], 'absent.npz'),
      (['--tolerance=-1'], 'tolerance'),
    ],
  )
  def test_exits_2_with_one_line(self, arguments, culprit):
    done = parity(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith('parity: error: ') and culprit in line
    assert done.stdout == ''
