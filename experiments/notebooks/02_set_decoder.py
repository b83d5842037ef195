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
# # The set decoder
#
# From a vector to a set by minimising an energy, seen step by step; then own
# data in ten lines: the digits of scikit-learn as sets of points.

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
import tempfile

import IPython.display
import jax
import jax.numpy as jnp
import matplotlib.animation
import matplotlib.pyplot as plt
import numpy as np

import idspn_jax as ij

workdir = tempfile.mkdtemp()

# %% [markdown]
# ## A vector in, a set out
#
# The decoder searches the set $Y$ whose encoding $g(Y)$ is the given vector:
# $\mathrm{iDSPN}(z) = \arg\min_Y L(Y, z, \theta)$ with $L = \tfrac{1}{2}
# \mathrm{mean}\,(g(Y) - z)^2$ (Equations 6 and 7), by a fixed number of
# gradient steps from an initial set. Backward, it differentiates the
# *optimality condition* $\nabla_Y L(Y^*, z, \theta) = 0$ instead of the steps:
# nothing of the search is kept in memory.
#
# Here nothing is trained yet. A random encoder reads twelve points on a
# spiral, and the decoder looks for points with the same encoding.

# %%
angle = np.linspace(0.3, 2.0, 12) * np.pi
spiral = 0.25 * angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
spiral = jnp.asarray(spiral, jnp.float32)[None]  # (1, 12, 2): one set.

encoder = ij.SetEncoder(hidden_dim=128, latent_dim=128)
decoder = ij.SetDecoder(
  encoder,
  set_size=12,
  set_dim=2,
  iterations=400,
  optimizer=ij.GradientDescent(learning_rate=3.0, momentum=0.9),
)
keys = {'params': jax.random.key(0), 'initial_set': jax.random.key(1)}
variables = jax.jit(decoder.init)(keys, jnp.zeros((1, 128)))
z = encoder.apply({'params': variables['params']['encoder']}, spiral)


@jax.jit
def solve(variables, z):
  rngs = {'initial_set': jax.random.key(3)}
  return decoder.apply(variables, z, trajectory=True, method='solve', rngs=rngs)


found = solve(variables, z)
print(
  'energy:', *(f'{float(found.energy[t, 0]):.1e}' for t in (0, 20, 100, 400))
)


# %%
def animate(frames, targets, titles, columns, pause=1 if QUICK else 6):
  """A GIF of sets, `(T, S, N, 2)`; a third feature is how opaque points are."""
  rows = -(-len(targets) // columns)
  figure, grid = plt.subplots(
    rows,
    columns,
    figsize=(1.9 * columns, 2.0 * rows),
    squeeze=False,
    layout='constrained',
  )
  every = np.concatenate(list(targets))
  low, high = every.min(0), every.max(0)
  space = 0.15 * np.max(high - low)
  clouds = []
  for axes, target in zip(grid.flat, targets):
    axes.scatter(*target.T, s=45, facecolors='none', edgecolors='0.6')
    clouds.append(axes.scatter([], [], s=14, color='C3'))
    axes.set(xticks=[], yticks=[], aspect='equal')
    axes.set(xlim=(low[0] - space, high[0] + space))
    axes.set(ylim=(low[1] - space, high[1] + space))

  def draw(frame):
    frame = min(frame, len(frames) - 1)
    for cloud, points in zip(clouds, frames[frame]):
      cloud.set_offsets(points[:, :2])
      if points.shape[1] > 2:
        cloud.set_alpha(np.clip(points[:, 2], 0, 1))
    figure.suptitle(titles[frame], fontsize=10)

  movie = matplotlib.animation.FuncAnimation(figure, draw, len(frames) + pause)
  path = pathlib.Path(workdir, 'movie.gif')
  movie.save(path, matplotlib.animation.PillowWriter(fps=6), dpi=60)
  plt.close(figure)
  return IPython.display.Image(path.read_bytes())


shown = [0, 1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200, 300, 400]
shown = shown[:2] if QUICK else shown
animate(
  np.asarray(found.trajectory)[shown],
  np.asarray(spiral),
  [f'step {t}, energy {float(found.energy[t, 0]):.2g}' for t in shown],
  1,
)

# %% [markdown]
# Grey circles are the points that were encoded, red dots the decoder's set:
# from a heap of nearly equal points, which FSPool can separate (see notebook
# 01), to the spiral, with no correspondence ever given.

# %% [markdown]
# ## Own data in ten lines
#
# The 1,797 handwritten digits that come with scikit-learn, 8 × 8 pixels each,
# as sets of points: the places of their dark pixels. Sets have 9 to 26
# elements; the task `own_sets` pads them and adds a *presence* feature, which
# the decoder has to predict as well. An element exists if its presence exceeds
# one half.

# %%
from sklearn import datasets

images = datasets.load_digits().images
points = [np.argwhere(image >= 10)[:, ::-1] * [1, -1] for image in images]
sizes = np.array([len(p) for p in points])
padded = np.stack(
  [np.pad(p, ((0, max(sizes) - len(p)), (0, 0))) for p in points]
)
print(f'{sizes.min()} to {sizes.max()} elements, {len(sizes)} sets')

# %%
from configs import own_sets

np.savez(f'{workdir}/digits.npz', sets=padded, sizes=sizes)
config = own_sets.get_config()
config.data.path = f'{workdir}/digits.npz'
config.model.hidden_dim = config.model.latent_dim = 16 if QUICK else 128
config.steps, config.learning_rate, config.cooldown = 2_000, 3e-3, 0.5
if QUICK:
  config.steps, config.model.iterations = 5, 2
config.eval_every = config.checkpoint_every = config.steps
result = ij.train_and_evaluate(config, f'{workdir}/digits')
print({name: round(value, 4) for name, value in result['metrics'].items()})

# %% [markdown]
# `size_correct` is the share of test sets whose size is predicted right,
# `distance` the mean distance of a point from the prediction it is matched
# with, in pixels. More inner steps than in training, and several starts of
# which the set of least energy is kept, need no training:

# %%
run = ij.load_run(f'{workdir}/digits')
steps, starts = ([2], [1]) if QUICK else ([20, 40], [1, 4])
for row in ij.evaluate_at(run, steps, restarts=starts)['rows']:
  print(
    f'{row["iterations"]} steps, {row["restarts"]} starts: sizes right '
    f'{row["size_correct"]:.1%}, distance {row["distance"]:.3f} pixels'
  )

# %% [markdown]
# ## The inner descent, animated
#
# Ten digits that were not trained on, each squeezed into one vector of 128
# numbers and decoded again. Points fade in as their presence grows.

# %%
last = 3 if QUICK else 40
examples = jnp.asarray(run.data.examples(40)['input'][::4])


@jax.jit
def descend(sets):
  return run.task.decode(
    run.variables, sets, jax.random.key(0), iterations=last, trajectory=True
  )


found = descend(examples)
truth = run.data.in_units(np.asarray(examples))
frames = run.data.in_units(np.asarray(found.trajectory))
targets = [own[own[:, 2] > 0.5][:, :2] for own in truth]
shown = sorted({t for t in (*range(13), 15, 18, 22, 28, 34, 40) if t <= last})
energies = np.median(np.asarray(found.energy), axis=1)
animate(
  frames[shown],
  targets,
  [f'inner step {t}, median energy {energies[t]:.2f}' for t in shown],
  5,
)

# %%
figure, grid = plt.subplots(2, 10, figsize=(11, 2.9), layout='constrained')
for column, (target, points) in enumerate(zip(targets, frames[-1])):
  points = points[points[:, 2] > 0.5]
  for axes, own, color in zip(grid[:, column], (target, points), ('0.3', 'C3')):
    axes.scatter(*own[:, :2].T, s=28, marker='s', color=color)
    axes.set(xlim=(-0.7, 7.7), ylim=(-7.7, 0.7), xticks=[], yticks=[])
    axes.set_aspect('equal')
grid[0, 0].set_ylabel('digit')
grid[1, 0].set_ylabel(f'decoded,\n{last} steps')
figure.suptitle('Digits that were not trained on')

# %%
energy, residual = (np.asarray(a) for a in (found.energy, found.residual))
figure, pair = plt.subplots(1, 2, figsize=(8, 2.8), layout='constrained')
for axes, values, name in zip(pair, (energy, residual), ('energy', 'residual')):
  axes.semilogy(values, color='C0', alpha=0.5)
  axes.axvline(run.config.model.iterations, color='0.3', linestyle=':')
  axes.set(xlabel='inner step', ylabel=name)
  axes.grid(alpha=0.3)
figure.suptitle('Ten digits; dotted: the steps of the training', fontsize=10)

# %% [markdown]
# ## Several starts
#
# A descent may end in a poor minimum. The energy needs no target, so it can
# choose between starts (see the page on restarts in the documentation). Of 200
# test digits, the one that gains most from eight starts:

# %%
many = jnp.asarray(run.data.examples(8 if QUICK else 200)['input'])


@jax.jit
def decode_all(sets):
  restarts = ij.Restarts(2 if QUICK else 8, keep_all=True)
  return run.task.decode(
    run.variables, sets, jax.random.key(1), iterations=last, restarts=restarts
  )


found = decode_all(many)
one_start = np.asarray(ij.hungarian_loss(found.start_sets[0], many))
best_start = np.asarray(ij.hungarian_loss(found.set, many))
print(
  f'mean loss: {one_start.mean():.1e} from one start, '
  f'{best_start.mean():.1e} from {len(found.start_sets)}'
)

worst = int(np.argmax(one_start - best_start))
truth = run.data.in_units(np.asarray(many[worst]))
truth = truth[truth[:, 2] > 0.5]
kept = [0, int(found.winner[worst])]
figure, grid = plt.subplots(1, 3, figsize=(8, 2.9), layout='constrained')
for axes, start in zip(grid, kept):
  own = run.data.in_units(np.asarray(found.start_sets[start, worst]))
  own = own[own[:, 2] > 0.5]
  axes.scatter(*truth[:, :2].T, s=70, facecolors='none', edgecolors='0.5')
  axes.scatter(*own[:, :2].T, s=20, color='C3')
  axes.set(xlim=(-0.7, 7.7), ylim=(-7.7, 0.7), xticks=[], yticks=[])
  axes.set_aspect('equal')
  axes.set_title(
    f'start {start}: energy {float(found.start_energies[start, worst]):.3f}',
    fontsize=9,
  )
ordered = np.sort(np.stack([one_start, best_start]), axis=1)[:, ::-1]
share = np.arange(1, len(many) + 1) / len(many)
for losses, label in zip(
  ordered, ('one start', f'{len(found.start_sets)} starts')
):
  grid[2].loglog(losses, share, label=label)
grid[2].set(xlabel='loss', ylabel='share of digits above')
grid[2].grid(alpha=0.3)
grid[2].legend(fontsize=8)

# %% [markdown]
# ## Random sets, as in the paper (Section 4.2)
#
# `multisets_n4_d4` is a model that comes with the package, trained with the
# paper's 20,000 steps on sets of four points in four dimensions. Its mean
# losses on 640 test sets beside the paper's:

# %%
from idspn_jax.studies import multiset_paper

pretrained = ij.load_pretrained('multisets_n4_d4')
names = {'Baseline': 'DSPN', 'iDSPN': 'iDSPN', 'iDSPN+mom': 'iDSPN + momentum'}
for n, d, inner, model, mean, std in multiset_paper.rows(5):
  if (n, d, inner) == (4, 4, 10):
    label = f'paper, {names[model]}, 10 steps, 1 start'
    print(f'{label:45}{mean:.1e} ± {std:.0e}')

sets = pretrained.data.examples(16 if QUICK else 640)['input']
for steps in [2] if QUICK else [10, 20]:
  for starts in [1] if QUICK else [1, 2, 4]:
    found = ij.predict(
      pretrained, {'input': sets}, iterations=steps, restarts=starts
    )
    loss = ij.hungarian_loss(jnp.asarray(found['sets']), jnp.asarray(sets))
    label = f'here, iDSPN + momentum, {steps} steps, {starts} starts'
    print(f'{label:45}{float(loss.mean()):.1e}')

# %%
from idspn_jax.figures import sets as set_figures

drawn = {
  t: ij.predict(pretrained, {'input': sets[:4]}, batch_size=4, iterations=t)[
    'sets'
  ]
  for t in ([2] if QUICK else [1, 2, 5, 10, 20])
}
set_figures.draw_random_sets(sets[:4], drawn, trained_with=10)

# %% [markdown]
# The first two of the four dimensions; grey lines join matched elements. How
# the exact and the approximate gradients compare is the subject of notebook
# 03. The same digits from the command line:
#
# ```sh
# python -m experiments.train --config=configs/own_sets.py \
#   --config.data.path=digits.npz --config.model.hidden_dim=128 \
#   --config.model.latent_dim=128 --config.steps=2000 \
#   --config.learning_rate=0.003 --config.cooldown=0.5 --workdir=runs/digits
# ```
