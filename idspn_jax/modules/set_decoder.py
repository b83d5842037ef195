"""The set decoder: iDSPN and DSPN in one module."""

import dataclasses
from typing import Any
import warnings

from flax import linen as nn
import jax
from jax import custom_derivatives
import jax.numpy as jnp

from idspn_jax.modules import pure_module
from idspn_jax.ops import batch_noise
from idspn_jax.solvers import decode as decode_lib
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step
from idspn_jax.solvers import option_checks
from idspn_jax.solvers import per_set
from idspn_jax.solvers import restarts as restarts_lib

INITIAL_SETS = ('learned', 'normal', 'zeros', 'given')
# What a call takes besides the latent vectors.
OPTIONS = (
  'initial_set',
  'known_features',
  'known_elements',
  'iterations',
  'fallbacks',
  'restarts',
)


@jax.custom_jvp
def _never_trained(initial_set):
  """The same array; warns where its derivative, always zero, is taken."""
  return initial_set


def _never_trained_jvp(primals, tangents):
  (initial_set,), (tangent,) = primals, tangents
  if isinstance(tangent, custom_derivatives.SymbolicZero):
    return initial_set, tangent
  warnings.warn(
    "initial_set='learned' gets no gradient from an implicit mode without a "
    'regularizer, and stays as it was drawn. Set regularizer=0.1, or '
    "gradient=Unrolled(), or take initial_set='zeros' or 'normal'.",
    stacklevel=2,
  )
  return initial_set, tangent


_never_trained.defjvp(_never_trained_jvp, symbolic_zeros=True)


class SetDecoder(nn.Module):
  """Decodes vectors into multisets: `argmin_Y ‖g(Y) - z‖²` (Equation 7).

  With an implicit `gradient` this is iDSPN, with `Unrolled()` DSPN.

  The encoder may be any Flax module, also one that shares submodules with
  others, and may read any collections; derivatives reach all of them. It must
  treat the sets of a batch each for itself and must not update a collection:
  BatchNorm takes its running averages. Random streams are drawn from once per
  `apply`: Dropout drops the same units in all inner steps, so that all of them
  minimise one energy.

  Attributes:
    encoder: the set encoder g, a module from `(B, N, D)` to `(B, Z)`.
    set_size: number of elements N.
    set_dim: features per element D (without known features).
    iterations: inner steps T.
    optimizer: the inner optimiser.
    gradient: how to differentiate the argmin.
    grad_clip: largest L2 norm of a set's inner gradient, or None.
    projection: maps sets to the feasible ones after each step, or None.
    project_initial_set: see `decode`.
    tolerance: see `decode`.
    regularizer: weight of the pull toward `Y_0`; 0.1 in Section 4.2. An array
      of shape `()`, for example `self.param(…)`, is differentiated too.
    initial_set: 'learned' (one set, shared), 'normal' (fresh noise for every
      example, from the 'initial_set' random stream), 'zeros' or 'given'.
      A learned set needs a regularizer or `Unrolled()`; otherwise it gets no
      gradient, and a warning says so when it is differentiated.
    initial_scale: standard deviation of a sampled or freshly learned `Y_0`.
    restarts: several starts for every set, of which the one of least energy is
      kept; None for one. The noise is drawn from the 'initial_set' random
      stream.
    axis_name: the axis of `jax.pmap` over which batches are divided, so that
      sampled sets are those of the whole batch; None elsewhere.
  """

  encoder: nn.Module
  set_size: int
  set_dim: int
  iterations: int = 10
  optimizer: inner_step.Optimizer = inner_step.GradientDescent()
  gradient: gradients.Gradient = gradients.JacobianFree()
  grad_clip: float | None = None
  projection: per_set.Projection | None = None
  project_initial_set: bool | None = None
  tolerance: float | None = None
  regularizer: float | jax.Array = 0.0
  initial_set: str = 'normal'
  initial_scale: float = 0.1
  restarts: restarts_lib.Restarts | None = None
  axis_name: str | None = None

  def setup(self):
    if not isinstance(self.encoder, nn.Module):
      raise ValueError(
        'encoder must be a flax.linen module such as SetEncoder(512, 512); got '
        f'{self.encoder!r}. For a plain function use idspn_jax.decode.'
      )
    if self.initial_set not in INITIAL_SETS:
      raise ValueError(
        f'initial_set is {self.initial_set!r}; choose one of {INITIAL_SETS}.'
      )
    option_checks.integer('set_size', self.set_size, least=1)
    option_checks.integer('set_dim', self.set_dim, least=1)
    self._initial_scale()
    if not self._regularizer_is_array():
      option_checks.number('regularizer', self.regularizer, positive=False)
    if self.initial_set == 'learned':
      self.learned_set = self.param(
        'initial_set',
        nn.initializers.normal(self.initial_scale),
        (self.set_size, self.set_dim),
      )

  def _regularizer_is_array(self):
    weight = self.regularizer
    if isinstance(weight, jax.Array) and weight.shape != ():
      raise ValueError(
        f'regularizer must be one number; got shape {weight.shape}.'
      )
    return isinstance(weight, jax.Array)

  def _start(self, z, given):
    shape = (z.shape[0], self.set_size, self.set_dim)
    if given is not None:
      given = jnp.asarray(given)
      if given.shape not in (shape, shape[1:]):
        raise ValueError(
          f'The initial set needs shape {shape} or {shape[1:]}; got '
          f'{given.shape}.'
        )
      return jnp.broadcast_to(given.reshape((-1, *shape[1:])), shape)
    if self.initial_set == 'given':
      raise ValueError("initial_set='given' needs the argument initial_set.")
    if self.initial_set == 'learned':
      learned = self.learned_set
      regularized = self._regularizer_is_array() or self.regularizer > 0
      if isinstance(self.gradient, gradients.Implicit) and not regularized:
        learned = _never_trained(learned)
      return jnp.broadcast_to(learned[None], shape)
    if self.initial_set == 'zeros':
      return jnp.zeros(shape, z.dtype)
    noise = batch_noise.normal_rows(
      self.make_rng('initial_set'), shape, z.dtype, self.axis_name
    )
    return self._initial_scale() * noise

  def _initial_scale(self):
    return option_checks.number(
      'initial_scale', self.initial_scale, positive=False
    )

  def _restarts(self, asked, given):
    """The restarts of a call, and their random key."""
    restarts = self.restarts if asked is None else asked
    one = restarts is not None and getattr(restarts, 'starts', 1) == 1
    # `make_rng` takes 'params', as of `init(key, z)`, in place of others.
    drawn = self.has_rng('initial_set') or self.has_rng('params')
    if restarts is None or one or not drawn:
      return restarts, None  # `decode` refuses several starts without a key.
    if self.initial_set == 'normal' and given is None:
      restarts = dataclasses.replace(
        restarts, scale=self.initial_scale, around_initial_set=False
      )
    return restarts, self.make_rng('initial_set')

  def _energy(self, encode):
    """The energy, with `(variables, regularizer)` as its parameters."""
    energy = energy_lib.squared_distance(lambda p, y: encode(p[0], y))
    if self._regularizer_is_array():
      return energy_lib.regularized(energy, lambda inputs: inputs.params[1])
    if self.regularizer > 0:
      return energy_lib.regularized(energy, self.regularizer)
    return energy

  def solve(
    self,
    z: jax.Array,
    *,
    initial_set: jax.Array | None = None,
    known_features: jax.Array | None = None,
    known_elements: jax.Array | None = None,
    iterations: int | None = None,
    trajectory: bool = False,
    fallbacks: jax.Array | None = None,
    restarts: restarts_lib.Restarts | None = None,
  ) -> decode_lib.Decoded:
    """Decodes `z` and reports on the way.

    Args:
      z: latent vectors, `(B, Z)`.
      initial_set: `Y_0`, `(B, N, D)` or `(N, D)`, instead of the module's.
      known_features: columns that are given, `(B, N, K)`.
      known_elements: elements that are given, `(B, M, D)`.
      iterations: T instead of the module's.
      trajectory: report all `Y_t`, their energies and residuals.
      fallbacks: zeros, `(B,)`; see `energy.Inputs`.
      restarts: instead of the module's.

    Returns:
      A `Decoded`.

    Raises:
      ValueError: if shapes or settings do not fit; names the remedy.
    """
    z = jnp.asarray(z)
    if z.ndim != 2:
      raise ValueError(f'Latent vectors need z of shape (B, Z); got {z.shape}.')
    inputs = energy_lib.Inputs(
      params=None,
      z=z,
      initial_set=self._start(z, initial_set),
      known_features=known_features,
      known_elements=known_elements,
      fallbacks=fallbacks,
    )
    if self.is_initializing():
      # Creates the encoder's parameters, by way of the energy itself.
      bound = energy_lib.squared_distance(lambda _, y: self.encoder(y))
      bound(inputs, inputs.initial_set)
    weight = self.regularizer if self._regularizer_is_array() else None
    restarts, key = self._restarts(restarts, initial_set)

    def decode(encode, variables):
      return decode_lib.decode(
        self._energy(encode),
        inputs._replace(params=(variables, weight)),
        iterations=self.iterations if iterations is None else iterations,
        optimizer=self.optimizer,
        gradient=self.gradient,
        grad_clip=self.grad_clip,
        projection=self.projection,
        project_initial_set=self.project_initial_set,
        tolerance=self.tolerance,
        trajectory=trajectory,
        restarts=restarts,
        key=key,
        axis_name=self.axis_name,
      )

    return pure_module.with_pure_module(self.encoder, decode)

  def __call__(
    self,
    z: jax.Array,
    *,
    initial_set: jax.Array | None = None,
    known_features: jax.Array | None = None,
    known_elements: jax.Array | None = None,
    iterations: int | None = None,
    fallbacks: jax.Array | None = None,
    restarts: restarts_lib.Restarts | None = None,
    **unknown: Any,
  ) -> jax.Array:
    """Decodes latent vectors into sets, `(B, Z)` to `(B, N, D)`.

    Args:
      z: latent vectors, `(B, Z)`.
      initial_set: see `solve`, as the next ones.
      known_features: columns that are given, `(B, N, K)`.
      known_elements: elements that are given, `(B, M, D)`.
      iterations: T instead of the module's.
      fallbacks: zeros, `(B,)`; see `energy.Inputs`.
      restarts: instead of the module's.
      **unknown: refused.

    Returns:
      Sets, `(B, N, D)`.

    Raises:
      ValueError: if shapes or settings do not fit, or an option is not known;
        names the remedy.
    """
    refuse_options(unknown)
    return self.solve(
      z,
      initial_set=initial_set,
      known_features=known_features,
      known_elements=known_elements,
      iterations=iterations,
      fallbacks=fallbacks,
      restarts=restarts,
    ).set


def refuse_options(options: dict[str, Any]) -> None:
  """Refuses options that a call returning sets alone does not have.

  Raises:
    ValueError: if there are any; points to the method that has `trajectory`.
  """
  if 'trajectory' in options:
    raise ValueError(
      'A call returns the sets alone; for the trajectory use '
      "apply(variables, z, trajectory=True, method='solve') of SetDecoder, or "
      "method='decode' of SetAutoencoder."
    )
  if options:
    raise ValueError(
      f'Unknown options {", ".join(sorted(options))}; known are '
      f'{", ".join(OPTIONS)}.'
    )
