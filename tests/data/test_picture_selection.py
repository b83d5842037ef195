"""Parts of picture collections."""

import numpy as np
import pytest

from idspn_jax import errors
from idspn_jax.data import clevr_tree
from idspn_jax.data import picture_selection


@pytest.fixture
def source(clevr_tree_path):
  """Seven pictures, of 1, 2, 3, 4, 1, 2, 3 objects."""
  return clevr_tree.TreePictures(clevr_tree_path, 'train')


def test_selected(source):
  found = picture_selection.SelectedPictures(source, (2, 3), 5)
  rows = [1, 2, 5, 6]
  assert len(found) == 4
  assert found.names == [source.names[i] for i in rows]
  np.testing.assert_array_equal(found.targets, source.targets[rows, :5])
  np.testing.assert_array_equal(found.picture(2, 8), source.picture(5, 8))


def test_more_rows_than_the_source_has(clevr_tree_path):
  source = clevr_tree.TreePictures(clevr_tree_path, 'train', 4)
  found = picture_selection.SelectedPictures(source, (1, 4), 6)
  assert found.targets.shape == (7, 6, 19)
  assert not np.any(found.targets[:, 4:])


def test_nothing_to_select(source):
  with pytest.raises(errors.UserError, match='5 to 9 objects.*1 to 4'):
    picture_selection.SelectedPictures(source, (5, 9), 9)
  with pytest.raises(ValueError, match='3 rows'):
    picture_selection.SelectedPictures(source, (1, 4), 3)


def test_held(source):
  found = picture_selection.HeldPictures(source, 8)
  assert len(found) == 7 and found.names == source.names
  np.testing.assert_array_equal(found.targets, source.targets)
  for i in range(7):
    np.testing.assert_array_equal(found.picture(i, 8), source.picture(i, 8))
  with pytest.raises(ValueError, match='at 8 pixels, not 16'):
    found.picture(0, 16)
