"""Measures whole training steps (forward, Hungarian loss, backward, Adam).

    python -m experiments.benchmark --suite=train_step --set_size=16 \
      --set_dim=8 --iterations=20 --gradient=jacobian_free --json=FILE
    python -m experiments.benchmark --suite=memory --json=FILE

`train_step` times a step against the same step whose FSPool is plain
`jnp.sort` under autodiff, in turn. `memory` prints the compiler's peak memory
of a step for every gradient mode at T = 10, 20, 40, 80, 160.
"""

import json
import statistics

from absl import flags
import ml_collections

from experiments import command_line

_SUITE = flags.DEFINE_enum(
  'suite', 'train_step', ['train_step', 'memory'], 'What to measure.'
)
_JSON = flags.DEFINE_string('json', None, 'File to write the figures to.')
_SIZES = {
  name: flags.DEFINE_integer(name, default, text, lower_bound=1)
  for name, default, text in (
    ('set_size', 16, 'Elements per set.'),
    ('set_dim', 8, 'Features per element.'),
    ('iterations', 20, 'Inner steps (train_step).'),
    ('batch_size', 128, 'Sets per batch.'),
    ('hidden_dim', 512, 'Width of the set encoders, and latent size.'),
    ('repeats', 7, 'Counted steps (train_step).'),
  )
}
_GRADIENT = flags.DEFINE_string('gradient', 'jacobian_free', 'Gradient mode.')
_MOMENTUM = flags.DEFINE_float('momentum', 0.9, 'Inner momentum.')
_POOL = flags.DEFINE_string('pool', 'fs', 'Pooling of the inner encoder.')
_MEMORY_ITERATIONS = (10, 20, 40, 80, 160)


def _config(pool: str) -> ml_collections.ConfigDict:
  from configs import random_multisets

  config = random_multisets.get_config()
  size = {name: flag.value for name, flag in _SIZES.items()}
  config.data.set_size, config.data.set_dim = size['set_size'], size['set_dim']
  config.data.num_train = config.batch_size = size['batch_size']
  config.data.num_test = 1
  config.model.hidden_dim = config.model.latent_dim = size['hidden_dim']
  config.model.iterations = size['iterations']
  config.model.gradient, config.model.momentum = (
    _GRADIENT.value,
    _MOMENTUM.value,
  )
  config.model.pool = pool
  return config


def _train_step(benchmarks):
  names = (_POOL.value, 'fs_autodiff')
  steps = [benchmarks.CompiledStep(_config(name)) for name in names]
  ours, sort = benchmarks.time_side_by_side(steps, _SIZES['repeats'].value)
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


def main(argv):
  """Measures, prints, and writes the JSON file if asked to."""
  del argv
  from idspn_jax.training import benchmarks
  from idspn_jax.training import records

  suite = {'train_step': _train_step, 'memory': _memory}[_SUITE.value]
  found = suite(benchmarks)
  if _JSON.value:
    config = json.loads(_config(_POOL.value).to_json())
    records.write_json(
      _JSON.value,
      {
        'suite': _SUITE.value,
        'config': config,
        **found,
        **records.provenance(),
      },
    )
    print(f'Saved in {_JSON.value}')


if __name__ == '__main__':
  command_line.run(main)
