"""Prepares CLEVR for random access with TensorFlow Datasets' own builder.

    python -m experiments.prepare_clevr --source=CLEVR_v1.0.zip --data_dir=DIR

Reads the official zip, or its unpacked folder (also one that
experiments.render_clevr wrote), and writes DIR/clevr/VERSION as array_record,
without TensorFlow and without network. Then train with
--config.data.data_dir=DIR. The zip is unpacked for a while inside DIR, so DIR
needs twice its size; of a folder, once. --image_size=128 also makes the cache
of resized pictures that training would make.
"""

from absl import flags

from experiments import command_line
from idspn_jax import errors

_SOURCE = flags.DEFINE_string(
  'source', None, 'CLEVR_v1.0.zip, or its unpacked folder.'
)
_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Directory of TFDS.')
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace what is prepared in --data_dir.'
)
_IMAGE_SIZE = flags.DEFINE_integer(
  'image_size', None, 'Also make the cache of this size.', lower_bound=1
)


def main(argv):
  """Prepares the data and says where they are."""
  del argv
  if not _SOURCE.value or not _DATA_DIR.value:
    raise errors.UserError(
      'Say what to read and where to write: --source=CLEVR_v1.0.zip '
      '--data_dir=DIR.'
    )
  # Here, so that --help and wrong flags answer at once.
  from idspn_jax.data import clevr_tfds

  place = clevr_tfds.prepare(_SOURCE.value, _DATA_DIR.value, _OVERWRITE.value)
  print(f'Prepared {place}')
  if _IMAGE_SIZE.value:
    from idspn_jax.tasks import clevr_sources

    config = clevr_sources.default_config()
    config.data_dir, config.image_size = _DATA_DIR.value, _IMAGE_SIZE.value
    for split in ('train', 'test'):
      found = clevr_sources.open_split(config, split)
      print(f'{len(found)} pictures of {split}')
    print(f'Cached in {clevr_sources.cache_folder(config)}')
  return 0


if __name__ == '__main__':
  command_line.run(main)
