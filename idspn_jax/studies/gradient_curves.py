"""Training curves of all gradient modes, kept in one file as they are made."""

from collections.abc import Callable, Mapping, Sequence
import json
import os
from typing import Any

import ml_collections

from idspn_jax import errors
from idspn_jax.runs import config as config_lib
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.runs import pretrained
from idspn_jax.runs import provenance
from idspn_jax.studies import gradient_settings
from idspn_jax.studies import gradient_training
from idspn_jax.tasks import registry

FILE = 'training.json'


def trained_path(directory: str, model: str) -> str:
  """Where the trained variables of a model are kept."""
  return os.path.join(directory, f'trained_{model}.npz')


def read(directory: str) -> dict[str, Any] | None:
  """Reads the file of an earlier call of `train`.

  Args:
    directory: where it is.

  Returns:
    Its content, the configs completed by settings that came after it; None if
    there is no file.

  Raises:
    UserError: if the file is damaged.
  """
  path = os.path.join(directory, FILE)
  content = files.read_mapping(path, ['configs', 'rows'], 'remove it')
  if content is None:
    return None
  try:
    configs = {
      name: files.plain(config_lib.complete(config))
      for name, config in content['configs'].items()
    }
  except (AttributeError, KeyError, TypeError) as e:
    raise errors.UserError(f'{path} holds no configs; remove it.') from e
  return {**content, 'configs': configs}


def train(
  models: Mapping[str, ml_collections.ConfigDict],
  directory: str,
  *,
  seeds: int,
  tune_steps: int,
  steps: int,
  settings: Sequence[gradient_settings.Setting] = gradient_settings.SETTINGS,
  optimizers: Sequence[str] = tuple(gradient_training.OPTIMIZERS),
  progress: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
  """Trains every model with every optimiser under every mode.

  What is in the directory already, from the same call before, is not trained
  again. The variables that the first optimiser and setting have reached with
  the first seed are kept for `pretrained.read`, see `trained_path`.

  Args:
    models: configs by name.
    directory: where the results are kept; exists.
    seeds: see `gradient_training.train_setting`.
    tune_steps: likewise.
    steps: likewise.
    settings: the modes.
    optimizers: keys of `gradient_training.OPTIMIZERS`.
    progress: called with every new row.

  Returns:
    The content of the file: `rows`, each with its `model`, and provenance.

  Raises:
    UserError: if the directory holds other models' curves, or a file there
      cannot be read or written.
  """
  path = os.path.join(directory, FILE)
  configs = {name: json.loads(c.to_json()) for name, c in models.items()}
  start = {'configs': configs, 'rows': []}
  content = read(directory) or start
  if content['configs'] != files.plain(configs):
    raise errors.UserError(
      f'{path} holds curves of other models or settings; choose another --out.'
    )
  for setting in settings:
    for name, config in models.items():
      for optimizer in optimizers:
        key = (name, optimizer, setting.label, seeds, tune_steps, steps)
        if any(_key(row) == key for row in content['rows']):
          continue
        row, variables = gradient_training.train_setting(
          config,
          setting,
          optimizer,
          seeds=seeds,
          tune_steps=tune_steps,
          steps=steps,
        )
        if optimizer == optimizers[0] and setting == settings[0]:
          _export(directory, name, config, variables, steps)
        content['rows'].append({'model': name, **row})
        content = {**content, **provenance.provenance()}
        files.write_json(path, content)
        progress(content['rows'][-1])
  return files.read_json(path)


def _key(row):
  names = ('model', 'optimizer', 'setting', 'tune_steps', 'steps')
  name, optimizer, setting, tune_steps, steps = (row[key] for key in names)
  return name, optimizer, setting, len(row['seeds']), tune_steps, steps


def _export(directory, name, config, variables, steps):
  experiment = registry.build(config)
  run = loading.LoadedRun(
    directory,
    config,
    experiment.task,
    experiment.data(config.seed),
    steps,
    variables,
  )
  pretrained.export(run, trained_path(directory, name))
