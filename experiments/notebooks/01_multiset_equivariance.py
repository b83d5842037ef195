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
# # Multiset-equivariance
#
# Functions between multisets: what set-equivariance cannot do, and what the
# Jacobian of sorting can. Every claim of Section 2 and of Appendices A and B
# of [the paper](https://arxiv.org/abs/2111.12193) is executed, Propositions 1
# to 6 included.

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
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import idspn_jax as ij
from idspn_jax.metrics import equivariance
from idspn_jax.ops import cost_matrix

rng = np.random.default_rng(0)

# %% [markdown]
# ## `push_apart`, the example of the paper
#
# A multiset of numbers is stored as a list, in an arbitrary order. Equation 1
# moves the smaller of two numbers to the left and the larger one to the right.
# Swapping the inputs swaps the outputs, with one exception: if the inputs are
# equal, swapping them changes nothing, and the outputs differ all the same.


# %%
def push_apart(x):
  """Equation 1 for a batch of pairs, `(B, 2, 1)`."""
  a, b = x[:, :1], x[:, 1:]
  return np.where(
    a <= b, np.concatenate([a - 1, b + 1], 1), np.concatenate([a + 1, b - 1], 1)
  )


def pair(a, b):
  return np.array([[a], [b]], float)


for x in ([1, 2], [2, 1], [1, 1], [0, 0]):
  out = push_apart(pair(*x)[None])[0, :, 0]
  print(f'push_apart({x}) = {out.tolist()}')

# %%
figure, grid = plt.subplots(1, 3, figsize=(9, 2.2), layout='constrained')
for axes, x in zip(grid, ([1, 2], [2, 1], [1, 1])):
  out = push_apart(pair(*x)[None])[0, :, 0]
  for i, color in enumerate(('C0', 'C1')):
    axes.annotate(
      '',
      (out[i], 0.0),
      (x[i], 1.0),
      arrowprops={'arrowstyle': '->', 'color': color, 'shrinkA': 6},
    )
    axes.plot(x[i], 1.0, 'o', color=color, markersize=10 - 4 * i)
    axes.plot(out[i], 0.0, 's', color=color, markersize=7)
  axes.set(xlim=(-0.7, 3.7), ylim=(-0.4, 1.4), yticks=[0, 1])
  axes.set_yticklabels(['output', 'input'])
  axes.set_title(f'{x} → {out.astype(int).tolist()}', fontsize=10)
figure.suptitle('push_apart: blue is the first element, orange the second one')

# %% [markdown]
# ## Two definitions, as measurements
#
# - *Set-equivariant* (Definition 1): $f(PX) = P f(X)$ for every permutation.
# - *Multiset-equivariant* (Definition 2): for every $P_1$ there is a $P_2$ with
#   $P_1 X = P_2 X$ and $f(P_1 X) = P_2 f(X)$. Equal elements may swap their
#   outputs.
# - *Exclusively* multiset-equivariant: the second but not the first.
#
# `idspn_jax.metrics.equivariance` measures how far a function is from either,
# on a given multiset, over all permutations that it is told to try.


# %%
def laws(f, x):
  """Whether f satisfies Definitions 1 and 2 on the multiset x."""
  every = equivariance.all_permutations(len(x))
  return (
    equivariance.set_equivariance_error(f, x, every) < 1e-5,
    equivariance.multiset_equivariance_error(f, x, every) < 1e-5,
  )


for x in (pair(1, 2), pair(0, 0)):
  by_set, by_multiset = laws(push_apart, x)
  print(
    x[:, 0], 'set-equivariant:', by_set, ' multiset-equivariant:', by_multiset
  )

# %% [markdown]
# ## Table 1, measured
#
# Four functions of two numbers: a DeepSets layer; a function that looks at the
# position in the list; `push_apart`; and the set decoder of this library
# with FSPool, as a function of its initial set (Section 2.3), beside the same
# decoder with sum pooling. Each column is tested on 50 random pairs and on 50
# pairs of equal numbers. A law counts as satisfied if no pair violates it, and
# "separates" if some pair of equal numbers gets different outputs.


# %%
def deep_sets_layer(x):
  return np.tanh(1.3 * x + 0.2 - 0.7 * np.mean(x, axis=1, keepdims=True))


def first_is_special(x):
  return x + np.array([[1.0], [0.0]])


def decoder_of(pool, seed=0):
  """The decoder as a function of its initial set."""
  module = ij.SetDecoder(
    ij.SetEncoder(32, 16, pool=pool),
    set_size=2,
    set_dim=1,
    iterations=5,
    initial_set='given',
  )
  z = jax.random.normal(jax.random.key(seed), (1, 16))
  start = jnp.zeros((1, 2, 1))
  variables = module.init(jax.random.key(1), z, initial_set=start)

  @jax.jit
  def decode(x):
    own = jnp.broadcast_to(z, (len(x), 16))
    return module.apply(variables, own, initial_set=x)

  return lambda x: np.asarray(decode(jnp.asarray(x, jnp.float32)))


functions = {
  'DeepSets layer': deep_sets_layer,
  'set decoder, sum pooling': decoder_of('sum'),
  'function of the position': first_is_special,
  'push_apart': push_apart,
  'set decoder, FSPool (iDSPN)': decoder_of('fs'),
}
PAIRS = 5 if QUICK else 50
random_pairs = [rng.normal(size=(2, 1)) for _ in range(PAIRS)]
equal_pairs = [np.full((2, 1), rng.normal()) for _ in range(PAIRS)]


def mark(holds):
  return '✓' if holds else '✗'


table = {}
print(f'{"":30}set-equiv.  multiset-equiv.  order guaranteed  separates equals')
for name, f in functions.items():
  found = np.array([laws(f, x) for x in random_pairs + equal_pairs])
  by_set, by_multiset = found.all(0)
  swapped = all(laws(f, x)[0] for x in random_pairs)
  separates = any(np.ptp(f(x[None])) > 1e-4 for x in equal_pairs)
  table[name] = by_set, by_multiset, swapped, separates
  marks = [mark(value) for value in table[name]]
  print(f'{name:30}{marks[0]:12}{marks[1]:17}{marks[2]:18}{marks[3]}')

# %% [markdown]
# These are the three rows of Table 1: a set-equivariant function guarantees
# the order and cannot separate equal elements; a function without equivariance
# separates them and guarantees nothing; only an exclusively
# multiset-equivariant one does both. The decoder is set-equivariant with sum
# pooling and exclusively multiset-equivariant with FSPool.

# %%
assert table['DeepSets layer'] == (True, True, True, False)
assert table['set decoder, sum pooling'] == (True, True, True, False)
assert table['function of the position'] == (False, False, False, True)
assert table['push_apart'] == (False, True, True, True)
assert table['set decoder, FSPool (iDSPN)'] == (False, True, True, True)

# %% [markdown]
# ## The Jacobian of sorting (Appendix A)
#
# FSPool sorts every feature and takes a weighted sum. Its gradient carries the
# weights back by the transposed permutation, $S_X^\top$. With the weights
# $[-1, 1]$ this is `push_apart` without its input: $X + \nabla_X\,
# (\mathrm{sort}(X)\cdot[-1, 1])$.


# %%
def sorted_and_weighted(x):
  return jnp.sum(ij.fspool(x, jnp.array([[-1.0], [1.0]])))


for x in (pair(1, 2), pair(2, 1), pair(0, 0)):
  own = jnp.asarray(x, jnp.float32)
  moved = own + jax.grad(lambda x: sorted_and_weighted(x[None]))(own)
  jacobian = jax.jacrev(lambda x: jnp.sort(x[:, 0]))(own)[:, :, 0]
  np.testing.assert_array_equal(moved, push_apart(x[None])[0])
  print(x[:, 0], '→', moved[:, 0], '  Jacobian of sorting:', jacobian.tolist())

# %% [markdown]
# ## Propositions 1 and 2
#
# **Proposition 1.** If $P_1 X = P_2 X$, a set-equivariant $f$ has $P_1 f(X) =
# P_2 f(X)$: equal elements stay equal. All pairs of permutations of a multiset
# with two pairs of equal elements are tried, and `push_apart`'s relative, the
# Jacobian of sorting, is shown to violate it.
#
# **Proposition 2.** The Jacobian of sorting, $f(X) = S_X^\top$, is
# multiset-equivariant, by $P_2 = S_{P_1 X}^\top S_X$. The two conditions of
# the proof, $P_2 f(X) = f(P_1 X)$ and $P_2 X = P_1 X$, are checked for every
# $P_1$.


# %%
def jacobian_of_sorting(x):
  """`S_X`, `(N, N)`: `S_X x` is x in ascending order."""
  return np.eye(len(x))[np.argsort(x[:, 0], kind='stable')]


def violations_of_proposition_1(f, x):
  """Pairs of permutations with `P1 X = P2 X` but `P1 f(X) ≠ P2 f(X)`."""
  every = equivariance.all_permutations(len(x))
  out = f(x[None])[0]
  return sum(
    not np.allclose(out[p1], out[p2], atol=1e-5)
    for p1 in every
    for p2 in every
    if np.array_equal(x[p1], x[p2])
  )


two_pairs = np.array([[0.3], [-1.0], [0.3], [-1.0]])
deep_sets = violations_of_proposition_1(deep_sets_layer, two_pairs)
sorting = violations_of_proposition_1(
  lambda x: np.stack([jacobian_of_sorting(own).T for own in x]), two_pairs
)
print(f'violations: DeepSets layer {deep_sets}, Jacobian of sorting {sorting}')
assert deep_sets == 0 and sorting > 0

checked = 0
for _ in range(20):
  # Integers, so that many elements are equal.
  x = rng.integers(0, 3, (5, 1)).astype(float)
  s_x = jacobian_of_sorting(x)
  for p in equivariance.all_permutations(5):
    p1 = np.eye(5)[p]
    p2 = jacobian_of_sorting(p1 @ x).T @ s_x
    np.testing.assert_array_equal(p2 @ s_x.T, jacobian_of_sorting(p1 @ x).T)
    np.testing.assert_array_equal(p2 @ x, p1 @ x)
    checked += 1
print(f'Proposition 2: both conditions hold for {checked} pairs of X and P1')

# %% [markdown]
# ## Continuity on multisets (Appendix B)
#
# `push_apart` jumps as a function of lists, but not as a function of
# multisets. Between $[0, 0]$ and $[\epsilon, 0]$ the two lists of outputs are
# $4 + \epsilon$ apart, while the two multisets are only $\epsilon$ apart. The
# distance of multisets is that of the best matching: the Hungarian loss
# (Equation 20).


# %%
def multiset_distance(x, y):
  """Equation 20 with Euclidean distances, by the library's Hungarian loss."""
  mean = ij.hungarian_loss(
    jnp.asarray(x, jnp.float32),
    jnp.asarray(y, jnp.float32),
    cost=cost_matrix.l2_cost,
  )
  return float(mean) * len(x)


def list_distance(x, y):
  return float(np.sum(np.linalg.norm(x - y, axis=-1)))


steps = np.logspace(-3, 0.3, 12)
origin = push_apart(pair(0, 0)[None])[0]
moved = [push_apart(pair(step, 0)[None])[0] for step in steps]
as_lists = [list_distance(origin, out) for out in moved]
as_multisets = [multiset_distance(origin, out) for out in moved]
np.testing.assert_allclose(as_lists, 4 + steps, rtol=1e-5)
np.testing.assert_allclose(as_multisets, steps, rtol=1e-2)

figure, axes = plt.subplots(figsize=(5, 3.2), layout='constrained')
axes.loglog(steps, as_lists, 'o-', label='as lists: 4 + ε')
axes.loglog(steps, as_multisets, 's-', label='as multisets: ε')
axes.set(
  xlabel='ε', ylabel='distance of push_apart([0, 0])\nand push_apart([ε, 0])'
)
axes.grid(alpha=0.3)
axes.legend()

# %% [markdown]
# **Proposition 3.** The Jacobian of sorting is multiset-continuous: all
# permutation matrices are one multiset of rows, so the distance of any two
# values is 0.
#
# **Proposition 4.** The Hungarian loss with a metric between elements is a
# metric: zero only for equal multisets, symmetric, and with the triangle
# inequality.
#
# **Proposition 5.** It is at most the distance of the lists. So a function
# that is continuous for lists is multiset-continuous.

# %%
for _ in range(50):
  x, y = rng.normal(size=(2, 4, 1))
  assert (
    multiset_distance(jacobian_of_sorting(x).T, jacobian_of_sorting(y).T) == 0
  )
print('Proposition 3: distance 0 between the Jacobians of 50 random pairs')

triangle, symmetry = [], []
for _ in range(200):
  x, y, z = rng.normal(size=(3, 4, 2))
  xy, yx = multiset_distance(x, y), multiset_distance(y, x)
  detour = multiset_distance(x, z) + multiset_distance(z, y)
  triangle.append(detour - xy)
  symmetry.append(abs(xy - yx))
  assert xy > 0
  assert multiset_distance(x, x[rng.permutation(4)]) < 1e-6
  assert xy <= list_distance(x, y) + 1e-5  # Proposition 5.
assert max(symmetry) < 1e-5 and min(triangle) > -1e-5
print(
  f'Proposition 4: the detour by a third multiset costs at least '
  f'{min(triangle):.3f} more; differences by order below {max(symmetry):.0e}'
)

# Proposition 5 at work: a continuous function, nearer and nearer inputs.
x = rng.normal(size=(4, 1))
direction = rng.normal(size=(4, 1))
for size in (1e-1, 1e-2, 1e-3):
  y = x + size * direction
  out = deep_sets_layer(np.stack([x, y]))
  print(
    f'inputs {multiset_distance(x, y):.1e} apart: '
    f'outputs {multiset_distance(*out):.1e} as multisets, '
    f'{list_distance(*out):.1e} as lists'
  )

# %% [markdown]
# **Proposition 6.** An exclusively multiset-equivariant function separates the
# equal elements of some multiset. The proof says where to look: at a multiset
# on which the function is not set-equivariant. That multiset has equal
# elements, and the function separates them.


# %%
def separated(f, x):
  """Whether equal elements of x get different outputs."""
  out = f(x[None])[0]
  return any(
    np.array_equal(x[i], x[j]) and np.max(np.abs(out[i] - out[j])) > 1e-4
    for i in range(len(x))
    for j in range(i)
  )


decoder = functions['set decoder, FSPool (iDSPN)']
for name, f in (('push_apart', push_apart), ('set decoder, FSPool', decoder)):
  found = [x for x in random_pairs + equal_pairs if not laws(f, x)[0]]
  assert found and all(separated(f, x) for x in found)
  assert all(x[0] == x[1] for x in found)
  print(
    f'{name}: not set-equivariant on {len(found)} of {2 * PAIRS} multisets; '
    'all have equal elements, and all are separated'
  )
assert not any(separated(deep_sets_layer, x) for x in equal_pairs)

# %% [markdown]
# ## Continuity and equivariance together (Appendix B.3)
#
# What matters in practice are *similar* elements. Four functions, one for
# every combination of the two properties:
#
# - a DeepSets layer, continuous and set-equivariant;
# - the Jacobian of sorting, continuous on multisets and exclusively
#   multiset-equivariant;
# - the Jacobian of a sorting that *averages* over equal elements,
#   `sort2([1, 1]) = [[.5, .5], [.5, .5]] [1, 1]`: set-equivariant and
#   discontinuous. It separates similar elements, but without a guarantee: the
#   identity that adds 1 if all entries are different integers is another such
#   function, and never does;
# - the identity with a count appended to equal elements, `f([1, 1, 2, 2 + ε]) =
#   [(1, 0), (1, 1), (2, 0), (2 + ε, 0)]`: exclusively multiset-equivariant and
#   discontinuous. It separates equal elements and not similar ones.
#
# The picture shows how far apart two elements are in the output, against how
# far apart they are in the input.


# %%
def sorting_as_function(x):
  return np.stack([jacobian_of_sorting(own).T for own in x])


def averaging_sorting(x):
  """The doubly stochastic matrix that averages over equal elements."""
  out = []
  for own in x:
    _, kinds = np.unique(own[:, 0], return_inverse=True)
    same = (kinds[:, None] == kinds[None]).astype(float)
    mean = same / same.sum(1, keepdims=True)
    out.append((jacobian_of_sorting(own) @ mean).T)
  return np.stack(out)


def next_integer(x):
  whole = [
    np.all(own == np.round(own)) and len(np.unique(own)) == len(own)
    for own in x
  ]
  return x + np.array(whole)[:, None, None]


def with_count(x):
  counts = [
    [np.sum(own[:i, 0] == own[i, 0]) for i in range(len(own))] for own in x
  ]
  return np.concatenate([x, np.array(counts, float)[..., None]], axis=-1)


combinations = {
  'DeepSets layer': deep_sets_layer,
  'Jacobian of sorting': sorting_as_function,
  'Jacobian of averaging sort': averaging_sorting,
  'identity, +1 for integers': next_integer,
  'identity with a count': with_count,
}
gaps = np.array([0.0, *np.logspace(-4, 0, 9)])
figure, axes = plt.subplots(figsize=(7, 3.6), layout='constrained')
for (name, f), marker in zip(combinations.items(), 'osvD^'):
  apart = []
  for gap in gaps:
    out = f(pair(2.5, 2.5 + gap)[None])[0]
    apart.append(np.linalg.norm(out[0] - out[1]))
  axes.plot(
    np.arange(len(gaps)), np.maximum(apart, 1e-5), marker + '-', label=name
  )
axes.set_yscale('log')
axes.set_xticks(
  np.arange(len(gaps)), ['0', *(f'{gap:.0e}' for gap in gaps[1:])], fontsize=7
)
axes.set(
  xlabel='distance of the two inputs',
  ylabel='distance of the outputs\n(0 at the bottom)',
)
axes.grid(alpha=0.3)
figure.legend(loc='outside right upper', frameon=False, fontsize=8)

# %% [markdown]
# The same as a table, measured: set-equivariance on `[2.5, 2.5]`; a jump is
# the distance of the output multisets where the input multisets are $10^{-6}$
# apart, the largest over three places where these functions change.

# %%
print(f'{"":28}set-equiv.  jump      separates equals  separates similar')
for name, f in combinations.items():
  jump = 0.0
  for x in (pair(2.5, 2.5), pair(1, 2), pair(0.2, 0.9)):
    out, near = f(np.stack([x, x + np.array([[0.0], [1e-6]])]))
    jump = max(jump, multiset_distance(out, near))
  by_set, by_multiset = laws(f, pair(2.5, 2.5))
  assert by_multiset
  equal, similar = (
    np.linalg.norm(np.subtract(*f(pair(2.5, 2.5 + gap)[None])[0])) > 0.1
    for gap in (0.0, 1e-6)
  )
  print(
    f'{name:28}{mark(by_set):12}{jump:<10.1g}{mark(equal):18}{mark(similar)}'
  )

# %% [markdown]
# Only the Jacobian of sorting has no jump and separates both equal and similar
# elements: the combination that FSPool brings into the decoder.
#
# ## What it is good for: numbering the elements of each class (Section 4.1)
#
# From `[a, a, b, b, b]` to `[(a, 0), (a, 1), (b, 0), (b, 1), (b, 2)]`: equal
# inputs need different outputs. A small version of the paper's task, sets of
# five elements of two classes, takes about a minute; the model sees new sets
# in every step.

# %%
import tempfile

from configs import class_numbering
from idspn_jax.studies import numbering

workdir = tempfile.mkdtemp()
models = ('idspn',) if QUICK else ('deep_sets', 'transformer', 'idspn')
runs = {}
print(f'{"":14}{"all five right":18}{"set-equiv.":12}multiset-equiv.')
for name in models:
  config = class_numbering.get_config(
    f'setting=reduced,model={name},n=5,classes=2,samples=0,T=10'
  )
  config.steps = 5 if QUICK else 1000
  config.eval_every = config.checkpoint_every = config.steps
  config.data.num_validation, config.data.num_test = 640, 640
  result = ij.train_and_evaluate(config, f'{workdir}/{name}')
  run = runs[name] = ij.load_run(f'{workdir}/{name}')
  found = numbering.equivariance(
    run.task, run.variables, run.data, jax.random.key(0)
  )
  print(
    f'{name:14}{result["metrics"]["set_accuracy"]:<18.1%}'
    f'{mark(found["set"]["holds"]):12}{mark(found["multiset"]["holds"])}'
  )

# %%
classes = np.array([[0, 0, 1, 1, 1]], np.int32)
for name, run in runs.items():
  numbers = ij.predict(run, {'classes': classes}, batch_size=1)['numbers'][0]
  labels = [f'({"ab"[c]}, {n})' for c, n in zip(classes[0], numbers)]
  print(f'{name:14}[a, a, b, b, b] → {", ".join(labels)}')

# %% [markdown]
# The set-equivariant models give all elements of a class the same number, as
# they must. The same on a large scale, the poster's table: sets of 64 elements
# of four classes, accuracy in percent of the paper's six seeds, by the number
# of training sets.

# %%
from idspn_jax.studies import numbering_tables

rows = {}
for cell in numbering_tables.read_cells(2, class_numbering.get_config):
  rows.setdefault(cell.row, []).append(f'{cell.mean:.1f} ± {cell.std:.1f}')
print(f'{"paper":30}{"640":14}{"6,400":14}64,000')
for row, values in rows.items():
  print(f'{row:30}' + ''.join(f'{value:14}' for value in values))

# %% [markdown]
# `python -m experiments.reproduce --table=2 --setting=reduced --cells='*/640'`
# trains all seven models in a setting for two CPU cores; what was measured so
# far is on the results page of the documentation.
