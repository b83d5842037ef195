"""Looks experiments up by the task's name in a config."""

from collections.abc import Mapping
import pathlib
import traceback
from typing import Any

import ml_collections

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.tasks import class_numbering
from idspn_jax.tasks import clevr
from idspn_jax.tasks import clevr_state
from idspn_jax.tasks import image_models
from idspn_jax.tasks import model
from idspn_jax.tasks import own_images
from idspn_jax.tasks import own_sets
from idspn_jax.tasks import random_multisets
from idspn_jax.tasks import task as task_lib

_OWN: dict[str, task_lib.Builder] = {
  'class_numbering': class_numbering.build,
  'clevr': clevr.build,
  'clevr_state': clevr_state.build,
  'own_images': own_images.build,
  'own_sets': own_sets.build,
  'random_multisets': random_multisets.build,
}
# Those whose models read images.
_FROM_IMAGES = ('clevr', 'own_images')
# Those on pictures of CLEVR scenes.
_OF_SCENES = ('clevr',)
_REGISTERED: dict[str, task_lib.Builder] = {}


def names() -> list[str]:
  """All known tasks."""
  return sorted({*_OWN, *_REGISTERED})


def has_scenes(name: str) -> bool:
  """Whether a task of the library is on pictures of CLEVR scenes."""
  return name in _OF_SCENES


def register_task(name: str, builder: task_lib.Builder) -> None:
  """Makes a task available to configs under `config.task`.

  A run is opened again by that name, so a program that evaluates it has to
  register it too.

  Args:
    name: the name.
    builder: `builder(config) -> Experiment`.

  Raises:
    UserError: if the name belongs to a task of the library, or the builder
      cannot be called.
  """
  if name in _OWN:
    raise errors.UserError(
      f'{name!r} is a task of the library; register another name.'
    )
  if not callable(builder):
    raise errors.UserError(
      f'The builder of task {name!r} must be a function of a config that '
      f'returns an Experiment; got {builder!r}.'
    )
  _REGISTERED[name] = builder


def defaults(name: str) -> dict[str, Any]:
  """Today's defaults of a task's own settings, as a dictionary.

  Stored configurations are completed with them. Of a registered task nothing
  is known: its settings are stored with each run.
  """
  if name not in _OWN:
    return {}
  room = image_models if name in _FROM_IMAGES else model
  return {'model': room.default_config().to_dict()}


def build(
  config: ml_collections.ConfigDict,
  record: Mapping[str, Any] | None = None,
  data_path: str | None = None,
  builder: task_lib.Builder | None = None,
  num_objects: tuple[int, int] | None = None,
) -> task_lib.Experiment:
  """Builds the experiment of a config.

  Args:
    config: the configuration.
    record: what the run stored of its data files, if it did.
    data_path: where the run's data file is now, or another file to evaluate
      on with the run's statistics.
    builder: builds the experiment instead of the registered one.
    num_objects: smallest and largest number of objects of the scenes to test
      on, for tasks on pictures of CLEVR scenes.

  Raises:
    UserError: if the name is unknown or the config does not fit the task.
  """
  if builder is None:
    checks.choice(config.task, 'config.task', names())
    builder = {**_OWN, **_REGISTERED}[config.task]
  files: dict[str, Any] = {}
  if record is not None:
    files['record'] = record
  if data_path is not None:
    if 'path' not in config.get('data', {}):
      raise errors.UserError(f'Task {config.task} reads no data file.')
    files['data_path'] = data_path
  if num_objects is not None:
    if not has_scenes(config.task):
      raise errors.UserError(
        f'Task {config.task} reads no pictures of scenes; leave --num_objects '
        'out.'
      )
    files['num_objects'] = num_objects
  try:
    built = builder(config, **files)
  except (AttributeError, KeyError) as e:
    if (name := _missing_setting(e)) is None:
      raise
    raise errors.UserError(
      f'The config of task {config.task} lacks {name}; start from one of '
      'configs/.'
    ) from e
  if not isinstance(built, task_lib.Experiment):
    raise errors.UserError(
      f'The builder of task {config.task} returned {type(built).__name__}; '
      'it must return an Experiment.'
    )
  return built


def _missing_setting(e):
  """What a config was asked for and does not have; None of other errors."""
  frame = traceback.extract_tb(e.__traceback__)[-1]
  room = pathlib.Path(frame.filename).parent
  wanted = room.parent.name == 'ml_collections' or room.name == 'ml_collections'
  return ' '.join(str(e).split()) if wanted else None
