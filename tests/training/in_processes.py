"""One of two processes that share every batch; run by test_processes.

python in_processes.py INDEX PORT TREE
"""

import itertools
import sys

import jax
import numpy as np

from configs import own_sets
from idspn_jax.tasks import clevr_pictures
from idspn_jax.tasks import clevr_sources
from idspn_jax.training import parallel


def main(index, port, tree):
  """Prints a checksum over the rows of three batches, however they lie."""
  jax.distributed.initialize(f'127.0.0.1:{port}', 2, index)
  config = own_sets.get_config().copy_and_resolve_references()
  with config.unlocked():
    config.data = clevr_sources.default_config()
  config.data.source, config.data.data_dir = 'tree', tree
  config.data.image_size, config.data.cache = 8, False
  config.batch_size = 4
  sources = {'train': clevr_sources.open_split(config.data, 'train')}
  data = clevr_pictures.ClevrPictures(
    config, 0, sources, jax.process_index(), jax.process_count()
  )
  place = parallel.make_parallel('jit', 4).place_batch
  weigh = jax.jit(
    lambda x: (x.reshape(4, -1).astype('float32').sum(1) * np.arange(4)).sum()
  )
  with data.train(1) as batches:
    for batch in itertools.islice(batches, 3):
      assert len(batch['image']) == 2
      placed = place(batch)
      assert placed['image'].shape == (4, 8, 8, 3)
      print(float(weigh(placed['image'])))


if __name__ == '__main__':
  main(int(sys.argv[1]), *sys.argv[2:])
