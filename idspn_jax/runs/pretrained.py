"""Trained models that come with the package, loaded by name.

A file holds the run's config and provenance as JSON, and the variables as
arrays: kernels in float16, all others as they were. Nothing is unpickled.
"""

from collections.abc import Mapping
import contextlib
import importlib.resources
import json
import os
import re
from typing import Any

import jax
import ml_collections
import numpy as np

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.runs import checkpoints
from idspn_jax.runs import config as config_lib
from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.runs import provenance
from idspn_jax.tasks import registry

_FOLDER = 'weights'
_SUFFIX = '.npz'
_CONFIG, _ABOUT, _VARIABLES = 'config', 'about', 'variables'
# Where commands put what they make of a model that has no run directory.
OUTPUT = os.path.join('runs', 'pretrained')


def _folder():
  return importlib.resources.files(__package__) / _FOLDER


def names() -> list[str]:
  """The models that come with this version."""
  return sorted(
    path.name.removesuffix(_SUFFIX)
    for path in _folder().iterdir()
    if path.name.endswith(_SUFFIX)
  )


def load_pretrained(
  name: str,
  data_path: str | None = None,
  num_objects: tuple[int, int] | None = None,
) -> loading.LoadedRun:
  """Loads a trained model that comes with the package.

  Args:
    name: one of `names()`.
    data_path: other data to evaluate on, see `load_run`.
    num_objects: see `load_run`.

  Returns:
    The model as if its run had been loaded; `workdir` is where commands put
    their output by default.

  Raises:
    UserError: if there is no such model, or the data do not fit.
  """
  with _opened(name) as f:
    return read(f, os.path.join(OUTPUT, name), data_path, num_objects)


def task_of(name: str) -> str:
  """The task of a model that comes with the package; see `load_pretrained`."""
  with _opened(name) as f:
    return _content(f)[0]['task']


def _opened(name):
  checks.choice(name, 'pretrained', names())
  return (_folder() / f'{name}{_SUFFIX}').open('rb')


def read(
  file: Any,
  workdir: str,
  data_path: str | None = None,
  num_objects: tuple[int, int] | None = None,
) -> loading.LoadedRun:
  """Reads what `export` wrote.

  Args:
    file: its path, or the open file.
    workdir: see `load_pretrained`.
    data_path: see `load_pretrained`.
    num_objects: see `load_pretrained`.

  Raises:
    UserError: if the file is damaged or the data do not fit.
  """
  config, about, stored = _content(file)
  config = ml_collections.ConfigDict(config_lib.complete(config))
  experiment = registry.build(config, None, data_path, num_objects=num_objects)
  like = jax.eval_shape(experiment.task.init, jax.random.key(0))
  stored = jax.tree.map(_as_float32, stored)
  variables = checkpoints.fit(stored, like, str(getattr(file, 'name', file)))
  return loading.LoadedRun(
    workdir,
    config,
    experiment.task,
    experiment.data(config.seed),
    int(about['step']),
    variables,
    experiment.other_file,
    num_objects,
  )


def _as_float32(array):
  return array.astype(np.float32) if array.dtype == np.float16 else array


def _content(file):
  """Config, provenance and variables of a file, as they are stored."""
  try:
    with contextlib.ExitStack() as stack:
      if isinstance(file, str | os.PathLike):
        opened = stack.enter_context(open(file, 'rb'))
      else:
        opened = file
      stored = stack.enter_context(np.load(opened, allow_pickle=False))
      arrays = {name: stored[name] for name in stored.files}
    config, about = (json.loads(str(arrays.pop(k))) for k in (_CONFIG, _ABOUT))
    tree = _tree(arrays)
    _check_texts(config, about)
  except Exception as e:  # zipfile, NumPy and json raise all kinds.
    raise errors.UserError(
      f'{getattr(file, "name", file)}: no exported model '
      f'({" ".join(str(e).split())[:300]}); export anew.'
    ) from e
  return config, about, tree


def _check_texts(config, about):
  """Refuses a config or a provenance that `export` cannot have written."""
  step = about.get('step') if isinstance(about, dict) else None
  if not isinstance(step, int):
    raise ValueError('it does not say of which step it is')
  if not isinstance(config, dict) or not {'task', 'seed'} <= {*config}:
    raise ValueError('it holds no config')
  config_lib.check_stored(config)


def _tree(arrays):
  """Arrays by names like `variables/params/a` as nested dictionaries."""
  tree: dict[str, Any] = {}
  for name, array in arrays.items():
    *path, last = name.split('/')
    if not path or path[0] != _VARIABLES or array.dtype.kind not in 'biuf':
      raise ValueError(f'the array {name!r} is no variable')
    inner = tree
    for key in path[1:]:
      inner = inner.setdefault(key, {})
      if not isinstance(inner, dict):
        raise ValueError(f'{name!r} is below another array')
    if last in inner:
      raise ValueError(f'{name!r} is above another array')
    inner[last] = array
  return tree


def export(run: loading.LoadedRun, path: str) -> None:
  """Writes a run's variables as a file for `read`.

  Kernels lose precision: they are rounded to float16.

  Args:
    run: what to export.
    path: the file, `NAME.npz`.

  Raises:
    UserError: if the name is impossible, a value is beyond the range of
      float16, or the file cannot be written.
  """
  name = os.path.basename(path)
  if not re.fullmatch(r'\w+\.npz', name):
    raise errors.UserError(
      f'{path}: name the file like NAME{_SUFFIX}, of letters, digits and _.'
    )
  arrays = dict(_flat(run.variables, _VARIABLES))
  for key, array in arrays.items():
    if not np.all(np.isfinite(array)):
      raise errors.UserError(
        f'{key} is not finite in float16; this model cannot be exported.'
      )
  about = {
    'step': run.step,
    'parameters': sum(
      leaf.size for leaf in jax.tree.leaves(run.variables['params'])
    ),
    **provenance.provenance(),
  }
  texts = {
    _CONFIG: run.config.to_json(),
    _ABOUT: json.dumps(about),
  }
  with files.replacing(path, 'wb') as f:
    np.savez_compressed(f, **texts, **arrays)


def _flat(tree, path):
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f'{path}/{key}')
      continue
    array = np.asarray(value)
    kernel = array.ndim > 1 and array.dtype == np.float32
    with np.errstate(over='ignore'):
      yield f'{path}/{key}', array.astype(np.float16) if kernel else array
