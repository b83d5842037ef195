"""The set decoder: iDSPN and DSPN in one module."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from idspn_jax.modules import set_encoders
from idspn_jax.solvers import decode as decode_lib
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import gradients
from idspn_jax.solvers import inner_step
from idspn_jax.solvers import per_set

INITIAL_SETS = ('learned', 'normal', 'zeros', 'given')


class SetDecoder(nn.Module):
  """Decodes vectors into multisets: `argmin_Y ‖g(Y) - z‖²` (Equation 7).

  With an implicit `gradient` this is iDSPN, with `Unrolled()` DSPN.

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
    regularizer: weight of the pull toward `Y_0`; 0.1 in Section 4.2.
    initial_set: 'learned' (one set, shared), 'normal' (fresh noise for every
      example, from the 'initial_set' random stream), 'zeros' or 'given'.
    initial_scale: standard deviation of a sampled or freshly learned `Y_0`.
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
  regularizer: float = 0.0
  initial_set: str = 'normal'
  initial_scale: float = 0.1

  def setup(self):
    if self.initial_set not in INITIAL_SETS:
      raise ValueError(
        f'initial_set is {self.initial_set!r}; choose one of {INITIAL_SETS}.'
      )
    if self.initial_set == 'learned':
      self.learned_set = self.param(
        'initial_set',
        nn.initializers.normal(self.initial_scale),
        (self.set_size, self.set_dim),
      )

  def _start(self, z, given):
    shape = (z.shape[0], self.set_size, self.set_dim)
    if given is not None:
      if given.shape not in (shape, shape[1:]):
        raise ValueError(
          f'The initial set needs shape {shape} or {shape[1:]}; got '
          f'{given.shape}.'
        )
      return jnp.broadcast_to(given.reshape((-1, *shape[1:])), shape)
    if self.initial_set == 'given':
      raise ValueError("initial_set='given' needs the argument initial_set.")
    if self.initial_set == 'learned':
      return jnp.broadcast_to(self.learned_set[None], shape)
    if self.initial_set == 'zeros':
      return jnp.zeros(shape, z.dtype)
    noise = jax.random.normal(self.make_rng('initial_set'), shape, z.dtype)
    return self.initial_scale * noise

  def solve(
    self,
    z: jax.Array,
    *,
    initial_set: jax.Array | None = None,
    known_features: jax.Array | None = None,
    known_elements: jax.Array | None = None,
    iterations: int | None = None,
    trajectory: bool = False,
  ) -> decode_lib.Decoded:
    """Decodes `z` and reports on the way; see `__call__` and `decode`."""
    inputs = energy_lib.Inputs(
      params=None,
      z=z,
      initial_set=self._start(z, initial_set),
      known_features=known_features,
      known_elements=known_elements,
    )
    encoder, variables = self.encoder.unbind()
    if self.is_initializing():
      # Creates the encoder's parameters, by way of the energy itself.
      bound = energy_lib.squared_distance(lambda _, y: self.encoder(y))
      bound(inputs, inputs.initial_set)
      encoder, variables = self.encoder.unbind()
    energy = energy_lib.squared_distance(set_encoders.encode_with(encoder))
    if self.regularizer:
      energy = energy_lib.regularized(energy, self.regularizer)
    return decode_lib.decode(
      energy,
      inputs._replace(params=variables['params']),
      iterations=self.iterations if iterations is None else iterations,
      optimizer=self.optimizer,
      gradient=self.gradient,
      grad_clip=self.grad_clip,
      projection=self.projection,
      project_initial_set=self.project_initial_set,
      tolerance=self.tolerance,
      trajectory=trajectory,
    )

  def __call__(self, z: jax.Array, **options) -> jax.Array:
    """Decodes latent vectors into sets.

    Args:
      z: latent vectors, `(B, Z)`.
      **options: `initial_set` `(B, N, D)` or `(N, D)`; `known_features`
        `(B, N, K)`; `known_elements` `(B, M, D)`; `iterations` instead of the
        module's.

    Returns:
      Sets, `(B, N, D)`.

    Raises:
      ValueError: if shapes or settings do not fit; names the remedy.
    """
    return self.solve(z, **options).set
