"""Entropy-regularised optimal transport by ott-jax, for a batch of problems."""

import functools
import warnings

import jax
import jax.numpy as jnp

from idspn_jax.ops import varying


@functools.cache
def _ott():
  """ott-jax's modules, imported at the first call because that is slow."""
  with warnings.catch_warnings():
    # ott-jax imports jaxopt, which warns whenever it is imported.
    warnings.filterwarnings('ignore', 'JAXopt', DeprecationWarning)
    from ott.geometry import geometry
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn
  return geometry, linear_problem, sinkhorn


@functools.cache
def _solver_class():
  """ott-jax's solver, with a loop state that suits `jax.shard_map`.

  The state starts from arrays made inside, which vary over no mesh axis; here
  they vary as the problem does. The computation is the same.
  """
  _, _, sinkhorn = _ott()

  @jax.tree_util.register_pytree_node_class
  class Solver(sinkhorn.Sinkhorn):
    """`ott.solvers.linear.sinkhorn.Sinkhorn` for use inside shard_map."""

    def init_state(self, ot_prob, init):
      return varying.vary_like(super().init_state(ot_prob, init), ot_prob)

    def one_iteration(self, ot_prob, state, iteration, compute_error):
      state = self.lse_step(ot_prob, state, iteration)
      no_error = jnp.array(jnp.inf, ot_prob.dtype)
      error = jax.lax.cond(
        (iteration == self.max_iterations - 1)
        | (compute_error & (iteration >= self.min_iterations)),
        lambda state: state.solution_error(
          ot_prob,
          self.norm_error,
          lse_mode=True,
          parallel_dual_updates=self.parallel_dual_updates,
          recenter=self.recenter_potentials,
        )[0],
        lambda _: varying.vary_like(no_error, state),
        state,
      )
      at = iteration // self.inner_iterations
      return state.set(errors=state.errors.at[at, :].set(error))

  return Solver


def transport_plans(
  cost: jax.Array,
  row_mass: jax.Array,
  column_mass: jax.Array,
  *,
  epsilon: float,
  max_iterations: int,
) -> jax.Array:
  """Finds the entropy-regularised transport plan of every problem.

  Args:
    cost: finite, `(B, N, M)`.
    row_mass: mass of every row, `(B, N)`; sums to 1 over a problem.
    column_mass: mass of every column, `(B, M)`, likewise.
    epsilon: strength of the entropy term, in units of the cost.
    max_iterations: most Sinkhorn iterations.

  Returns:
    Plans, `(B, N, M)`; not meant to be differentiated.
  """
  geometry, linear_problem, _ = _ott()
  solver = _solver_class()(max_iterations=max_iterations)

  def one(cost, a, b):
    geom = geometry.Geometry(cost_matrix=cost, epsilon=epsilon)
    return solver(linear_problem.LinearProblem(geom, a=a, b=b)).matrix

  a, b = varying.vary_like((row_mass, column_mass), cost)
  return jax.vmap(one)(cost, a, b)
