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

from idspn_jax.ops import varying
from idspn_jax.solvers import option_checks


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


def regularized(
  energy: Energy, weight: float | Callable[[Inputs], jax.Array] = 0.1
) -> Energy:
  """Adds `weight · ½ mean_{n,d} (Y - Y₀)²` to an energy (Section 3).

  It is the only way for a learned `Y₀` to receive a gradient when the argmin
  is differentiated implicitly.

  Args:
    energy: any energy.
    weight: 0.1 in the paper's Section 4.2; or a function of the inputs, for
      a learned weight, for example `lambda inputs: inputs.params['weight']`.

  Returns:
    An energy, `(B,)`.

  Raises:
    ValueError: if the weight is negative, not finite, or traced.
  """
  if not callable(weight):
    option_checks.number('regularizer', weight, positive=False)

  def with_regularizer(inputs, y):
    w = weight(inputs) if callable(weight) else weight
    pull = jnp.mean(jnp.square(y - inputs.initial_set), axis=(-2, -1))
    return energy(inputs, y) + w * 0.5 * pull

  with_regularizer.unregularized = unregularized(energy)
  return with_regularizer


def unregularized(energy: Energy) -> Energy:
  """The energy without what `regularized` has added, or the energy itself."""
  return getattr(energy, 'unregularized', energy)


def checked(energy: Energy) -> Energy:
  """Wraps an energy so that a wrong result is refused when it is traced.

  Args:
    energy: any energy.

  Returns:
    The same energy.

  Raises:
    ValueError: from the energy returned, if the result is not one real number
      per set, or differs between devices where the inputs do not.
  """

  def with_checks(inputs, y):
    value = energy(inputs, y)
    shape, dtype = jnp.shape(value), jnp.result_type(value)
    if shape != y.shape[:1] or not jnp.issubdtype(dtype, jnp.floating):
      raise ValueError(
        f'An energy must return one real number per set, shape {y.shape[:1]}; '
        f'got shape {shape} of {dtype}. Sum or average over all axes but the '
        'first.'
      )
    if varying.vary_like(y, value) is not y:
      raise ValueError(
        'The energy varies over mesh axes of jax.shard_map that its inputs do '
        'not vary over; pass the arrays that it closes over in inputs.params.'
      )
    return value

  if hasattr(energy, 'unregularized'):
    with_checks.unregularized = energy.unregularized
  return with_checks


def energy_gradient(
  energy: Energy, *, with_energy: bool = False
) -> Callable[[Inputs, jax.Array], Any]:
  """Returns the function `∇_Y L` of `(inputs, y)`, set by set.

  Args:
    energy: any energy.
    with_energy: return the energies too.

  Returns:
    A function that returns `(B, N, D)`, or that and energies `(B,)`.
  """

  def total(y, inputs):
    energies = energy(inputs, y)
    return jnp.sum(energies), energies

  def gradient(inputs, y):
    g, energies = jax.grad(total, has_aux=True)(y, inputs)
    return (g, energies) if with_energy else g

  return gradient
