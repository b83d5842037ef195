"""Golden average precisions: recomputed, errors detected, files refused."""

import pathlib

import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.interop import golden

PATH = pathlib.Path(__file__).parent / 'golden/average_precision.npz'
TOLERANCE = 1e-9


def changed(directory, change):
  """A copy of the golden file; `change` edits its arrays."""
  with np.load(PATH) as f:
    arrays = {name: f[name] for name in f.files}
  change(arrays)
  np.savez(directory / 'changed.npz', **arrays)
  return str(directory / 'changed.npz')


def test_both_definitions_agree():
  found, remarks = golden.compare(str(PATH))
  assert set(found) == {'dataset_ap', 'per_image_ap'} and not remarks
  assert max(found.values()) <= TOLERANCE, found


@pytest.mark.parametrize('name', ['dataset_ap', 'per_image_ap'])
def test_a_changed_number_is_found(name, tmp_path):
  def change(arrays):
    arrays[name].flat[-1] += 1e-6

  found, _ = golden.compare(changed(tmp_path, change))
  assert [k for k, error in found.items() if not error <= TOLERANCE] == [name]


def test_thresholds_are_the_files_own(tmp_path):
  order = np.asarray([4, 0, 2])

  def change(arrays):
    for name in ('thresholds', 'dataset_ap', 'per_image_ap'):
      arrays[name] = arrays[name][..., order]

  found, _ = golden.compare(changed(tmp_path, change))
  assert max(found.values()) <= TOLERANCE


@pytest.mark.parametrize('recorded', [np.nan, 0.0, 1.0])
def test_images_without_objects_are_left_out_per_image(recorded, tmp_path):
  def change(arrays):
    # An image more, whose detections come last of all.
    for name in ('prediction', 'target'):
      arrays[name] = np.concatenate([arrays[name], 0 * arrays[name][:1]])
    arrays['prediction'][-1, :, -1] = -100
    more = np.full_like(arrays['per_image_ap'][:1], recorded)
    arrays['per_image_ap'] = np.concatenate([arrays['per_image_ap'], more])

  found, remarks = golden.compare(changed(tmp_path, change))
  assert max(found.values()) <= TOLERANCE
  assert remarks == ['1 images without objects are left out of per_image_ap']


def test_one_of_the_two_is_enough(tmp_path):
  def change(arrays):
    del arrays['dataset_ap']

  found, _ = golden.compare(changed(tmp_path, change))
  assert set(found) == {'per_image_ap'}


@pytest.mark.parametrize(
  'change, culprit',
  [
    (lambda a: a.pop('target'), 'target'),
    (lambda a: a.update(target=a['target'][..., :18]), '18'),
    (lambda a: a.update(target=a['target'][:5]), '5 images'),
    (lambda a: a.update(thresholds=np.zeros(6)), 'positive'),
    (lambda a: a.update(prediction=np.asarray(['text'])), 'changed.npz'),
  ],
)
def test_files_that_do_not_fit(change, culprit, tmp_path):
  with pytest.raises(errors.UserError, match='changed.npz') as e:
    golden.compare(changed(tmp_path, change))
  assert culprit in str(e.value) and '\n' not in str(e.value)
