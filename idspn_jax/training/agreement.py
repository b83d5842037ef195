"""Refuses processes that train one run with different settings or data.

They would compute wrong numbers, or wait for each other without end.
"""

import collections
from collections.abc import Mapping, Sequence
import json
from typing import Any

import jax
import ml_collections

from idspn_jax import errors
from idspn_jax.runs import config as config_lib
from idspn_jax.runs import provenance
from idspn_jax.training import hosts

# Settings of JAX that change what is computed.
_JAX = (
  'jax_enable_x64',
  'jax_default_matmul_precision',
  'jax_default_prng_impl',
  'jax_threefry_partitionable',
  'jax_numpy_dtype_promotion',
)
# Where a host has its files, and how it reads them.
_OWN = ('data.path', 'data.data_dir', 'data.cache_dir', 'data.workers')


def check_configs(configs: Sequence[ml_collections.ConfigDict]) -> None:
  """Compares configs, settings and versions of JAX in all processes.

  Paths of data may differ. All processes call it, before anything else that
  waits for the others and depends on a config.

  Args:
    configs: of this process.

  Raises:
    UserError: in all processes, naming what differs.
  """
  if hosts.count() == 1:
    return
  own = collections.Counter(d.process_index for d in jax.devices())
  if len(set(own.values())) > 1:
    counts = ', '.join(f'{own[i]} in process {i}' for i in sorted(own))
    raise errors.UserError(
      f'The processes have different numbers of devices ({counts}); give all '
      'the same.'
    )
  versions = provenance.versions()
  settings = {
    f'config{[i] if i else ""}': json.loads(config.to_json())
    for i, config in enumerate(configs)
  }
  free = [f'{name}.{key}' for name in settings for key in _OWN]
  for name in _JAX:
    settings[name] = str(getattr(jax.config, name, None))
  for name in ('jax', 'jaxlib'):
    settings[f'version of {name}'] = versions.get(name)
  _compare(settings, free)


def check_data(record: Mapping[str, Any] | None) -> None:
  """Compares the digests of data files in all processes.

  Args:
    record: of this process; see `Experiment.record`.

  Raises:
    UserError: in all processes, if the files differ.
  """
  if hosts.count() > 1:
    _compare({'digest of the data': (record or {}).get('digest')})


def _compare(settings, free=()):
  first, *others = map(json.loads, hosts.gather(json.dumps(settings)))
  for i, other in enumerate(others, start=1):
    if found := config_lib.differences(first, other, free=free):
      raise errors.UserError(
        f'Process {i} differs from process 0: {"; ".join(found)}. Start all '
        'processes with the same settings, data and versions.'
      )
