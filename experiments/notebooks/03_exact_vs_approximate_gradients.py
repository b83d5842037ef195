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
# # Exact against approximate gradients
#
# Training differentiates an argmin. The exact derivative solves a linear system
# with the Hessian of the energy; the paper's default leaves that system out.
# This notebook asks, on a problem that can be solved by hand and on a trained
# model: how good is the cheap gradient, and does "exact" mean anything there?

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
# %matplotlib inline
import json

import jax
import jax.numpy as jnp
import numpy as np

import idspn_jax as ij
from idspn_jax.figures import gradient_training as training_figures
from idspn_jax.figures import gradients as figures
from idspn_jax.runs import pretrained
from idspn_jax.studies import gradient_answers
from idspn_jax.studies import gradient_comparison
from idspn_jax.studies import gradient_problem
from idspn_jax.studies import gradient_quality
from idspn_jax.studies import gradient_report
from idspn_jax.studies import gradient_settings
from idspn_jax.studies import gradient_sweeps

stored = root / 'results/gradients'
sets = 8 if QUICK else 48

# %% [markdown]
# ## By hand
#
# For the energy $L(Y) = \tfrac12 y^\top P y - z^\top y$ the minimum is
# $y^* = P^{-1} z$, so that a loss $c^\top y^*$ has the gradient $P^{-1} c$ with
# respect to $z$. The exact modes give it; the Jacobian-free one gives $c$.

# %%
rng = np.random.default_rng(0)
q, _ = np.linalg.qr(rng.normal(size=(4, 4)))
p = q @ np.diag([0.5, 0.8, 1.2, 1.8]) @ q.T
z, c = rng.normal(size=(2, 5, 4))


def quadratic(inputs, y):
  flat = y.reshape(len(y), -1)
  bent = 0.5 * jnp.einsum('bi,ij,bj->b', flat, inputs.params, flat)
  return bent - jnp.sum(inputs.z * flat, axis=1)


def loss(y):
  return jnp.sum(y.reshape(c.shape) * c, axis=1)


modes = [
  s
  for s in gradient_settings.SETTINGS
  if s.mode in ('jacobian_free', 'neumann', 'dense', 'unrolled')
]
comparison = ij.compare_gradients(
  quadratic,
  ij.Inputs(p, z, jnp.zeros((5, 2, 2))),
  loss,
  optimizer=ij.GradientDescent(0.4, 0.5),
  settings=modes,
)
print(comparison.text())
by_hand = np.linalg.solve(p, c.T).T
found = np.asarray(comparison.reference.gradient.z)
print('largest difference to P⁻¹ c:', np.max(np.abs(found - by_hand)))
assert np.allclose(found, by_hand, rtol=1e-10)

# %% [markdown]
# Any energy goes in there: one function of `(inputs, y)` with one number per
# set.
#
# ## A trained autoencoder
#
# Four points in four dimensions, ReLU and FSPool. Its energy is piecewise
# quadratic, with kinks where two elements tie in a sorted feature or a ReLU
# switches. Many minima sit *on* a kink: there the gradient of the energy jumps
# over zero, and the implicit function theorem does not apply. These sets are
# counted and left out.

# %%
run = ij.load_pretrained('multisets_n4_d4')
problem, descent = gradient_problem.of_run(run, sets)
with jax.enable_x64(True):
  quality = gradient_quality.Quality(problem, descent, longest=200)
print(gradient_comparison.verdict(quality.reference.counts))
figures.draw_sets(
  gradient_report.set_rows(quality.reference), 'trained, ReLU and FSPool'
)

# %% [markdown]
# The Hessian's eigenvalues are close to one: training has made the inner
# problem easy for gradient steps of rate one. With $H \approx I$ the
# Jacobian-free $u = v$ is almost the exact $u = H^{-1} v$. What is far from
# exact is the set after T = 10 steps, which is not yet the minimum.

# %%
with jax.enable_x64(True):
  rows = gradient_comparison.mode_rows(quality, modes)
print(gradient_comparison.table(rows))
figures.draw_modes(rows, 'trained, ReLU and FSPool')

# %% [markdown]
# ## The dials
#
# At the minimum: small γ points along the exact gradient (and is γ times as
# long), large γ is Jacobian-free. Conjugate gradient and the Neumann series
# converge to exact, the latter only if its scale is below two over the largest
# eigenvalue.

# %%
gammas = (1e-2, 100.0) if QUICK else (1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1e3)
iterations = (1, 4) if QUICK else (1, 2, 3, 4, 6, 8, 12, 16)
terms = (0, 5) if QUICK else (0, 1, 2, 5, 10, 20, 50, 100)
scales = (1.0,) if QUICK else (0.3, 1.0, 1.5)
with jax.enable_x64(True):
  sweeps = (
    list(gradient_sweeps.over_gamma(quality, gammas)),
    list(gradient_sweeps.over_cg_iterations(quality, iterations)),
    list(gradient_sweeps.over_terms(quality, terms, scales)),
  )
figures.draw_sweeps(*sweeps, 'trained, ReLU and FSPool')

# %% [markdown]
# ## Inner steps
#
# Implicit gradients approach the exact one as the inner problem converges, up
# to a plateau: at a fixed rate some sets bounce between two sides of a kink on
# their way. Back-propagation through all these bounces (`Unrolled`) grows
# without bound.

# %%
steps = (1, 10) if QUICK else (1, 2, 5, 10, 20, 50, 100)
with jax.enable_x64(True):
  rows = list(gradient_sweeps.over_iterations(quality, steps))
figures.draw_iterations(
  rows,
  gradient_report.residual_rows(quality),
  descent.iterations,
  'trained, ReLU and FSPool',
)

# %% [markdown]
# ## Without kinks
#
# The same model with tanh and sum pooling, trained by the study: every set that
# has converged is regular, and what is left is the approximation alone.

# %%
smooth = pretrained.read(stored / 'trained_tanh_sum.npz', str(stored))
problem, descent = gradient_problem.of_run(smooth, sets)
with jax.enable_x64(True):
  quality = gradient_quality.Quality(problem, descent)
  rows = gradient_comparison.mode_rows(quality, modes)
print(gradient_comparison.verdict(quality.reference.counts))
print(gradient_comparison.table(rows))
figures.draw_modes(rows, 'trained, tanh and sum pooling')

# %% [markdown]
# ## Does it matter for training?
#
# From the stored study: the same start, every mode at its own best learning
# rate, three seeds. Times are those of a step on the study's machine, which was
# busy: only their ratios mean something.

# %%
curves = json.loads((stored / 'training.json').read_text('utf-8'))['rows']
own = [row for row in curves if row['model'] == 'relu_fs']
costs = json.loads((stored / 'compare.json').read_text('utf-8'))['cost']
seconds = gradient_answers.seconds_per_step(costs['relu_fs'])
training_figures.draw_training(own, seconds, 'ReLU and FSPool')

# %%
for row in own:
  losses = ', '.join(f'{value:.3g}' for value in row['test_loss'])
  print(f'{row["optimizer"]:5} {row["setting"]:26} test losses {losses}')
