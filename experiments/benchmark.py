"""Measures whole training steps (forward, Hungarian loss, backward, Adam).

    python -m experiments.benchmark --suite=train_step --set_size=16 \
      --set_dim=8 --iterations=20 --gradient=jacobian_free --json=FILE
    python -m experiments.benchmark --suite=train_step --task=numbering
    python -m experiments.benchmark --suite=memory --json=FILE
    python -m experiments.benchmark --suite=input --data_dir=DIR

`train_step` times a step against the same step whose FSPool is plain
`jnp.sort` under autodiff, in turn. `memory` prints the compiler's peak memory
of a step at T = 10, 20, 40, 80, 160 for every gradient mode that applies. The
task is random multisets (Section 4.2), or class numbering in the paper's size
(Section 4.1). `input` measures how many pictures a second arrive of CLEVR as
prepared in DIR (see experiments.prepare_clevr), with 0, 1 and 2 workers and
from the cache, and compares with what a training step of configs/clevr.py uses
up, --setting=full or reduced at --image_size, or with --step_ms of one's own.
"""

import json
import os
import statistics

from absl import flags
import ml_collections

from experiments import command_line
from idspn_jax import errors

_SUITE = flags.DEFINE_enum(
  'suite', 'train_step', ['train_step', 'memory', 'input'], 'What to measure.'
)
_JSON = flags.DEFINE_string('json', None, 'File to write the figures to.')
_DEFAULTS = {
  'multisets': {'set_size': 16, 'set_dim': 8, 'hidden_dim': 512},
  'numbering': {'set_size': 64, 'num_classes': 4, 'hidden_dim': 256},
}
_TASK = flags.DEFINE_enum(
  'task', 'multisets', list(_DEFAULTS), 'Which experiment.'
)
_SIZES = {
  name: flags.DEFINE_integer(name, None, text, lower_bound=1)
  for name, text in (
    ('set_size', 'Elements per set; default 16, numbering 64.'),
    ('set_dim', 'Features per element (multisets); default 8.'),
    ('num_classes', 'Classes (numbering); default 4.'),
    ('hidden_dim', 'Width and latent size; default 512, numbering 256.'),
  )
}
_ITERATIONS = flags.DEFINE_integer(
  'iterations', 20, 'Inner steps (train_step).', lower_bound=1
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 128, 'Sets per batch.', lower_bound=1
)
_REPEATS = flags.DEFINE_integer(
  'repeats', 7, 'Counted steps (train_step).', lower_bound=1
)
_GRADIENT = flags.DEFINE_string('gradient', 'jacobian_free', 'Gradient mode.')
_MOMENTUM = flags.DEFINE_float('momentum', 0.9, 'Inner momentum.')
_POOL = flags.DEFINE_string('pool', 'fs', 'Pooling of the inner encoder.')
_DATA_DIR = flags.DEFINE_string('data_dir', None, 'Where CLEVR is (input).')
_SOURCE = flags.DEFINE_enum(
  'source', 'tfds', ['tfds', 'tree'], 'What lies in --data_dir (input).'
)
_IMAGE_SIZE = flags.DEFINE_integer(
  'image_size', 128, 'Edge length of pictures (input).', lower_bound=1
)
_SETTING = flags.DEFINE_enum(
  'setting',
  'full',
  ['full', 'reduced'],
  'Which model of configs/clevr.py to train (input).',
)
_STEP_MS = flags.DEFINE_float(
  'step_ms', None, 'A measured training step to compare with (input).', 0.0
)
_WORKERS = (0, 1, 2)
_MEMORY_ITERATIONS = (10, 20, 40, 80, 160)


def _sizes():
  sizes = dict(_DEFAULTS[_TASK.value])
  for name, flag in _SIZES.items():
    if flag.value is not None and name not in sizes:
      raise errors.UserError(f'--{name} has no meaning for {_TASK.value}.')
    if flag.value is not None:
      sizes[name] = flag.value
  return sizes


def _config(pool: str) -> ml_collections.ConfigDict:
  from configs import class_numbering
  from configs import random_multisets

  if _TASK.value == 'numbering':
    unrolled = _GRADIENT.value.startswith('unrolled')
    model = 'dspn' if unrolled else 'idspn'
    config = class_numbering.get_config(f'model={model}')
    config.data.num_validation = 1
    config.data.distinct_classes = 0
  else:
    config = random_multisets.get_config()
  sizes = _sizes()
  width = sizes.pop('hidden_dim')
  config.model.hidden_dim = config.model.latent_dim = width
  config.data.update(sizes)
  config.data.num_train = config.batch_size = _BATCH_SIZE.value
  config.data.num_test = 1
  config.model.iterations = _ITERATIONS.value
  config.model.gradient, config.model.momentum = (
    _GRADIENT.value,
    _MOMENTUM.value,
  )
  config.model.pool = pool
  return config


def _train_step(benchmarks):
  names = (_POOL.value, 'fs_autodiff')
  steps = [benchmarks.CompiledStep(_config(name)) for name in names]
  ours, sort = benchmarks.time_side_by_side(steps, _REPEATS.value)
  ratio = statistics.median(sort) / statistics.median(ours)
  print(f'{"pool":14}{"median ms":>10}{"min ms":>10}')
  for name, found in zip(names, (ours, sort), strict=True):
    median = statistics.median(found)
    print(f'{name:14}{1e3 * median:10.1f}{1e3 * min(found):10.1f}')
  print(f'{ratio:.2f} times faster than jnp.sort under autodiff')
  return {
    'seconds': ours,
    'sort_autodiff_seconds': sort,
    'speedup_over_sort_autodiff': ratio,
  }


def _memory(benchmarks):
  def show(row):
    print(
      f'{row["gradient"]:24}T = {row["iterations"]:4}'
      f'{row["peak_bytes"] / 2**20:10.1f} MiB',
      flush=True,
    )

  config = _config(_POOL.value)
  return {
    'rows': benchmarks.memory_rows(config, _MEMORY_ITERATIONS, progress=show)
  }


def _image_config(source):
  """A training of configs/clevr.py on these pictures."""
  from configs import clevr

  size = _IMAGE_SIZE.value
  arguments = f'setting={_SETTING.value},data={source},size={size}'
  config = clevr.get_config(arguments)
  config.data.data_dir = _DATA_DIR.value
  return config


def _input(benchmarks):
  from idspn_jax.studies import input_speed
  from idspn_jax.tasks import clevr_sources

  del benchmarks
  if not _DATA_DIR.value:
    raise errors.UserError('Say where CLEVR is: --data_dir=DIR.')
  config = _image_config(_SOURCE.value)
  pictures = len(clevr_sources.open_split(config.data, 'train'))
  config.batch_size = batch_size = min(_BATCH_SIZE.value, pictures)
  # Without grain, a folder is read in this process.
  workers = _WORKERS if _SOURCE.value == 'tfds' else (0,)
  rows = input_speed.input_rows(
    config.data, batch_size, workers, _REPEATS.value
  )
  step = (_STEP_MS.value or 0.0) / 1e3
  what = 'the given training step'
  if not step:
    step = input_speed.step_seconds(config, _REPEATS.value)
    what = f'a training step of configs/clevr.py, {_SETTING.value}'
  needed = batch_size / step
  print(f'{"read from":10}{"workers":>8}{"pictures/s":>12}{"× needed":>10}')
  for row in rows:
    count = '' if row['workers'] is None else row['workers']
    speed = row['pictures_per_second']
    print(f'{row["source"]:10}{count:>8}{speed:12.0f}{speed / needed:10.1f}')
  print(
    f'{what}, of {batch_size} pictures takes {1e3 * step:.1f} ms: '
    f'{needed:.0f} pictures/s needed'
  )
  return {
    'rows': rows,
    'step_seconds': step,
    'step': what,
    'pictures_per_second_needed': needed,
    'image_config': json.loads(config.to_json()),
  }


def main(argv):
  """Measures, prints, and writes the JSON file if asked to."""
  del argv
  from idspn_jax.runs import files
  from idspn_jax.runs import provenance
  from idspn_jax.studies import benchmarks

  path = _JSON.value and files.local_path(_JSON.value, '--json')
  if path:
    # Before anything is measured.
    files.make_directory(os.path.dirname(path) or '.', '--json')
    if os.path.isdir(path):
      raise errors.UserError(f'--json={path} is a directory; give a file.')
  suites = {'train_step': _train_step, 'memory': _memory, 'input': _input}
  suite = suites[_SUITE.value]
  found = suite(benchmarks)
  if path:
    config = json.loads(_config(_POOL.value).to_json())
    files.write_json(
      path,
      {
        'suite': _SUITE.value,
        'config': config,
        **found,
        **provenance.provenance(),
      },
    )
    print(f'Saved in {path}')


if __name__ == '__main__':
  command_line.run(main)
