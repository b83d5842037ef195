# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # CLEVR: from pictures to sets of objects
#
# Rendered scenes, a trained model loaded by name, and its prediction step by
# step (Section 4.3).

# %%
# Finds the checkout that this notebook is in, or fetches one (on Colab), and
# installs what is missing.
import importlib.util
import os
import pathlib
import subprocess
import sys

ADDRESS = 'https://idspn-jax.example/idspn-jax'
QUICK = os.environ.get('IDSPN_NOTEBOOK_QUICK') == '1'  # Fewer steps, for tests.

here = pathlib.Path.cwd()
places = (here, *here.parents, here / 'idspn-jax')
root = next((p for p in places if (p / 'experiments/notebooks').is_dir()), None)
needed = ('jaxopt', 'ml_collections', 'orbax', 'sklearn')
install = any(importlib.util.find_spec(m) is None for m in needed)
if root is None:
  install = True  # What is there may be too old.
  root = here / 'idspn-jax'
  subprocess.run(['git', 'clone', '--depth=1', ADDRESS, str(root)], check=True)
if install:
  pip = [sys.executable, '-m', 'pip', 'install', '--quiet']
  subprocess.run([*pip, f'{root}[notebooks]'], check=True)
sys.path.append(str(root))

# %%
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

import idspn_jax as ij
from idspn_jax.data import clevr_features
from idspn_jax.figures import scene_predictions
from idspn_jax.figures import scenes as scene_figures
from idspn_jax.render import constants
from idspn_jax.render import image
from idspn_jax.render import sample_scenes
from idspn_jax.render import scenes as scenes_lib
from idspn_jax.runs import pretrained
from idspn_jax.studies import clevr_paper

workdir = pathlib.Path(tempfile.mkdtemp())

# %% [markdown]
# ## Scenes and their pictures
#
# Scenes of 3 to 6 objects under CLEVR's rules, from a random key, and their
# pictures, rendered by casting rays in JAX. A picture and its label are enough
# to train on; nothing is downloaded. Compiling the renderer takes most of the
# time of this cell.

# %%
COUNT, WIDTH, HEIGHT = (2, 24, 16) if QUICK else (100, 240, 160)
drawn = sample_scenes.sample_scenes(
  jax.random.key(7), COUNT, num_objects=(3, 6)
)
features = np.asarray(scenes_lib.features_of(drawn))  # (COUNT, 10, 19)
if QUICK:
  pictures = np.full((COUNT, HEIGHT, WIDTH, 3), 128, np.uint8)  # Not rendered.
else:
  rendered = image.render(drawn, constants.Look(), WIDTH, HEIGHT)
  pictures = np.asarray(image.as_bytes(rendered))
print(f'{COUNT} pictures, {int(features[..., -1].sum())} objects')

figure, grid = plt.subplots(2, 3, figsize=(9, 4.3), layout='constrained')
for axes, picture, own in zip(grid.flat, pictures, features):
  axes.imshow(picture)
  axes.set(xticks=[], yticks=[])
  axes.set_title(f'{int(own[:, -1].sum())} objects', fontsize=9)

# %% [markdown]
# An object is 19 numbers: its place, and one-hot material, colour, shape and
# size, and presence. The first scene in words:

# %%
for thing in clevr_features.objects_of(features[0]):
  place = ', '.join(f'{x:.2f}' for x in thing['3d_coords'])
  kind = [thing[key] for key in ('size', 'color', 'material', 'shape')]
  print(f'({place})', *kind)

# %% [markdown]
# ## A trained model by name
#
# `clevr_reduced` predicts the objects from pictures. Where this version of the
# package does not have it, `clevr_state` stands in: it squeezes the *objects*
# of a scene into one vector and predicts them again, all of Section 4.3 but
# the image encoder.

# %%
PICTURES = 'clevr_reduced' in pretrained.names()
name = 'clevr_reduced' if PICTURES else 'clevr_state'
if not PICTURES:
  print(
    'There is no clevr_reduced in this version; predictions are made from\n'
    'the true objects squeezed into a vector (clevr_state), NOT from pictures.'
  )
run = ij.load_pretrained(name)
size = run.config.data.max_objects
target = features[:, :size]
if PICTURES:
  paths = []
  for i, picture in enumerate(pictures):
    paths.append(str(workdir / f'{i:03}.png'))
    Image.fromarray(picture).save(paths[-1])
  inputs = run.data.read_images(paths)  # Squashed to the model's size.
else:
  inputs = {'input': target}
trained_with = run.config.model.iterations
print(f'{name}: trained with T = {trained_with}')

# %% [markdown]
# ## Prediction step by step
#
# The last panel of the paper's poster: a picture, the truth, and what is
# predicted after more and more inner steps, drawn on the picture and listed.
# Red is wrong: an attribute, or a place more than 0.25 scene units away (`d`).
# The places get exact only in the later steps.

# %%
steps = [1, 2] if QUICK else [10, 20, 40]
found = {t: ij.predict(run, inputs, iterations=t) for t in steps}
scene_predictions.draw_predictions(
  pictures[:2],
  target[:2],
  {t: found[t]['sets'][:2] for t in steps},
  trained_with=trained_with,
)

# %% [markdown]
# The same from above, from the first step on:

# %%
first = [1] if QUICK else [1, 3, 10, 40]
above = {
  t: ij.predict(run, {k: v[:2] for k, v in inputs.items()}, iterations=t)[
    'sets'
  ]
  for t in first
}
scene_figures.draw_scenes(target[:2], above, trained_with=trained_with)

# %% [markdown]
# ## How good is it?
#
# Average precision over all pictures at six distances, in percent, beside the
# numbers of the poster. The two are **not comparable**: the paper's are of 128
# × 128 pixels, 3 to 10 objects and 100 epochs on the official pictures, with
# the precision averaged over images; these are of a few new scenes of 3 to 6
# objects.

# %%
thresholds = ('inf', '1', '0.5', '0.25', '0.125', '0.0625')
print(f'{"":46}' + ''.join(f'{t:>8}' for t in thresholds))
for row in clevr_paper.rows(3):
  values = {t: f'{mean:.1f}' for t, mean, _ in row.values if mean == mean}
  cells = ''.join(f'{values.get(t, "–"):>8}' for t in thresholds)
  print(f'{"paper: " + row.label:46}{cells}')
for t in steps:
  scores = ij.scene_scores(found[t]['sets'], target)
  cells = ''.join(f'{100 * scores["ap_" + one]:8.1f}' for one in thresholds)
  print(f'{f"here: {name}, {t} steps":46}{cells}')

# %% [markdown]
# ## Several starts
#
# The energy of the inner problem needs no truth. Each scene is decoded from
# four starts, and the set of least energy is kept. It matters where one start
# does not converge in the steps it is given, here 20: points above the
# diagonal gain.

# %%
few, starts = steps[1], 2 if QUICK else 4
several = ij.predict(run, inputs, iterations=few, restarts=starts)
one, best = (
  np.asarray(ij.hungarian_loss(jnp.asarray(sets), jnp.asarray(target)))
  for sets in (found[few]['sets'], several['sets'])
)
print(
  f'mean loss after {few} steps: one start {one.mean():.1e}, '
  f'{starts} starts {best.mean():.1e}'
)
for label, sets in (
  ('one start', found[few]['sets']),
  (f'{starts} starts', several['sets']),
):
  precision = ij.scene_scores(sets, target)['ap_0.125']
  print(f'average precision at 0.125, {label}: {100 * precision:.1f} %')

figure, axes = plt.subplots(figsize=(4.2, 3.6), layout='constrained')
axes.loglog(best, one, 'o', alpha=0.5)
ends = [min(best.min(), one.min()), max(best.max(), one.max())]
axes.loglog(ends, ends, color='0.5', linewidth=1)
axes.set(xlabel=f'loss, {starts} starts', ylabel='loss, one start')
axes.grid(alpha=0.3)

# %% [markdown]
# ## Which predictions are right?
#
# Three numbers that need no truth: the energy, its standard deviation over the
# starts, and the margin, the smallest distance between the two largest scores
# of an object's attribute. For each the chance that it ranks a picture with a
# mistake (in an attribute or the number of objects) behind one without: 0.5 is
# guessing, 1 is perfect. The energy says how well a set fits the latent vector,
# not whether the latent vector is right.

# %%
several = ij.predict(run, inputs, restarts=starts)
scores = [
  ij.scene_scores(sets[None], true[None])
  for sets, true in zip(several['sets'], target)
]
right = np.asarray(
  [
    score['attributes_accuracy'] == score['set_size_accuracy'] == 1
    for score in scores
  ]
)
print(f'{right.sum()} of {len(right)} scenes have all attributes right')
for label, doubt in (
  ('energy', several['energy']),
  ('energy_spread', several['energy_spread']),
  ('margin', -several['margin']),
):
  if 0 < right.sum() < len(right):
    print(f'{label:14} {roc_auc_score(~right, doubt):.2f}')
sure = np.argsort(-several['margin'])
half = len(sure) // 2
print(
  f'right in the half of larger margins: {100 * right[sure[:half]].mean():.0f}'
  f' %, in the other half: {100 * right[sure[half:]].mean():.0f} %'
)

# %% [markdown]
# The same from the command line, for pictures of one's own:
#
# ```sh
# python -m experiments.predict --pretrained=NAME --images=FOLDER \
#   --output=scenes.json --restarts=4
# ```
#
# Training such a model, on rendered or on the official pictures, is described
# on the page about CLEVR models of the documentation.
