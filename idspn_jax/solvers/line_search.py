"""Gradient descent whose step sizes a backtracking line search chooses."""

import jax
import jax.numpy as jnp

from idspn_jax.ops import varying
from idspn_jax.solvers import energy as energy_lib
from idspn_jax.solvers import per_set

_SUFFICIENT_DECREASE = 1e-4
_INCREASE_FACTOR = 1.5


def make_step(
  energy: energy_lib.Energy,
  learning_rate: float,
  max_steps: int,
  decrease_factor: float,
) -> per_set.Step:
  """Builds the step `Y - s ∇L` with `L(Y - s ∇L) ≤ L(Y) - 1e-4 s ‖∇L‖²`.

  Each set's search starts at 1.5 times its last step size, at most at the
  learning rate. Where the smallest step size still does not satisfy the
  condition it is taken all the same, and where the energy there is not finite
  the set stays put.

  Args:
    energy: what to minimise.
    learning_rate: largest step size, and the first to try.
    max_steps: most times that it is decreased.
    decrease_factor: by how much, between 0 and 1.

  Returns:
    A `Step` whose state is every set's last step size, `(B,)`.

  References:
    Nocedal, Wright: Numerical Optimization, Section 3.1. Springer 1999.
  """
  gradient = energy_lib.energy_gradient(energy, with_energy=True)

  def init(inputs, y):
    del inputs
    return jnp.full(y.shape[:1], learning_rate, y.dtype)

  def update(inputs, y, rate):
    g, value = gradient(inputs, y)
    slope = jnp.sum(jnp.square(g), axis=(-2, -1))

    def searching(carry):
      tries, _, excess = carry
      return (tries <= max_steps) & jnp.any(excess > 0)

    def search(carry):
      tries, rate, excess = carry
      active = excess > 0
      factor = jnp.where(tries > 0, decrease_factor, 1.0)
      rate = jnp.where(active, factor.astype(rate.dtype) * rate, rate)
      new = energy(inputs, y - rate[:, None, None] * g)
      here = new - value + _SUFFICIENT_DECREASE * rate * slope
      here = jnp.where(jnp.isnan(here), jnp.inf, here).astype(excess.dtype)
      return tries + 1, rate, jnp.where(active, here, excess)

    rate = jnp.minimum(_INCREASE_FACTOR * rate, learning_rate)
    start = varying.vary_like((rate, jnp.full_like(value, jnp.inf)), y)
    _, rate, excess = jax.lax.while_loop(searching, search, (0, *start))
    taken = jnp.where(jnp.isinf(excess), 0.0, rate)
    return y - taken[:, None, None] * g, rate

  return per_set.Step(init, update)
