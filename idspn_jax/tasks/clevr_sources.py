"""Sources of CLEVR pictures: the renderer, TFDS, an unpacked archive."""

from collections.abc import Mapping
import functools
import os

import ml_collections
import numpy as np

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.data import clevr_features
from idspn_jax.data import clevr_tfds
from idspn_jax.data import clevr_tree
from idspn_jax.data import picture_cache
from idspn_jax.data import picture_selection
from idspn_jax.render import rendered_pictures
from idspn_jax.render import sample_scenes

SOURCES = ('rendered', 'tfds', 'tree')
# A task's split, as every source calls it.
_SPLITS = {
  'train': {'rendered': 'train', 'tfds': 'train', 'tree': 'train'},
  'test': {'rendered': 'val', 'tfds': 'validation', 'tree': 'val'},
}
# Most objects of an official scene.
_MOST_OBJECTS = 10
# Pictures that take no more memory are held in it.
_HELD_BYTES = 2**30


def default_config() -> ml_collections.ConfigDict:
  """The part `data` of a config of CLEVR pictures."""
  return ml_collections.ConfigDict(
    {
      # 'rendered' by this library, 'tfds' (see experiments.prepare_clevr) or
      # 'tree', an unpacked archive.
      'source': 'tfds',
      'data_dir': '',
      'image_size': 128,
      # Rows of a set; 'rendered' draws min_objects to max_objects per scene.
      'min_objects': 3,
      'max_objects': 10,
      # 'tfds' and 'tree': leave scenes of other numbers of objects out; by
      # default scenes of more are refused.
      'leave_out': False,
      # 'rendered': how many pictures, 0 to render new ones for every training
      # step, and what determines their scenes (the same for all seeds).
      'num_train': 70_000,
      'num_test': 15_000,
      'scene_seed': 0,
      # Whether to resize all pictures once, into cache_dir; '' puts it beside
      # the data.
      'cache': True,
      'cache_dir': '',
      # Processes that read and resize pictures when there is no cache, and
      # threads that make it.
      'workers': 2,
    }
  )


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses impossible settings.

  Args:
    config: the part `data` of a config, see `default_config`.

  Raises:
    UserError: naming the setting, its value and the remedy.
  """
  checks.choice(config.source, 'config.data.source', SOURCES)
  for name, least in (
    ('image_size', 1),
    ('min_objects', 0),
    ('max_objects', 1),
    ('workers', 0),
    ('num_train', 0),
    ('num_test', 1),
    ('scene_seed', 0),
  ):
    checks.integer(config[name], f'config.data.{name}', least=least)
  checks.boolean(config.cache, 'config.data.cache')
  checks.boolean(config.leave_out, 'config.data.leave_out')
  if config.min_objects > config.max_objects:
    raise errors.UserError(
      f'config.data.min_objects is {config.min_objects}, above max_objects, '
      f'{config.max_objects}.'
    )
  if config.source == 'rendered':
    try:
      sample_scenes.check_num_objects((config.min_objects, config.max_objects))
    except ValueError as e:
      raise errors.UserError(
        f'config.data.min_objects and max_objects: {e}'
      ) from e
  elif not config.data_dir and not (config.cache and config.cache_dir):
    raise errors.UserError(
      'Say where CLEVR is: --config.data.data_dir=DIR, with '
      '--config.data.source=tfds (after '
      f'{clevr_tfds.prepare_command("DIR")}) or =tree (an unpacked '
      'CLEVR_v1.0).'
    )


def cache_folder(config: ml_collections.ConfigDict) -> str:
  """Where the resized or rendered pictures of a `data` config are kept."""
  if config.cache_dir:
    return config.cache_dir
  if config.source == 'rendered':
    return os.path.join('runs', 'rendered_clevr')
  name = f'pictures_{config.source}_{config.image_size}'
  return os.path.join(config.data_dir, name)


def check_num_objects(
  config: ml_collections.ConfigDict, num_objects: tuple[int, int]
) -> None:
  """Refuses a range of numbers of objects that cannot be evaluated.

  Args:
    config: the part `data` of a config, for `max_objects`.
    num_objects: smallest and largest number.

  Raises:
    UserError: if the range is empty or exceeds what the model predicts.
  """
  low, high = num_objects
  if not 0 <= low <= high:
    raise errors.UserError(
      f'--num_objects={low}..{high}: give the smaller number first, from 0.'
    )
  if high > config.max_objects:
    raise errors.UserError(
      f'--num_objects={low}..{high}: this model predicts at most '
      f'{config.max_objects} objects (config.data.max_objects); give a range '
      f'up to {config.max_objects}, or evaluate a model of more.'
    )


def open_split(
  config: ml_collections.ConfigDict,
  split: str,
  num_objects: tuple[int, int] | None = None,
) -> picture_cache.Pictures:
  """Opens the pictures of a split; makes the cache if it is to be used.

  A finished cache in `cache_dir` needs no `data_dir`. Rendered pictures are
  always kept.

  Args:
    config: the part `data` of a config, see `default_config`.
    split: 'train' or 'test'.
    num_objects: smallest and largest number of objects; other scenes are left
      out. None for what the config says.

  Raises:
    UserError: if a setting, a file or the cache does not fit, or a package is
      missing.
  """
  check(config)
  checks.choice(split, 'split', _SPLITS)
  chosen = num_objects
  if chosen is None and (config.source == 'rendered' or config.leave_out):
    chosen = (config.min_objects, config.max_objects)
  # All objects of scenes that are left out later.
  rows = config.max_objects if chosen is None else _most_rows(config)
  if config.source == 'rendered':
    found = _open_rendered(config, split)
  elif config.cache:
    found = _open_cache(config, split, rows)
  else:
    found = _open_source(config, split, rows)
  if chosen is None:
    return found
  return picture_selection.SelectedPictures(found, chosen, config.max_objects)


def open_other(
  config: ml_collections.ConfigDict,
  tree: str,
  num_objects: tuple[int, int] | None = None,
) -> picture_cache.Pictures:
  """Opens the `val` pictures of another unpacked archive, to be scored.

  Args:
    config: the part `data` of a config, for `image_size`, numbers of objects
      and `leave_out`.
    tree: see `clevr_tree.find_tree`.
    num_objects: smallest and largest number of objects; other scenes are left
      out. None for the config's own range if it leaves scenes out.

  Raises:
    UserError: if a file is missing or wrong, or a scene has too many objects
      and none may be left out; names the remedy.
  """
  source = clevr_tree.TreePictures(tree, 'val', _most_rows(config))
  chosen = num_objects
  if chosen is None and config.leave_out:
    chosen = (config.min_objects, config.max_objects)
  if chosen is None:
    _check_counts(source.targets, config, tree)
    chosen = (0, config.max_objects)
  source = picture_selection.SelectedPictures(
    source, chosen, config.max_objects
  )
  bytes_in_all = len(source) * 3 * config.image_size**2
  if bytes_in_all > _HELD_BYTES:
    return source
  return picture_selection.HeldPictures(source, config.image_size)


def _most_rows(config):
  """Rows for all objects of any scene."""
  return max(config.max_objects, _MOST_OBJECTS)


def _check_counts(targets, config, where):
  counts = clevr_features.mask_of(targets).sum(axis=-1)
  most = config.max_objects
  if np.any(counts > most):
    raise errors.UserError(
      f'{where}: {np.sum(counts > most)} of {len(counts)} scenes have more '
      f'than the {most} objects that this model predicts (up to '
      f'{counts.max()}); leave them out: '
      f'--num_objects={min(config.min_objects, most)}..{most}.'
    )


def _open_rendered(config, split):
  own = _SPLITS[split]['rendered']
  count = config[f'num_{split}']
  size, objects = config.image_size, (config.min_objects, config.max_objects)
  description = rendered_pictures.Description(
    own, count, size, size, config.scene_seed, *objects
  )
  folder = os.path.join(
    cache_folder(config),
    f'{own}_{count}_of_{objects[0]}-{objects[1]}_at_{size}'
    f'_seed{config.scene_seed}',
  )
  try:
    return rendered_pictures.make(folder, description, max(config.workers, 1))
  except ValueError as e:
    raise errors.UserError(str(e)) from e
  except OSError as e:
    raise errors.UserError(
      f'{folder}: cannot be written ({e.strerror}); choose another place: '
      '--config.data.cache_dir=DIR.'
    ) from e


def _open_source(config, split, rows):
  kind = {
    'tfds': clevr_tfds.TfdsPictures,
    'tree': clevr_tree.TreePictures,
  }[config.source]
  return kind(config.data_dir, _SPLITS[split][config.source], rows)


def _open_cache(config, split, rows):
  own = _SPLITS[split][config.source]
  room = {'tfds': clevr_tfds, 'tree': clevr_tree}[config.source]
  identity = room.identity(config.data_dir, own) if config.data_dir else None
  folder = cache_folder(config)
  if not picture_cache.exists(folder, split):
    if not config.data_dir:
      raise errors.UserError(
        f'{folder}: no cache of the split {split}; give '
        '--config.data.data_dir=DIR to make it.'
      )
    picture_cache.write(
      _open_source(config, split, rows),
      folder,
      split,
      config.image_size,
      identity,
      threads=max(config.workers, 1),
    )
  return picture_cache.CachedPictures(
    folder, split, config.image_size, rows, identity
  )


class _Splits(Mapping):
  """Splits that are opened when they are first needed."""

  def __init__(self, openers):
    self._openers = openers
    self._opened = {}

  def __getitem__(self, split):
    if split not in self._opened:
      self._opened[split] = self._openers[split]()
    return self._opened[split]

  def __iter__(self):
    return iter(self._openers)

  def __len__(self):
    return len(self._openers)

  def __contains__(self, split):
    # That of Mapping would open it.
    return split in self._openers


def open_splits(
  config: ml_collections.ConfigDict,
  other: str = '',
  num_objects: tuple[int, int] | None = None,
) -> Mapping[str, picture_cache.Pictures]:
  """The pictures of both splits; opened, and made, when they are needed.

  Args:
    config: the part `data` of a config, see `default_config`.
    other: an unpacked archive to test on instead; '' for none.
    num_objects: smallest and largest number of objects of test scenes; None
      for what the config says.

  Returns:
    'test', and 'train' unless training pictures are rendered anew.
  """
  openers = {
    split: functools.partial(open_split, config, split) for split in _SPLITS
  }
  if config.source == 'rendered' and not config.num_train:
    del openers['train']
  if other:
    openers['test'] = functools.partial(open_other, config, other, num_objects)
  elif num_objects is not None:
    openers['test'] = functools.partial(open_split, config, 'test', num_objects)
  return _Splits(openers)
