"""Set prediction by implicit differentiation of deep set prediction networks.

The decoder of "Multiset-Equivariant Set Prediction with Approximate Implicit
Differentiation" (ICLR 2022): turn a vector into a multiset by minimising an
energy over a permutation-invariant set encoder, and train through that argmin.

The names below load on first use, so that `import idspn_jax` costs nothing.
"""

import importlib
from typing import Any

__version__ = '0.1.0'

_HOMES = {
  'ConjugateGradient': 'idspn_jax.solvers.gradients',
  'Dense': 'idspn_jax.solvers.gradients',
  'FSPool': 'idspn_jax.modules.set_encoders',
  'GMRES': 'idspn_jax.solvers.gradients',
  'GradientDescent': 'idspn_jax.solvers.inner_step',
  'Inputs': 'idspn_jax.solvers.energy',
  'JacobianFree': 'idspn_jax.solvers.gradients',
  'Neumann': 'idspn_jax.solvers.gradients',
  'NormalConjugateGradient': 'idspn_jax.solvers.gradients',
  'OptaxOptimizer': 'idspn_jax.solvers.inner_step',
  'RegularizedConjugateGradient': 'idspn_jax.solvers.gradients',
  'SetAutoencoder': 'idspn_jax.modules.autoencoder',
  'SetDecoder': 'idspn_jax.modules.set_decoder',
  'SetEncoder': 'idspn_jax.modules.set_encoders',
  'Unrolled': 'idspn_jax.solvers.gradients',
  'chamfer_loss': 'idspn_jax.losses.set_losses',
  'decode': 'idspn_jax.solvers.decode',
  'fspool': 'idspn_jax.ops.fspool',
  'hungarian_loss': 'idspn_jax.losses.set_losses',
  'project_simplex': 'idspn_jax.ops.simplex',
  'regularized': 'idspn_jax.solvers.energy',
  'sinkhorn_loss': 'idspn_jax.losses.set_losses',
  'squared_distance': 'idspn_jax.solvers.energy',
}

__all__ = ['__version__', *_HOMES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  value = getattr(importlib.import_module(_HOMES[name]), name)
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
