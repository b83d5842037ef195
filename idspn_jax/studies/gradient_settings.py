"""Which gradient modes the study compares, with which options."""

from collections.abc import Mapping
import dataclasses
import types
from typing import Any, NamedTuple

import ml_collections

from idspn_jax.solvers import gradients


class Setting(NamedTuple):
  """A gradient mode with options.

  Attributes:
    label: what tables and figures call it.
    mode: a key of `gradients.MODES`.
    options: of the mode.
  """

  label: str
  mode: str
  options: Mapping[str, Any] = types.MappingProxyType({})

  def build(self, **more: Any) -> gradients.Gradient:
    """The mode; further options replace the setting's own."""
    return gradients.gradient_mode(self.mode, **{**self.options, **more})


def setting_of(mode: Setting | gradients.Gradient) -> Setting:
  """The setting of a mode, called by its name and the options given to it.

  Args:
    mode: a mode of the library, or a setting, which is returned as it is.

  Raises:
    ValueError: if it is anything else.
  """
  if isinstance(mode, Setting):
    return mode
  names = {kind: name for name, kind in gradients.MODES.items()}
  name = names.get(type(mode))
  if name is None:
    raise ValueError(
      'settings must be gradient modes such as idspn_jax.Dense(); got '
      f'{mode!r}.'
    )
  options = {
    field.name: getattr(mode, field.name)
    for field in dataclasses.fields(mode)
    if getattr(mode, field.name) != field.default
  }
  given = ', '.join(f'{key}={value!r}' for key, value in options.items())
  return Setting(f'{type(mode).__name__}({given})', name, options)


# One of every kind. γ is in units of the Hessian's eigenvalues.
SETTINGS = (
  Setting('Jacobian-free', 'jacobian_free'),
  Setting('Neumann, 5 terms', 'neumann', {'terms': 5}),
  Setting('Neumann, 50 terms', 'neumann', {'terms': 50}),
  Setting('Regularised CG, γ = 100', 'regularized_cg', {'gamma': 100.0}),
  Setting(
    'Regularised CG, γ = 0.01',
    'regularized_cg',
    {'gamma': 0.01, 'iterations': 10},
  ),
  Setting('CG, 20 steps', 'cg', {'iterations': 20}),
  Setting('Normal CG, 20 steps', 'normal_cg', {'iterations': 20}),
  Setting('GMRES, 1 × 20 steps', 'gmres', {'iterations': 1}),
  Setting('Dense', 'dense'),
  Setting('Unrolled', 'unrolled'),
)


def with_setting(
  config: ml_collections.ConfigDict,
  setting: Setting,
  iterations: int | None = None,
) -> ml_collections.ConfigDict:
  """A copy of a task's config under another gradient mode.

  Args:
    config: of a task with a set decoder.
    setting: the mode.
    iterations: inner steps; None for the config's.
  """
  own = ml_collections.ConfigDict(config.to_dict())
  own.model.gradient = setting.mode
  for name in own.model.gradient_options:
    own.model.gradient_options[name] = setting.options.get(name)
  if iterations is not None:
    own.model.iterations = iterations
  return own
