"""Set prediction by implicit differentiation of deep set prediction networks.

The decoder of "Multiset-Equivariant Set Prediction with Approximate Implicit
Differentiation" (ICLR 2022): turn a vector into a multiset by minimising an
energy over a permutation-invariant set encoder, and train through that argmin.

The names below load on first use, so that `import idspn_jax` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = '0.1.0'

_HOMES = {
  'ArrayData': 'idspn_jax.tasks.data',
  'AveragePrecision': 'idspn_jax.metrics.average_precision',
  'BacktrackingLineSearch': 'idspn_jax.solvers.inner_step',
  'ConjugateGradient': 'idspn_jax.solvers.gradients',
  'Data': 'idspn_jax.tasks.data',
  'Decoded': 'idspn_jax.solvers.decode',
  'Dense': 'idspn_jax.solvers.gradients',
  'Experiment': 'idspn_jax.tasks.task',
  'FSPool': 'idspn_jax.modules.set_encoders',
  'GMRES': 'idspn_jax.solvers.gradients',
  'GradientDescent': 'idspn_jax.solvers.inner_step',
  'ImageEncoder': 'idspn_jax.modules.image_encoder',
  'Inputs': 'idspn_jax.solvers.energy',
  'JacobianFree': 'idspn_jax.solvers.gradients',
  'LossOutput': 'idspn_jax.tasks.task',
  'Matching': 'idspn_jax.ops.assignment',
  'Neumann': 'idspn_jax.solvers.gradients',
  'NormalConjugateGradient': 'idspn_jax.solvers.gradients',
  'OptaxOptimizer': 'idspn_jax.solvers.inner_step',
  'ProjectedGradient': 'idspn_jax.solvers.projected_gradient',
  'RegularizedConjugateGradient': 'idspn_jax.solvers.gradients',
  'SetAutoencoder': 'idspn_jax.modules.autoencoder',
  'SetPredictor': 'idspn_jax.modules.set_predictor',
  'Restarts': 'idspn_jax.solvers.restarts',
  'SetDecoder': 'idspn_jax.modules.set_decoder',
  'SetEncoder': 'idspn_jax.modules.set_encoders',
  'SlotAttention': 'idspn_jax.modules.slot_attention',
  'SlotAttentionPredictor': 'idspn_jax.modules.slot_predictors',
  'SlotMLPPredictor': 'idspn_jax.modules.slot_predictors',
  'Task': 'idspn_jax.tasks.task',
  'Unrolled': 'idspn_jax.solvers.gradients',
  'chamfer_loss': 'idspn_jax.losses.set_losses',
  'compare_gradients': 'idspn_jax.studies.gradient_comparison',
  'decode': 'idspn_jax.solvers.decode',
  'default_config': 'idspn_jax.runs.config',
  'evaluate_at': 'idspn_jax.studies.evaluations',
  'fspool': 'idspn_jax.ops.fspool',
  'hungarian_loss': 'idspn_jax.losses.set_losses',
  'load_pretrained': 'idspn_jax.runs.pretrained',
  'load_run': 'idspn_jax.runs.loading',
  'match': 'idspn_jax.ops.assignment',
  'predict': 'idspn_jax.studies.predictions',
  'project_simplex': 'idspn_jax.ops.simplex',
  'project_simplex_straight_through': 'idspn_jax.ops.simplex',
  'register_task': 'idspn_jax.tasks.registry',
  'regularized': 'idspn_jax.solvers.energy',
  'rescale_coordinates': 'idspn_jax.modules.slot_predictors',
  'scene_scores': 'idspn_jax.metrics.scene_scores',
  'sinkhorn_loss': 'idspn_jax.losses.set_losses',
  'squared_distance': 'idspn_jax.solvers.energy',
  'train_and_evaluate': 'idspn_jax.training.loop',
  'train_seeds': 'idspn_jax.training.loop',
  'with_presence': 'idspn_jax.data.set_files',
}

__all__ = ['__version__', *_HOMES]  # noqa: PLE0604

# The same names for type checkers, which read no table.
if TYPE_CHECKING:
  from idspn_jax.data.set_files import with_presence as with_presence
  from idspn_jax.losses.set_losses import chamfer_loss as chamfer_loss
  from idspn_jax.losses.set_losses import hungarian_loss as hungarian_loss
  from idspn_jax.losses.set_losses import sinkhorn_loss as sinkhorn_loss
  from idspn_jax.metrics.average_precision import (
    AveragePrecision as AveragePrecision,
  )
  from idspn_jax.metrics.scene_scores import scene_scores as scene_scores
  from idspn_jax.modules.autoencoder import SetAutoencoder as SetAutoencoder
  from idspn_jax.modules.image_encoder import ImageEncoder as ImageEncoder
  from idspn_jax.modules.set_decoder import SetDecoder as SetDecoder
  from idspn_jax.modules.set_encoders import FSPool as FSPool
  from idspn_jax.modules.set_encoders import SetEncoder as SetEncoder
  from idspn_jax.modules.set_predictor import SetPredictor as SetPredictor
  from idspn_jax.modules.slot_attention import SlotAttention as SlotAttention
  from idspn_jax.modules.slot_predictors import (
    SlotAttentionPredictor as SlotAttentionPredictor,
  )
  from idspn_jax.modules.slot_predictors import (
    SlotMLPPredictor as SlotMLPPredictor,
  )
  from idspn_jax.modules.slot_predictors import (
    rescale_coordinates as rescale_coordinates,
  )
  from idspn_jax.ops.assignment import Matching as Matching
  from idspn_jax.ops.assignment import match as match
  from idspn_jax.ops.fspool import fspool as fspool
  from idspn_jax.ops.simplex import project_simplex as project_simplex
  from idspn_jax.ops.simplex import (
    project_simplex_straight_through as project_simplex_straight_through,
  )
  from idspn_jax.runs.config import default_config as default_config
  from idspn_jax.runs.loading import load_run as load_run
  from idspn_jax.runs.pretrained import load_pretrained as load_pretrained
  from idspn_jax.solvers.decode import Decoded as Decoded
  from idspn_jax.solvers.decode import decode as decode
  from idspn_jax.solvers.energy import Inputs as Inputs
  from idspn_jax.solvers.energy import regularized as regularized
  from idspn_jax.solvers.energy import squared_distance as squared_distance
  from idspn_jax.solvers.gradients import GMRES as GMRES
  from idspn_jax.solvers.gradients import ConjugateGradient as ConjugateGradient
  from idspn_jax.solvers.gradients import Dense as Dense
  from idspn_jax.solvers.gradients import JacobianFree as JacobianFree
  from idspn_jax.solvers.gradients import Neumann as Neumann
  from idspn_jax.solvers.gradients import (
    NormalConjugateGradient as NormalConjugateGradient,
  )
  from idspn_jax.solvers.gradients import (
    RegularizedConjugateGradient as RegularizedConjugateGradient,
  )
  from idspn_jax.solvers.gradients import Unrolled as Unrolled
  from idspn_jax.solvers.inner_step import (
    BacktrackingLineSearch as BacktrackingLineSearch,
  )
  from idspn_jax.solvers.inner_step import GradientDescent as GradientDescent
  from idspn_jax.solvers.inner_step import OptaxOptimizer as OptaxOptimizer
  from idspn_jax.solvers.projected_gradient import (
    ProjectedGradient as ProjectedGradient,
  )
  from idspn_jax.solvers.restarts import Restarts as Restarts
  from idspn_jax.studies.evaluations import evaluate_at as evaluate_at
  from idspn_jax.studies.gradient_comparison import (
    compare_gradients as compare_gradients,
  )
  from idspn_jax.studies.predictions import predict as predict
  from idspn_jax.tasks.data import ArrayData as ArrayData
  from idspn_jax.tasks.data import Data as Data
  from idspn_jax.tasks.registry import register_task as register_task
  from idspn_jax.tasks.task import Experiment as Experiment
  from idspn_jax.tasks.task import LossOutput as LossOutput
  from idspn_jax.tasks.task import Task as Task
  from idspn_jax.training.loop import train_and_evaluate as train_and_evaluate
  from idspn_jax.training.loop import train_seeds as train_seeds
else:

  def __getattr__(name):
    if name not in _HOMES:
      raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
