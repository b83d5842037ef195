"""Energies `L(Y, z, θ)` that the decoder minimises over sets `Y`.

An energy is a pure function `energy(inputs, y)` that returns one number per
set. Everything that it can be differentiated with respect to is in `inputs`:
implicit differentiation reaches explicit arguments only, never arrays that an
energy closes over.

The factors are the official code's: `L = ½ mean_c (g(Y) - z)²`, where Equation
6 of the paper writes `‖g(Y) - z‖²`; the two differ by the factor `1 / (2 Z)`,
which the inner learning rate absorbs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Inputs(NamedTuple):
  """What an energy depends on besides the set itself.

  Attributes:
    params: parameters θ of the set encoder g, any pytree.
    z: latent vectors to match, `(B, Z)`.
    initial_set: `Y₀`, `(B, N, D)`, toward which `regularized` pulls.
    known_features: columns that are given, `(B, N, K)`, or None.
    known_elements: elements that are given, `(B, M, D)`, or None.
    fallbacks: zeros, `(B,)`, or None. No energy reads them; their gradient is
      1 for the sets whose linear solve failed and 0 for the others.
  """

  params: Any
  z: jax.Array
  initial_set: jax.Array
  known_features: jax.Array | None = None
  known_elements: jax.Array | None = None
  fallbacks: jax.Array | None = None


Encode = Callable[[Any, jax.Array], jax.Array]
Energy = Callable[[Inputs, jax.Array], jax.Array]


def squared_distance(encode: Encode) -> Energy:
  """The energy of Equation 6, `½ mean_c (g(Y)_c - z_c)²`.

  Known features of the inputs are appended to the columns of `Y` before it is
  encoded, known elements to its rows; neither is ever updated.

  Args:
    encode: the set encoder `g(params, sets)`, `(B, N, D)` to `(B, Z)`.

  Returns:
    An energy, `(B,)`.
  """

  def energy(inputs, y):
    if inputs.known_features is not None:
      y = jnp.concatenate([y, inputs.known_features], axis=-1)
    if inputs.known_elements is not None:
      y = jnp.concatenate([y, inputs.known_elements], axis=-2)
    encoded = encode(inputs.params, y)
    if encoded.shape != inputs.z.shape:
      raise ValueError(
        f'The set encoder returns shape {encoded.shape} but the latent '
        f'vectors have shape {inputs.z.shape}.'
      )
    return 0.5 * jnp.mean(jnp.square(encoded - inputs.z), axis=-1)

  return energy


def regularized(energy: Energy, weight: float = 0.1) -> Energy:
  """Adds `weight · ½ mean_{n,d} (Y - Y₀)²` to an energy (Section 3).

  It is the only way for a learned `Y₀` to receive a gradient when the argmin
  is differentiated implicitly.

  Args:
    energy: any energy.
    weight: 0.1 in the paper's Section 4.2.

  Returns:
    An energy, `(B,)`.
  """

  def with_regularizer(inputs, y):
    pull = jnp.mean(jnp.square(y - inputs.initial_set), axis=(-2, -1))
    return energy(inputs, y) + weight * 0.5 * pull

  return with_regularizer


def energy_gradient(energy: Energy) -> Callable[[Inputs, jax.Array], jax.Array]:
  """Returns `∇_Y L`, set by set, `(B, N, D)`."""
  gradient = jax.grad(lambda y, inputs: jnp.sum(energy(inputs, y)))
  return lambda inputs, y: gradient(y, inputs)
