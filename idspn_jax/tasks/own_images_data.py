"""A user's images and sets: checked, split, scaled, decoded, recorded.

As with `own_sets_data`, a run stores what identifies its files, which images it
is tested on, and the statistics by which it scales features.
"""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from idspn_jax import errors
from idspn_jax.data import image_sets
from idspn_jax.data import local_paths
from idspn_jax.data import set_files
from idspn_jax.data import set_layout
from idspn_jax.data import standardization
from idspn_jax.tasks import data_records

# Of all decoded images together.
MOST_BYTES = 4 * 2**30


class Source(NamedTuple):
  """Images and sets, shared by all seeds.

  Attributes:
    sets: of the file, with as many rows and classes as the run knows.
    paths: of the images, one per set.
    split: indices of the training and of the test images.
    scaling: of the continuous features.
    layout: of the features, with the unit of distances.
    path: of the file.
    record: what the run stores of it; None for another file than its own.
    other_file: the path of such a file; None for the run's own.
    missing: why there are no images, where a run has a record of its file but
      not the file: it can still predict.
  """

  sets: image_sets.ImageSets
  paths: list[Any]
  split: data_records.Split
  scaling: standardization.Standardization
  layout: set_layout.Layout
  path: str
  record: dict[str, Any] | None = None
  other_file: str | None = None
  missing: str | None = None

  def targets(self) -> np.ndarray:
    """Features of all sets, `(S, N, D)`, float32.

    Raises:
      ValueError: if a feature is beyond the range of float32.
    """
    values = self.scaling.apply(self.sets.values)
    sizes, rows = self.sets.sizes, values.shape[1]
    values = standardization.to_float32(values, sizes)
    elements = set_layout.Elements(
      values, self.sets.classes, set_files.mask_of(sizes, rows)
    )
    return self.layout.encode(elements).astype(np.float32)


def _load(path):
  try:
    return image_sets.load_image_sets(path)
  except ValueError as e:
    raise errors.UserError(str(e)) from e


def _folder_of(config, path, moved, files, record):
  """The folder of images of the file at `path`.

  Args:
    config: the part `data` of a config.
    path: of the file of sets.
    moved: whether it is another place than the config's.
    files: names of the images.
    record: of the run, or None.
  """
  own = config.images or os.path.dirname(config.path) or '.'
  if not moved:
    if not os.path.isdir(local_paths.local_path(own)) and record is not None:
      return record['images']
    return own
  beside = os.path.dirname(path) or '.'
  # Where the run's folder was, seen from its file.
  relative = os.path.relpath(own, os.path.dirname(config.path) or '.')
  candidates = [os.path.join(beside, relative), beside, own]
  if record is not None:
    candidates.append(record['images'])
  for folder in candidates:
    if os.path.exists(local_paths.local_path(os.path.join(folder, files[0]))):
      return folder
  raise errors.UserError(
    f'{path}: its image {files[0]!r} is in none of '
    f'{", ".join(dict.fromkeys(map(os.path.normpath, candidates)))}; put the '
    'images into the folder of the file.'
  )


def _fitted(sets, path, layout, rows):
  """Sets with the features, classes and rows of a run.

  Raises:
    UserError: if they do not fit.
  """
  names = [c.name for c in sets.layout.categories]
  wanted = [c.name for c in layout.categories]
  continuous = sets.layout.continuous
  if sorted(continuous) != sorted(layout.continuous) or sorted(names) != sorted(
    wanted
  ):
    raise errors.UserError(
      f'{path}: elements have the numbers {list(continuous)} and the texts '
      f'{names}; the run was trained on {list(layout.continuous)} and {wanted}.'
    )
  largest = int(sets.sizes.max())
  if largest > rows:
    raise errors.UserError(
      f'{path}: a set of {largest} elements, but the run knows at most {rows}; '
      'remove larger sets or train on them.'
    )
  classes = {}
  for category in layout.categories:
    own = next(c for c in sets.layout.categories if c.name == category.name)
    unknown = [c for c in own.classes if c not in category.classes]
    if unknown:
      raise errors.UserError(
        f'{path}: {category.name!r} has the class {unknown[0]!r}, which the '
        f'run was not trained on; it knows {", ".join(category.classes)}.'
      )
    index = np.asarray([category.classes.index(c) for c in own.classes])
    classes[category.name] = _resized(index[sets.classes[own.name]], rows)
  order = [continuous.index(name) for name in layout.continuous]
  values = _resized(sets.values[..., order], rows)
  return sets._replace(values=values, classes=classes, layout=layout)


def _resized(array, rows):
  """As many rows of every set, `(S, N, …)`."""
  missing = max(rows - array.shape[1], 0)
  width = ((0, 0), (0, missing), *((0, 0),) * (array.ndim - 2))
  return np.pad(array[:, :rows], width)


def _fit(sets, train, path):
  """Statistics of the training images' elements."""
  if not sets.layout.continuous:
    return standardization.identity(0)
  try:
    return standardization.fit(sets.values[train], sets.sizes[train])
  except ValueError as e:
    raise errors.UserError(f'{path}: {e}') from e


def _check_record(record):
  """Refuses a record that was not written by `_own`."""
  try:
    layout = set_layout.from_json(record['layout'])
    mean, std = (np.asarray(record[k], np.float64) for k in ('mean', 'std'))
    test = np.asarray(record['test_images'])
    right = (
      all(isinstance(record[k], str) for k in ('digest', 'path', 'images'))
      and isinstance(record['rows'], int)
      and isinstance(record['count'], int)
      and record['rows'] > 0
      and mean.shape == std.shape == (len(layout.continuous),)
      and bool(np.all(np.isfinite(mean) & np.isfinite(std) & (std > 0)))
      and test.ndim == 1
      and test.dtype.kind == 'i'
      and bool(np.all((test >= 0) & (test < record['count'])))
    )
  except (KeyError, TypeError, ValueError):
    right = False
  if not right:
    raise errors.UserError(
      "The run's data.json is damaged; restore it, or remove it: the run then "
      'takes the present files for its own.'
    )


def _layout(config, content):
  """The layout of a record, with the config's unit of distances."""
  return dataclasses.replace(
    set_layout.from_json(content), distance_scale=1.0 / config.distance_unit
  )


def _own(config, record, sets, path, folder, paths, digest):
  """The run's own files, split and scaled as before if it has been opened."""
  count = len(sets.files)
  split = data_records.split(
    count, config.test_fraction, config.split_seed, path
  )
  if record is None:
    scaling = _fit(sets, split[0], path)
  else:
    scaling = data_records.stored_scaling(record)
    split = data_records.stored_split(split, record['test_images'], count)
  layout = sets.layout.to_json()
  stored = {
    'path': os.path.abspath(local_paths.local_path(path)),
    'images': os.path.abspath(local_paths.local_path(folder)),
    'digest': digest,
    'count': count,
    'rows': sets.values.shape[1],
    'layout': layout,
    'mean': scaling.mean.tolist(),
    'std': scaling.std.tolist(),
    'test_images': split[1].tolist(),
  }
  layout = _layout(config, layout)
  return Source(sets, paths, split, scaling, layout, path, stored)


def _missing(config, record, path):
  """A run's own file that is gone: enough to predict."""
  layout = _layout(config, record['layout'])
  rows = record['rows']
  sets = image_sets.ImageSets(
    (),
    np.zeros((0, rows, len(layout.continuous))),
    {c.name: np.zeros((0, rows), np.int64) for c in layout.categories},
    np.zeros(0, np.int64),
    layout,
  )
  nothing = np.zeros(0, int)
  return Source(
    sets,
    [],
    (nothing, nothing),
    data_records.stored_scaling(record),
    layout,
    path,
    dict(record),
    missing=data_records.no_such_file(path),
  )


def open_source(
  config: ml_collections.ConfigDict,
  record: Mapping[str, Any] | None = None,
  data_path: str | None = None,
) -> Source:
  """Reads the sets, and checks that their images are there.

  Args:
    config: the part `data` of a config.
    record: what the run stored of its files, if it did.
    data_path: where the file of sets is now, or another file, all of whose
      images are then evaluated.

  Raises:
    UserError: if a file does not fit or has changed.
  """
  if record is not None:
    _check_record(record)
  path = data_path or config.path
  if record is not None and data_path is None and not data_records.exists(path):
    # A relative path may have been another directory's.
    path = record['path']
    if not data_records.exists(path):
      return _missing(config, record, config.path)
  sets = _load(path)
  moved = data_path is not None
  if not moved and path != config.path:
    folder = record['images']
  else:
    folder = _folder_of(config, path, moved, sets.files, record)
  try:
    paths = image_sets.image_paths(folder, sets.files, every=not moved)
  except ValueError as e:
    raise errors.UserError(str(e)) from e
  _check_memory(config, len(paths), path)
  digest = image_sets.digest(sets, paths)
  if record is None and moved:
    record = open_source(config).record
  if record is None or digest == record['digest']:
    return _own(config, record, sets, path, folder, paths, digest)
  if not moved:
    raise errors.UserError(
      f'{path} or its images have changed since the run was trained: they hold '
      f'{len(paths)} images, of {record["count"]} then, or other names, sizes '
      'or sets. Restore them, or evaluate the run on all of the new ones with '
      f'experiments.evaluate --data={path}; training on them needs a new '
      '--workdir.'
    )
  layout = _layout(config, record['layout'])
  sets = _fitted(sets, path, layout, record['rows'])
  every = np.arange(len(paths))
  split = every[:0], every
  return Source(
    sets,
    paths,
    split,
    data_records.stored_scaling(record),
    layout,
    path,
    other_file=path,
  )


def _check_memory(config, count, path):
  needed = count * 3 * config.image_size**2
  if needed > MOST_BYTES:
    raise errors.UserError(
      f'{path}: {count} images of {config.image_size} pixels need '
      f'{needed / 2**30:.1f} GiB of memory, more than {MOST_BYTES / 2**30:g}; '
      'lower --config.data.image_size or give fewer images.'
    )
