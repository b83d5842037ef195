"""A rendered CLEVR directory and the comparison with real pictures."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from idspn_jax import errors
from idspn_jax.data import clevr_scenes
from idspn_jax.figures import renders
from idspn_jax.render import image
from idspn_jax.render import rendered_pictures
from idspn_jax.studies import render_errors
from idspn_jax.studies import rendered_clevr

REAL = pathlib.Path(__file__).parent.parent / 'render' / 'real'


@pytest.fixture
def rendered(monkeypatch):
  """Replaces rendering by grey pictures; counts the calls."""
  calls = []

  def render(scenes, look, width, height):
    calls.append(width)
    return jnp.full((scenes.presence.shape[0], height, width, 3), 0.5)

  monkeypatch.setattr(image, 'render', render)
  return calls


def descriptions(seed=0):
  return [
    rendered_pictures.Description(split, count, 48, 32, seed, 3, 4)
    for split, count in (('train', 12), ('val', 3), ('test', 2))
  ]


class TestTree:
  def test_has_the_archive_s_form(self, tmp_path, rendered):
    root = rendered_clevr.write_tree(str(tmp_path), descriptions())
    assert root == tmp_path / 'CLEVR_v1.0'
    for split, count in (('train', 12), ('val', 3), ('test', 2)):
      names = sorted(p.name for p in (root / 'images' / split).iterdir())
      assert names == [f'CLEVR_{split}_{n:06d}.png' for n in range(count)]
      path = root / 'questions' / f'CLEVR_{split}_questions.json'
      assert json.loads(path.read_text())['questions'] == []
      path = root / 'scenes' / f'CLEVR_{split}_scenes.json'
      assert path.exists() == (split != 'test')
    with PIL.Image.open(root / 'images/val/CLEVR_val_000002.png') as picture:
      assert picture.size == (48, 32) and picture.mode == 'RGB'
    path = root / 'scenes' / 'CLEVR_train_scenes.json'
    counts = clevr_scenes.load_scenes(path)[..., -1].sum(-1)
    assert counts.shape == (12,)
    assert set(counts.tolist()) == {3, 4}
    # What exists is not rendered again.
    before = len(rendered)
    rendered_clevr.write_tree(str(tmp_path), descriptions())
    assert len(rendered) == before
    (root / 'images/val/CLEVR_val_000002.png').unlink()
    rendered_clevr.write_tree(str(tmp_path), descriptions())
    assert len(rendered) == before + 1

  def test_other_settings_are_refused(self, tmp_path, rendered):
    part = descriptions()[2:]
    rendered_clevr.write_tree(str(tmp_path), part)
    with pytest.raises(errors.UserError, match='other settings'):
      rendered_clevr.write_tree(str(tmp_path), descriptions(seed=1)[2:])

  def test_foreign_files_are_left_alone(self, tmp_path):
    (tmp_path / 'CLEVR_v1.0').mkdir()
    (tmp_path / 'CLEVR_v1.0' / 'mine').touch()
    with pytest.raises(errors.UserError, match='not from here'):
      rendered_clevr.write_tree(str(tmp_path), descriptions())

  def test_nothing_to_do_is_told(self, tmp_path):
    with pytest.raises(errors.UserError, match='--num_train'):
      rendered_clevr.write_tree(str(tmp_path), [])


def test_given_scenes_keep_their_names(tmp_path, rendered):
  paths = rendered_clevr.write_given(
    str(tmp_path), str(REAL / 'scenes.json'), str(REAL / 'facts.json'), (24, 16)
  )
  assert len(paths) == 24
  assert sorted(str(p) for p in tmp_path.iterdir()) == sorted(paths)


class TestComparison:
  @pytest.fixture
  def root(self, tmp_path):
    """Six real pictures as a CLEVR_v1.0; two of them are the train split."""
    content = json.loads((REAL / 'scenes.json').read_text())
    content['scenes'] = content['scenes'][:6]
    (tmp_path / 'scenes').mkdir()
    (tmp_path / 'scenes' / 'CLEVR_val_scenes.json').write_text(
      json.dumps(content)
    )
    for split in ('train', 'val'):
      (tmp_path / 'images' / split).mkdir(parents=True)
    for n in range(6):
      data = (REAL / f'CLEVR_val_{n:06d}.png').read_bytes()
      (tmp_path / f'images/val/CLEVR_val_{n:06d}.png').write_bytes(data)
    data = (REAL / 'median.png').read_bytes()
    (tmp_path / 'images/train/CLEVR_train_000000.png').write_bytes(data)
    return tmp_path

  def test_measures_differences(self, root, rendered):
    found = render_errors.compare(root, REAL / 'facts.json', 'val')
    apart = np.abs(found.real.astype(float) - 128)
    assert found.error == pytest.approx(np.mean(apart))
    assert found.median_object_error > 25
    assert found.median_error < found.median_object_error
    assert found.projection_error == 0
    text = render_errors.report(found)
    assert f'{found.object_error:.2f}' in text and '128×128' in text
    figure = renders.draw_renders(
      found.real[:2], found.rendered[:2], found.names[:2]
    )
    assert len(figure.axes) == 6

  def test_missing_pictures_are_told(self, root):
    (root / 'images/val/CLEVR_val_000003.png').unlink()
    with pytest.raises(errors.UserError, match='CLEVR_val_000003.png'):
      render_errors.compare(root, REAL / 'facts.json', 'val')


def test_a_figure_of_nothing_is_refused():
  none = np.zeros((0, 4, 4, 3), np.uint8)
  with pytest.raises(ValueError, match='at least one'):
    renders.draw_renders(none, none, [])
