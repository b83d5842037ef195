"""The script of docs/own_images.md writes what the reader reads."""

import pathlib
import re

import numpy as np

from idspn_jax.data import image_sets
from idspn_jax.data import pictures

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'own_images.md'


def test_the_script_makes_images_with_sets(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (script,) = re.findall(
    r'^```python\n(.*?)^```$', PAGE.read_text('utf-8'), re.MULTILINE | re.DOTALL
  )
  assert 'COUNT, SIZE, RADIUS = 2_000, 32, 3.0' in script
  assert len(script.splitlines()) <= 30
  exec(script.replace('2_000', '12'), {})
  sets = image_sets.load_image_sets('dots/sets.json')
  assert sets.layout.continuous == ('x', 'y')
  assert sets.layout.categories[0].classes == ('blue', 'green', 'red')
  paths = image_sets.image_paths('dots/images', sets.files)
  assert len(paths) == 12 and 1 <= sets.sizes.min() <= sets.sizes.max() <= 4
  # A dot's centre has its colour: the largest channel is the colour's.
  for i, path in enumerate(paths):
    image = pictures.decode(path)
    for n in range(sets.sizes[i]):
      x, y = (32 * sets.values[i, n]).astype(int)
      channel = {0: 2, 1: 1, 2: 0}[int(sets.classes['colour'][i, n])]
      assert np.argmax(image[y, x]) == channel
