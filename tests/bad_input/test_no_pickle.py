"""A pickle that is planted wherever something is loaded is never run."""

import ast
import pathlib
import pickle
import shutil

import numpy as np
import pytest

import idspn_jax
from idspn_jax.data import clevr_tree
from idspn_jax.data import image_sets
from idspn_jax.data import picture_cache
from idspn_jax.data import scene_store
from idspn_jax.data import set_files
from idspn_jax.interop import golden
from idspn_jax.interop import image_weights
from idspn_jax.render import rendered_pictures
from idspn_jax.runs import loading
from idspn_jax.runs import pretrained
from idspn_jax.training import loop

PACKAGE = pathlib.Path(idspn_jax.__file__).parent
READERS = {
  'sets.npz': set_files.load_set_file,
  'images.npz': image_sets.load_image_sets,
  'weights.npz': image_weights.load_state_dict,
  'golden.npz': golden.load,
  'model.npz': lambda path: pretrained.read(path, ''),
}


def _objects(trap):
  """An array of one object."""
  found = np.empty(1, object)
  found[0] = trap
  return found


@pytest.mark.parametrize('name', READERS)
def test_in_archives(name, trap, refused, tmp_path):
  path = tmp_path / name
  arrays = dict.fromkeys(
    ('sets', 'sizes', 'files', 'a', 'config', 'about', 'weights'),
    _objects(trap),
  )
  np.savez(path, **arrays)
  refused('pickles', name, lambda: READERS[name](str(path)))
  path.write_bytes(pickle.dumps(trap))
  refused('pickles', (name, 'bare'), lambda: READERS[name](str(path)))
  with open(path, 'wb') as f:
    np.save(f, _objects(trap), allow_pickle=True)
  refused('pickles', (name, 'npy'), lambda: READERS[name](str(path)))


def test_in_a_cache(trap, refused, write_clevr_tree, tmp_path):
  source = clevr_tree.TreePictures(write_clevr_tree(tmp_path), 'train')
  for planted in ('train.npy', 'train.npz'):
    folder = tmp_path / f'cache of {planted}'
    picture_cache.write(source, folder, 'train', 4)
    with open(folder / planted, 'wb') as f:
      if planted == 'train.npy':
        np.save(f, _objects(trap), allow_pickle=True)
      else:
        names = ('names', 'targets', 'checksums', 'image_size', 'identity')
        np.savez(f, **dict.fromkeys(names, _objects(trap)))
    refused(
      'pickles',
      planted,
      lambda f=folder: picture_cache.CachedPictures(f, 'train', 4),
    )


def test_in_rendered_pictures(trap, refused, tmp_path, monkeypatch):
  drawn = np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 10, 19), np.float32)
  monkeypatch.setattr(rendered_pictures.Description, 'render', lambda *_: drawn)
  description = rendered_pictures.Description('val', 1, 4, 4)
  for name in ('pictures', 'features', 'checksums'):
    folder = tmp_path / name
    rendered_pictures.make(folder, description)
    with open(folder / f'{name}_00000.npy', 'wb') as f:
      np.save(f, _objects(trap), allow_pickle=True)
    refused(
      'pickles', name, lambda f=folder: rendered_pictures.RenderedPictures(f)
    )


def test_in_stored_scenes(trap, tmp_path):
  path = tmp_path / 'scenes.npz'
  np.savez(path, features=_objects(trap))
  scenes = np.ones((2, 3), np.float32)
  found = scene_store.stored_scenes(path, (2, 3), lambda: scenes)
  np.testing.assert_array_equal(found, scenes)


def test_in_a_checkpoint(trap, small, tmp_path):
  """In place of every file of a checkpoint, one after another."""
  workdir = tmp_path / 'run'
  loop.train_and_evaluate(small(), str(workdir))
  step = workdir / 'checkpoints' / '6'
  planted = pickle.dumps(trap)
  copy = shutil.copytree(step, tmp_path / 'copy')
  for path in [p for p in copy.rglob('*') if p.is_file()]:
    target = step / path.relative_to(copy)
    content = target.read_bytes()
    target.write_bytes(planted)
    try:
      loading.load_run(str(workdir), 6)
    except ValueError as e:
      assert 'damaged' in str(e)
    target.write_bytes(content)


def test_no_module_unpickles():
  """`pickle` is imported nowhere, and every `np.load` refuses objects."""
  for path in PACKAGE.rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
      if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names]
        assert not {'pickle', 'dill', 'joblib', 'cloudpickle'} & {*names}, path
      if isinstance(node, ast.Call) and ast.unparse(node.func) == 'np.load':
        options = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert options.get('allow_pickle') == 'False', path
