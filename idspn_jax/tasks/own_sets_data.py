"""The sets of a user's file: read, checked, split, scaled, recorded.

A run stores what identifies its file: a digest of the sets, which of them it
is tested on, and the statistics by which it scales them. Without that record,
a changed file would bring another split, whose test sets were trained on.
"""

from collections.abc import Mapping
import os
from typing import Any, NamedTuple

from absl import logging
import ml_collections
import numpy as np

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.data import local_paths
from idspn_jax.data import set_files
from idspn_jax.data import standardization
from idspn_jax.tasks import clevr_predictions
from idspn_jax.tasks import data as data_lib
from idspn_jax.tasks import data_records


class Source(NamedTuple):
  """A file's sets, shared by all seeds.

  Attributes:
    file: the sets.
    split: indices of the training and of the test sets.
    scaling: of the features; the identity for CLEVR scenes.
    path: the file's.
    record: what the run stores of it; None for another file than its own.
    other_file: the path of such a file; None for the run's own.
    missing: why there are no sets, where a run has a record of its file but
      not the file: it can still predict.
  """

  file: set_files.SetFile
  split: data_records.Split
  scaling: standardization.Standardization
  path: str
  record: dict[str, Any] | None = None
  other_file: str | None = None
  missing: str | None = None


class OwnSetsData(data_lib.ArrayData):
  """The sets of a file, standardised, split into train and test."""

  def __init__(
    self, config: ml_collections.ConfigDict, seed: int, source: Source
  ):
    """Prepares the arrays; the seed orders the training batches."""
    self._source = source
    self._scaling = source.scaling
    self._kind = source.file.kind
    self._standardized = config.data.standardize
    rows = self._rows(source.file, source.path)
    super().__init__(
      {
        name: {key: array[index] for key, array in rows.items()}
        for name, index in zip(('train', 'test'), source.split, strict=True)
      },
      config.batch_size,
      config.eval_batch_size,
      seed,
      config.random_streams,
    )

  def _rows(self, file, path):
    sizes = file.sizes
    if file.kind != 'npz':
      return {'input': file.sets.astype(np.float32), 'size': sizes}
    try:
      if not self._standardized:
        standardization.check_float32(file.sets, sizes)
      scaled = self._scaling.apply(file.sets)
      sets = standardization.to_float32(scaled, sizes)
    except ValueError as e:
      raise errors.UserError(f'{path}: {e}') from e
    # Distances are measured in these units.
    with np.errstate(over='ignore'):
      scale = self._scaling.std.astype(np.float32)
    if not np.all(np.isfinite(scale)):
      largest = self._scaling.std.max()
      raise errors.UserError(
        f'{path}: a feature has standard deviation {largest:g}, beyond the '
        'range of float32; rescale it.'
      )
    return {
      'input': set_files.with_presence(sets, sizes),
      'size': sizes,
      'scale': np.broadcast_to(scale, (len(sets), len(scale))),
    }

  def _check_there(self):
    if self._source.missing is not None:
      raise errors.UserError(self._source.missing)

  def train(self, first_step):
    """See `Data.train`."""
    self._check_there()
    return super().train(first_step)

  def evaluate(self, split='test'):
    """See `Data.evaluate`."""
    self._check_there()
    return super().evaluate(split)

  def examples(self, count, split='test'):
    """See `ArrayData.examples`."""
    self._check_there()
    return super().examples(count, split)

  def in_units(self, sets: np.ndarray) -> np.ndarray:
    """Undoes the scaling of sets with presence, `(…, D)`, in float64."""
    if self._kind != 'npz':
      return sets
    sets = np.asarray(sets, np.float64)
    features = self._scaling.invert(sets[..., :-1])
    return np.concatenate([features, sets[..., -1:]], -1)

  def read_inputs(self, path):
    """See `Data.read_inputs`: a file of the kind that the run trained on."""
    file = _fitted(_read(path), path, self._kind, self._source.file.sets.shape)
    return self._rows(file, path)

  def to_units(self, predictions):
    """See `Data.to_units`.

    Of an `.npz` file: `sets` in its units, `(S, N, D)`, and `presence`,
    `(S, N)`. Of CLEVR scenes: see `clevr_predictions.to_units`.
    """
    if self._kind == 'npz':
      sets = self.in_units(predictions['sets'])
      rest = {k: v for k, v in predictions.items() if k != 'sets'}
      return {'sets': sets[..., :-1], 'presence': sets[..., -1], **rest}
    return clevr_predictions.to_units(predictions)

  def to_json(self, predictions):
    """See `Data.to_json`; CLEVR objects as in a scene file."""
    if self._kind == 'npz':
      return super().to_json(predictions)
    return clevr_predictions.to_json(predictions)


def _read(path):
  try:
    return set_files.load_set_file(path)
  except ValueError as e:
    raise errors.UserError(str(e)) from e


def _fitted(file, path, kind, shape):
  """The sets, padded to as many rows as a run's.

  Raises:
    UserError: if they are of another kind or size.
  """
  _, set_size, num_features = shape
  if file.kind != kind or file.sets.shape[-1] != num_features:
    raise errors.UserError(
      f'{path}: kind {file.kind} with {file.sets.shape[-1]} features; the run '
      f'was trained on {kind} with {num_features}.'
    )
  largest = int(file.sizes.max(initial=0))
  if largest > set_size:
    raise errors.UserError(
      f'{path}: a set of {largest} elements, but the run knows at most '
      f'{set_size}; remove larger sets or train on them.'
    )
  sets = file.sets[:, :set_size]
  missing = set_size - sets.shape[1]
  return file._replace(sets=np.pad(sets, ((0, 0), (0, missing), (0, 0))))


def _fit_scaling(config, file, train, path):
  """Mean and standard deviation of the training sets' features."""
  sets = file.sets
  if file.kind == 'npz' and config.data.standardize:
    try:
      return standardization.fit(sets[train], file.sizes[train])
    except ValueError as e:
      raise errors.UserError(f'{path}: {e}') from e
  return standardization.identity(sets.shape[-1])


def _split(config, file, path):
  fraction = config.data.test_fraction
  checks.number(fraction, 'config.data.test_fraction', least=0, most=1)
  return data_records.split(
    len(file.sets), fraction, config.data.split_seed, path
  )


def _record(path, file, split, scaling):
  """What a run stores of its file; see `Experiment.record`."""
  return {
    'path': os.path.abspath(local_paths.local_path(path)),
    'digest': set_files.digest(file.sets, file.sizes),
    'kind': file.kind,
    'shape': list(file.sets.shape),
    'mean': scaling.mean.tolist(),
    'std': scaling.std.tolist(),
    'test_sets': split[1].tolist(),
  }


def _check_record(record):
  """Refuses a record that was not written by `_record`."""
  try:
    shape = np.asarray(record['shape'])
    mean, std = (np.asarray(record[k], np.float64) for k in ('mean', 'std'))
    test = np.asarray(record['test_sets'])
    right = (
      isinstance(record['digest'], str)
      and isinstance(record['path'], str)
      and record['kind'] in set_files.KINDS.values()
      and shape.shape == (3,)
      and mean.shape == std.shape == (shape[2],)
      and bool(np.all(np.isfinite(mean) & np.isfinite(std) & (std > 0)))
      and test.ndim == 1
      and test.dtype.kind == 'i'
      and bool(np.all((test >= 0) & (test < shape[0])))
    )
  except (KeyError, TypeError, ValueError):
    right = False
  if not right:
    raise errors.UserError(
      "The run's data.json is damaged; restore it, or remove it: the run then "
      'takes the present data file for its own.'
    )


def _own(config, record, file, path):
  """The run's own file, split and scaled as before if it has been opened."""
  split = _split(config, file, path)
  if record is None:
    scaling = _fit_scaling(config, file, split[0], path)
  else:
    scaling = data_records.stored_scaling(record)
    split = data_records.stored_split(
      split, record['test_sets'], len(file.sets)
    )
  return Source(file, split, scaling, path, _record(path, file, split, scaling))


def _other(config, record, file, path):
  """Another file, all of whose sets are evaluated by a run."""
  if record is None:
    record = _own(
      config, None, _read(config.data.path), config.data.path
    ).record
  file = _fitted(file, path, record['kind'], record['shape'])
  every = np.arange(len(file.sets))
  split = every[:0], every
  return Source(
    file, split, data_records.stored_scaling(record), path, other_file=path
  )


def _missing(record, path):
  """A run's own file that is gone: enough to predict from other files."""
  _, set_size, num_features = record['shape']
  empty = set_files.SetFile(
    np.zeros((0, set_size, num_features)),
    np.zeros(0, np.int64),
    record['kind'],
    None,
  )
  nothing = np.zeros(0, int)
  return Source(
    empty,
    (nothing, nothing),
    data_records.stored_scaling(record),
    path,
    dict(record),
    missing=data_records.no_such_file(path),
  )


def _is_own(config, record, file, path, given):
  """Whether `file` is the one that the run was trained on.

  A run from before records were stored is taken to own the file at its path,
  and a file with as many sets of the same sizes.

  Raises:
    UserError: if the file at the run's own path has changed.
  """
  if record is None:
    if not given:
      return True
    if not data_records.exists(config.data.path):
      if os.path.splitext(config.data.path)[1] != os.path.splitext(path)[1]:
        raise errors.UserError(
          f'{path} is not of the kind of {config.data.path}, which the run was '
          'trained on.'
        )
      logging.warning(
        'The run has no record of its data and %s is gone: taking %s for the '
        'same file, moved.',
        config.data.path,
        path,
      )
      return True
    own = _read(config.data.path)
    same_shape = own.sets.shape == file.sets.shape
    return same_shape and np.array_equal(own.sizes, file.sizes)
  if set_files.digest(file.sets, file.sizes) == record['digest']:
    return True
  if given:
    return False
  raise errors.UserError(
    f'{path} has changed since the run was trained: it holds '
    f'{len(file.sets)} sets, of {record["shape"][0]} then, or other values. '
    'Restore the file, or evaluate the run on all sets of the new one with '
    f'experiments.evaluate --data={path}; training on it needs a new '
    '--workdir.'
  )


def open_source(
  config: ml_collections.ConfigDict,
  record: Mapping[str, Any] | None = None,
  data_path: str | None = None,
) -> Source:
  """Reads the sets that a run trains or is evaluated on.

  Args:
    config: the configuration.
    record: what the run stored of its file, if it did.
    data_path: where that file is now, or another file.

  Raises:
    UserError: if the file does not fit or has changed.
  """
  if record is not None:
    _check_record(record)
  path = data_path or config.data.path
  if record is not None and data_path is None:
    if not data_records.exists(path):
      # A relative path may have been another directory's.
      path = record['path'] if data_records.exists(record['path']) else path
    if not data_records.exists(path):
      return _missing(record, path)
  elif data_path is None and not data_records.exists(path):
    raise errors.UserError(data_records.no_such_file(path))
  file = _read(path)
  if _is_own(config, record, file, path, data_path is not None):
    return _own(config, record, file, path)
  return _other(config, record, file, path)
