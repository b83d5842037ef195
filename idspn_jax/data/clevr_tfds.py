"""CLEVR through TensorFlow Datasets and grain, without TensorFlow.

The only room with these two packages; both come with the extra `data`. Class
numbers of TFDS are in another order than the paper's: they go by their names.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import pathlib
import shutil
import sys
import tempfile
import types
from typing import Any

from absl import logging
import numpy as np
import tqdm

from idspn_jax import errors
from idspn_jax.data import clevr_archive
from idspn_jax.data import clevr_features
from idspn_jax.data import local_paths
from idspn_jax.data import pictures

SPLITS = ('train', 'validation', 'test')
_NAME = 'clevr'
_FORMAT = 'array_record'
_INFO = 'dataset_info.json'
# Prefix of the folder in which data are prepared.
_SCRATCH = 'clevr_preparing_'


def require(*packages: str) -> None:
  """Refuses to go on without optional packages.

  Raises:
    UserError: naming the missing one and the extra to install.
  """
  for package in packages:
    if importlib.util.find_spec(package) is None:
      raise errors.UserError(
        f'The package {package} is not installed; CLEVR through TensorFlow '
        "Datasets needs: pip install 'idspn-jax[data]'. A CLEVR_v1.0 folder "
        'can be read without it (data.source=tree).'
      )


def prepare_command(data_dir: str | os.PathLike[str]) -> str:
  """The command that prepares CLEVR, for messages."""
  return (
    'python -m experiments.prepare_clevr --source=CLEVR_v1.0.zip '
    f'--data_dir={data_dir}'
  )


def _local(path):
  try:
    return local_paths.local_path(path)
  except ValueError as e:
    raise errors.UserError(str(e)) from e


def prepared_folder(data_dir: str | os.PathLike[str]) -> pathlib.Path | None:
  """The folder of the prepared data set, of any format.

  Args:
    data_dir: TFDS's directory, or the folder `clevr/VERSION` itself.

  Returns:
    The newest version's folder; None if there is none.
  """
  given = _local(data_dir)
  if os.path.isfile(given / _INFO):
    return given

  def version(path):
    return tuple(int(n) if n.isdigit() else -1 for n in path.name.split('.'))

  found = [path.parent for path in (given / _NAME).glob(f'*.*.*/{_INFO}')]
  return max(found, key=version, default=None)


def _file_format(folder):
  try:
    info = json.loads((folder / _INFO).read_text('utf-8'))
    return info.get('fileFormat', 'tfrecord')
  except (OSError, ValueError, AttributeError) as e:
    raise errors.UserError(
      f'{folder / _INFO} is damaged ({e}); prepare the data anew: '
      f'{prepare_command(_data_dir(folder))} --overwrite'
    ) from e


def _data_dir(folder):
  """TFDS's directory of a prepared folder."""
  return folder.parent.parent if folder.parent.name == _NAME else folder


def readable_folder(data_dir: str | os.PathLike[str]) -> pathlib.Path:
  """The folder of the prepared data set, if it can be read at random.

  Args:
    data_dir: see `prepared_folder`.

  Raises:
    UserError: if CLEVR is not prepared there, or in another format; it names
      the command to run.
  """
  folder = prepared_folder(data_dir)
  if folder is None:
    raise errors.UserError(
      f'{data_dir}: CLEVR is not prepared there; run '
      f'{prepare_command(data_dir)}'
    )
  found = _file_format(folder)
  if found != _FORMAT:
    raise errors.UserError(
      f'{folder} is prepared as {found}, which cannot be read by random '
      f'access. Prepare it anew as {_FORMAT}: '
      f'{prepare_command(_data_dir(folder))} --overwrite'
    )
  return folder


def prepare(
  source: str | os.PathLike[str],
  data_dir: str | os.PathLike[str],
  overwrite: bool = False,
) -> pathlib.Path:
  """Runs TFDS's own `clevr` builder on local files; no network.

  The data set appears in its place when it is complete.

  Args:
    source: `CLEVR_v1.0.zip`, or the unpacked folder.
    data_dir: TFDS's directory.
    overwrite: replace what is prepared there.

  Returns:
    The folder of the prepared data set.

  Raises:
    UserError: if a package is missing, the source is not complete, or something
      is prepared there already and is not to be replaced.
  """
  require('tensorflow_datasets', 'array_record', 'importlib_resources')
  source, target = _local(source), _local(data_dir)
  if not os.path.exists(source):
    raise errors.UserError(
      f'--source={source}: no such file or folder; give CLEVR_v1.0.zip or its '
      'unpacked folder.'
    )
  before = prepared_folder(target)
  if before is not None and not overwrite:
    raise errors.UserError(
      f'{before} is prepared already, as {_file_format(before)}; give another '
      '--data_dir, or --overwrite to replace it.'
    )
  for left in sorted(target.glob(f'{_SCRATCH}*')):
    logging.warning(
      '%s is left from a preparation that was killed; unless one is under way, '
      'remove it.',
      left,
    )
  try:
    target.mkdir(parents=True, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix=_SCRATCH, dir=target)
  except OSError as e:
    raise errors.UserError(
      f'Cannot write to --data_dir={target}: {e.strerror}; choose another '
      'place.'
    ) from e
  try:
    with clevr_archive.opened(source, pathlib.Path(scratch)) as parent:
      built = _build(parent, scratch)
    place = target / _NAME / built.name
    place.parent.mkdir(exist_ok=True)
    if os.path.exists(place):
      # Both renamed, so that one of them is in place at all times but one.
      place.rename(pathlib.Path(scratch) / 'replaced')
    built.rename(place)
  except OSError as e:
    raise errors.UserError(
      f'Cannot prepare CLEVR in {target}: {e.strerror or e}.'
    ) from e
  finally:
    shutil.rmtree(scratch, ignore_errors=True)
  return place


def _build(parent, scratch):
  """Runs the builder on the folder that holds `CLEVR_v1.0`."""
  import tensorflow_datasets as tfds
  from tensorflow_datasets.datasets.clevr import clevr_dataset_builder

  if importlib.util.find_spec('tensorflow') is None:
    # All of TensorFlow that the builder needs: two functions on files.
    files = types.SimpleNamespace(listdir=os.listdir, exists=os.path.exists)
    clevr_dataset_builder.tf = types.SimpleNamespace(
      io=types.SimpleNamespace(gfile=files)
    )
  builder = tfds.builder(_NAME, data_dir=scratch, file_format=_FORMAT)
  manager = types.SimpleNamespace(
    download_and_extract=lambda url: str(parent), downloaded_size=0
  )
  builder._make_download_manager = lambda **options: manager
  config = tfds.download.DownloadConfig(try_download_gcs=False)
  # It would announce a download, and a place that is not the final one; its
  # progress bars go to stderr.
  with contextlib.redirect_stdout(io.StringIO()):
    builder.download_and_prepare(download_config=config)
  return pathlib.Path(builder.data_dir)


class TfdsPictures:
  """Pictures of one split of a prepared data set, in the order of their names.

  Records lie in another, hashed order; to sort them and to check their objects,
  all are read once, without decoding their images. It can be pickled.

  Attributes:
    names: of the pictures, S of them.
    targets: features of their objects, `(S, N, 19)`, float32; see
      `clevr_features`.
  """

  def __init__(
    self,
    data_dir: str | os.PathLike[str],
    split: str,
    max_objects: int = 10,
  ):
    """Reads names and objects, with a progress bar.

    Args:
      data_dir: TFDS's directory.
      split: 'train' or 'validation'; 'test' has no objects.
      max_objects: rows N per scene.

    Raises:
      UserError: if a package is missing, the data set is not prepared or not
        readable, or a scene has too many objects.
    """
    require('tensorflow_datasets', 'array_record')
    folder = readable_folder(data_dir)
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    if split not in builder.info.splits:
      raise errors.UserError(
        f'{folder} has no split {split!r}; it has '
        f'{", ".join(builder.info.splits)}.'
      )
    undecoded = {'image': tfds.decode.SkipDecoding()}
    self._records = builder.as_data_source(split, decoders=undecoded)
    objects = builder.info.features['objects'].feature
    named = {key: objects[key].names for key in clevr_features.ATTRIBUTES}
    names, targets = [], []
    for i in tqdm.tqdm(
      range(len(self._records)),
      desc=f'Reading the objects of {split}',
      unit='scene',
      mininterval=0.5 if sys.stderr.isatty() else 30.0,
    ):
      record = self._records[i]
      names.append(record['file_name'].decode())
      targets.append(_features(record, named, max_objects, names[-1]))
    self._order = np.argsort(names)
    self.names = [names[i] for i in self._order]
    self.targets = np.stack(targets)[self._order]

  def __len__(self) -> int:
    """Number of pictures."""
    return len(self.names)

  def picture(self, index: int, image_size: int) -> np.ndarray:
    """One picture, resized; see `clevr_tree.TreePictures.picture`."""
    record = self._records[int(self._order[index])]
    try:
      return pictures.decode(record['image'], image_size)
    except ValueError as e:
      raise errors.UserError(f'{self.names[index]}: {e}') from e


def _features(record, named, max_objects, name):
  """Features of a record's objects, `(N, 19)`."""
  objects = record['objects']
  described = [
    {
      '3d_coords': np.asarray(thing['3d_coords']).tolist(),
      **{key: names[int(thing[key])] for key, names in named.items()},
    }
    for thing in _as_dictionaries(objects)
  ]
  try:
    return clevr_features.features_of(described, max_objects)
  except ValueError as e:
    raise errors.UserError(f'{name}: {e}') from e


def _as_dictionaries(objects):
  """TFDS gives a sequence of structures as a structure of sequences."""
  if isinstance(objects, Mapping):
    keys = list(objects)
    values = (objects[key] for key in keys)
    return [
      dict(zip(keys, row, strict=True)) for row in zip(*values, strict=True)
    ]
  return list(objects)


def identity(data_dir: str | os.PathLike[str], split: str) -> str:
  """A digest that changes with the prepared files of a split.

  Args:
    data_dir: TFDS's directory.
    split: 'train' or 'validation'.

  Raises:
    UserError: if CLEVR is not prepared there, or not readable.
  """
  folder = readable_folder(data_dir)
  shards = sorted(folder.glob(f'*-{split}.*'))
  facts = [(shard.name, shard.stat().st_size) for shard in shards]
  return hashlib.sha256(repr([_FORMAT, *facts]).encode()).hexdigest()


class _Batches:
  """All training batches from a step on, as grain's random-access source."""

  def __init__(self, load: Callable[[int], Any], first_step: int):
    self._load = load
    self._first_step = first_step

  def __len__(self) -> int:
    return 2**40  # Without end, in effect.

  def __getitem__(self, index: int) -> Any:
    return self._load(self._first_step + int(index))

  def __repr__(self) -> str:
    return f'Batches({type(self._load).__name__})'


@contextlib.contextmanager
def loaded_in_workers(
  load: Callable[[int], Any], first_step: int, workers: int, ahead: int = 2
) -> Iterator[Iterator[Any]]:
  """Loads batches ahead with grain.

  The batches and their order do not depend on the number of workers.

  Args:
    load: makes the batch of a step; picklable if there are workers.
    first_step: where to begin.
    workers: processes; 0 loads in threads of this process.
    ahead: batches that are loaded before they are asked for, per worker.

  Yields:
    The batches of `first_step`, `first_step + 1`, … without end.

  Raises:
    UserError: if grain is missing.
  """
  require('grain')
  from absl import flags
  import grain

  batches = grain.MapDataset.source(_Batches(load, first_step))
  options = grain.ReadOptions(
    num_threads=0 if workers else 2,
    prefetch_buffer_size=0 if workers else ahead,
  )
  stream = batches.to_iter_dataset(options)
  if workers:
    # Grain's processes read them, which absl refuses outside of `app.run`.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    stream = stream.mp_prefetch(
      grain.MultiprocessingOptions(
        num_workers=workers, per_worker_buffer_size=ahead
      )
    )
  iterator = iter(stream)
  try:
    yield iterator
  finally:
    iterator.close()
