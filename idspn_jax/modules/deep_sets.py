"""Equivariant DeepSets, a set-equivariant baseline of Section 4.1."""

from flax import linen as nn
import jax
import jax.numpy as jnp

from idspn_jax.modules import linear
from idspn_jax.solvers import option_checks


class EquivariantLayer(nn.Module):
  """`A x_i + a + B mean_j(x_j) + b`.

  Attributes:
    features: output size.
  """

  features: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps sets `(B, N, D)` to `(B, N, features)`."""
    fan_in = x.shape[-1]
    own = linear.linear(self.features, fan_in, name='own')(x)
    mean = jnp.mean(x, axis=-2, keepdims=True)
    return own + linear.linear(self.features, fan_in, name='mean')(mean)


class EquivariantDeepSets(nn.Module):
  """Two equivariant layers with a ReLU between them.

  Attributes:
    hidden_dim: width of the hidden layer.
    features: output size per element.

  References:
    Zaheer et al.: Deep Sets. NeurIPS 2017.
  """

  hidden_dim: int
  features: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps sets `(B, N, D)` to logits `(B, N, features)`.

    Raises:
      ValueError: if a size is not a positive integer.
    """
    option_checks.integer('hidden_dim', self.hidden_dim, least=1)
    option_checks.integer('features', self.features, least=1)
    x = nn.relu(EquivariantLayer(self.hidden_dim, name='first')(x))
    return EquivariantLayer(self.features, name='second')(x)
