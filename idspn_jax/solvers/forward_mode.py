"""A clear refusal of forward-mode differentiation.

An implicit derivative is defined for reverse mode. JAX refuses forward mode
through it only once the program of the tangents is evaluated, with a message
about `custom_vjp`. Reverse mode builds the same program and transposes it. The
refusal is therefore an operation of that program: its transpose is the
identity, its evaluation raises. It changes no value and no reverse-mode
derivative, and raises only where `custom_vjp` itself would. (`jax.jacfwd` of a
function under `jax.jit` still ends in JAX's own message.)
"""

from collections.abc import Callable
import contextlib
import functools
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero
from jax.extend import core
from jax.interpreters import ad
from jax.interpreters import batching
from jax.interpreters import mlir

_reverse_only_p = core.Primitive('reverse_only')
_reverse_only_p.multiple_results = True


def _refuse(*_, mode):
  raise TypeError(
    f'gradient={mode} supports reverse-mode differentiation only (jax.grad, '
    'jax.vjp, jax.jacrev, also of one another), not forward mode (jax.jvp, '
    'jax.jacfwd, jax.linearize, jax.hessian). Use reverse mode, for a Hessian '
    'jax.jacrev(jax.grad(f)), or gradient=Unrolled().'
  )


def _transpose(cotangents, *tangents, mode):
  del mode
  return [
    ct if ad.is_undefined_primal(t) else None
    for ct, t in zip(cotangents, tangents, strict=True)
  ]


def _batch(tangents, axes, *, mode):
  return _reverse_only_p.bind(*tangents, mode=mode), axes


_reverse_only_p.def_impl(_refuse)
_reverse_only_p.def_abstract_eval(lambda *tangents, mode: tangents)
ad.primitive_jvps[_reverse_only_p] = _refuse
ad.primitive_transposes[_reverse_only_p] = _transpose
batching.primitive_batchers[_reverse_only_p] = _batch
mlir.register_lowering(_reverse_only_p, _refuse, cacheable=False)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _mark(mode, *leaves):
  del mode
  return leaves


def _mark_jvp(mode, leaves, tangents):
  live = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]
  marked = _reverse_only_p.bind(*(tangents[i] for i in live), mode=mode)
  tangents = list(tangents)
  for i, tangent in zip(live, marked, strict=True):
    tangents[i] = tangent
  return leaves, tuple(tangents)


_mark.defjvp(_mark_jvp, symbolic_zeros=True)


@contextlib.contextmanager
def _translated(mode):
  """Replaces JAX's message where it comes first, under `vmap` of `jvp`."""
  try:
    yield
  except TypeError as e:
    if 'custom_vjp' not in str(e):
      raise
    _refuse(mode=mode)


def call_reverse_only(mode: str, fn: Callable[..., Any], *args) -> Any:
  """Calls a function whose forward-mode derivatives raise TypeError.

  Args:
    mode: the gradient mode, for the message.
    fn: a function with a custom reverse-mode derivative.
    *args: pytrees of arrays.

  Returns:
    `fn(*args)`; its reverse-mode derivatives are unchanged.
  """
  leaves, structure = jax.tree.flatten(args)
  with _translated(mode):
    return fn(*jax.tree.unflatten(structure, _mark(mode, *leaves)))
