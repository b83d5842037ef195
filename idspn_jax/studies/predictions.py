"""Predicts sets from a file of new inputs with a trained run."""

import functools
import os
from typing import Any

import jax
import numpy as np

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.runs import provenance
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import model

_SUFFIXES = ('.npz', '.json')


def predict(
  run: loading.LoadedRun,
  inputs: data_lib.Batch,
  *,
  batch_size: int = 128,
  iterations: int | None = None,
  restarts: int | None = None,
) -> dict[str, np.ndarray]:
  """Predicts for any number of inputs, in batches of one size.

  With a learned initial set and one start, predictions do not depend on the
  size of the batches (up to rounding); where starts are sampled, other batches
  draw others.

  Args:
    run: a trained run.
    inputs: arrays with one row per input, see `Data.read_inputs`.
    batch_size: inputs per compiled call.
    iterations: inner steps; None for the configured number.
    restarts: starts, of which the one of least energy is kept; likewise.

  Returns:
    Arrays with one row per input, in the units of the data: `sets` (or what
    the task predicts), and `energy` and `residual` of the inner problem.

  Raises:
    UserError: if there are no inputs, a size is impossible, or the task
      predicts nothing.
  """
  checks.integer(batch_size, 'batch_size')
  for name, value in (('iterations', iterations), ('restarts', restarts)):
    if value is not None:
      checks.integer(value, name)
      if not run.task.iterates:
        raise errors.UserError(f'This model has no inner steps; no --{name}.')
  count = len(next(iter(inputs.values())))
  if count == 0:
    raise errors.UserError('There are no inputs to predict from.')
  options = {}
  if run.task.iterates:
    options['iterations'] = iterations
  if restarts is not None:
    options['restarts'] = model.build_restarts(run.config.model, restarts)
  key = jax.random.key(run.config.seed)
  step = jax.jit(functools.partial(run.task.predict, **options))
  found: list[dict[str, np.ndarray]] = []
  for i, batch in enumerate(data_lib.padded_batches(inputs, batch_size)):
    mask = batch.pop('mask')
    rows = step(run.variables, batch, jax.random.fold_in(key, i))
    found.append({name: np.asarray(a)[mask] for name, a in rows.items()})
  joined = {
    name: np.concatenate([rows[name] for rows in found]) for name in found[0]
  }
  return run.data.to_units(joined)


def save(
  run: loading.LoadedRun, predictions: dict[str, np.ndarray], path: str
) -> None:
  """Writes predictions as `.npz`, or as `.json` with where they come from.

  The file appears whole or not at all. In JSON, CLEVR objects are written as in
  a scene file, and non-finite numbers as null.

  Args:
    run: the run that predicted.
    predictions: from `predict`.
    path: the file.

  Raises:
    UserError: if the suffix is another one, or it cannot be written.
  """
  check_output(path)
  if path.lower().endswith('.json'):
    content: dict[str, Any] = {
      **run.data.to_json(predictions),
      'run': run.workdir,
      'step': run.step,
      **provenance.provenance(),
    }
    files.write_json(path, content)
    return
  with files.replacing(path, 'wb') as f:
    np.savez_compressed(f, **predictions)


def check_output(path: str) -> None:
  """Refuses an output file that could not be written.

  Raises:
    UserError: naming the file and the remedy.
  """
  if not path.lower().endswith(_SUFFIXES):
    raise errors.UserError(
      f'--output={path}: give a file that ends in .npz or .json.'
    )
  if os.path.isdir(path):
    raise errors.UserError(
      f'--output={path} is a directory; give a file that ends in .npz or .json.'
    )
  files.make_directory(
    os.path.dirname(path) or '.', 'the directory of --output'
  )
