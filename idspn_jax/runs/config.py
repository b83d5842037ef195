"""The settings that every run has, their checks, and how they are stored."""

from collections.abc import Mapping, Sequence
import copy
import math
from typing import Any

import ml_collections

from idspn_jax import checks
from idspn_jax import errors
from idspn_jax.tasks import registry

SCHEDULES = ('constant', 'cosine', 'linear', 'steps')
OPTIMIZERS = ('adam', 'sgd')
PARALLEL = ('jit', 'pmap')
ON_NONFINITE = ('stop', 'skip')


def default_config() -> ml_collections.ConfigDict:
  """Settings of the outer training; tasks add `task`, `data` and `model`."""
  return ml_collections.ConfigDict(
    {
      'seed': 0,
      'loss': 'hungarian',
      'batch_size': 128,
      'eval_batch_size': 128,
      'steps': 20_000,
      'learning_rate': 1e-3,
      # The share of the steps, the last ones, over which it falls to zero.
      'cooldown': 0.0,
      'optimizer': default_optimizer(),
      # Decay of the moving average of the parameters that is evaluated; 0
      # evaluates the parameters themselves.
      'ema_decay': 0.0,
      # Whether that average forgets the first steps (decay at most (1 + step) /
      # (10 + step)) and covers statistics such as BatchNorm's; false in runs
      # before this setting.
      'ema_warmup': True,
      # Inner steps by training step: '' for model.iterations throughout, or
      # see `training.iterations`.
      'iterations_schedule': '',
      # Likewise the starts, '' for model.restarts throughout.
      'restarts_schedule': '',
      # What a loss or gradient that is not finite does: 'stop' ends the run and
      # saves what experiments.replay needs, 'skip' leaves the update out and
      # counts it.
      'on_nonfinite': 'stop',
      # A run's directory, or the name of a model that comes with the package,
      # whose variables are those before the first step; '' for fresh ones. And
      # which part of them: '' for all, or a part such as 'decoder'.
      'initial_weights': ml_collections.ConfigDict({'source': '', 'part': ''}),
      # How a step runs on several devices: 'jit' over a mesh, or 'pmap'.
      'parallel': 'jit',
      # How random streams follow from the seed; 1 in runs before this setting.
      'random_streams': 2,
      'log_every': 100,
      'eval_every': 2_000,
      'checkpoint_every': 1_000,
      'keep_checkpoints': 2,
    }
  )


def default_optimizer() -> ml_collections.ConfigDict:
  """Adam at a constant learning rate, the paper's outer optimiser."""
  return ml_collections.ConfigDict(
    {
      'name': 'adam',
      'momentum': 0.0,  # Of SGD.
      # Decoupled from the gradient and its moments, as in AdamW.
      'weight_decay': 0.0,
      'clip_norm': 0.0,  # Largest norm of the whole gradient; 0 for no limit.
      'warmup_steps': 0,  # Linear, from zero.
      # 'constant', 'cosine' or 'linear' (to zero at the last step), or 'steps'.
      'schedule': 'constant',
      # Of 'steps': shares of the training after which the rate is multiplied.
      'drops': (0.9,),
      'drop_factor': 0.1,
    }
  )


# Settings that came after the first runs or were replaced in a task's config
# files: the value of older runs, and today's.
_BEFORE = {'random_streams': (1, 2), 'ema_warmup': (False, True)}
_REPLACED = {
  'class_numbering': {
    'optimizer.warmup_steps': (0, 500),
    'model.projection': ('simplex', 'simplex_straight_through'),
  }
}


def check_stored(stored: Mapping[str, Any]) -> None:
  """Refuses a stored configuration whose parts are not what they must be.

  Args:
    stored: the content of a run's `config.json`.

  Raises:
    UserError: naming the first part that is wrong.
  """
  if not isinstance(stored['task'], str):
    raise errors.UserError(f'task is {stored["task"]!r}, not a name.')
  defaults = _defaults(stored['task'])
  if registry.defaults(stored['task']):
    stored = {'data': None, 'model': None, **stored}
  _check_kinds(defaults, stored)
  try:
    config = ml_collections.ConfigDict(complete(stored))
  except ValueError as e:  # Names with dots.
    raise errors.UserError(f'Not the name of a setting: {e}') from e
  check(config)


def _defaults(task):
  """Defaults of all settings that are known of a task."""
  own = registry.defaults(task) if isinstance(task, str) else {}
  found = _merged(default_config().to_dict(), own)
  return {**found, 'data': {}} if own else found


_KINDS = {
  Mapping: 'a mapping',
  str: 'a text',
  list | tuple: 'a list',
  int | float: 'a number',
}


def _check_kinds(defaults, given, prefix='', kinds=_KINDS):
  """Refuses values of another kind than their defaults'."""
  for name, value in given.items():
    default = defaults.get(name)
    for kind in kinds:
      if isinstance(default, kind) and not isinstance(value, kind):
        raise errors.UserError(
          f'{prefix}{name} is {value!r}, not {_KINDS[kind]}.'
        )
    if isinstance(default, Mapping):
      _check_kinds(default, value, f'{prefix}{name}.', kinds)


def _check_present(defaults, given, prefix='config.'):
  """Refuses a configuration that lacks settings."""
  for name, default in defaults.items():
    if name not in given:
      raise errors.UserError(
        f'{prefix}{name} is missing; start from runs.config.default_config().'
      )
    if isinstance(default, Mapping):
      _check_present(default, given[name], f'{prefix}{name}.')


def complete(stored: Mapping[str, Any]) -> dict[str, Any]:
  """Completes a stored configuration by settings that came after it.

  Args:
    stored: the content of a run's `config.json`.

  Returns:
    `stored`, with the missing keys at the values that it was run with.
  """
  before = {key: older for key, (older, _) in _BEFORE.items()}
  defaults = {**default_config().to_dict(), **before}
  found = _merged(_merged(defaults, registry.defaults(stored['task'])), stored)
  data = found.get('data')
  if isinstance(data, dict) and 'test_fraction' in data:
    # The split once followed from the run's seed.
    data.setdefault('split_seed', found['seed'])
  return found


def _merged(below, above):
  """Deep merge; values of `above` win."""
  out = dict(below)
  for key, value in above.items():
    both = isinstance(out.get(key), Mapping) and isinstance(value, Mapping)
    out[key] = _merged(out[key], value) if both else copy.deepcopy(value)
  return out


def inherit(
  config: ml_collections.ConfigDict, stored: Mapping[str, Any]
) -> ml_collections.ConfigDict:
  """Continues an older run with the values that it was started with.

  Args:
    config: the present configuration.
    stored: the content of the run's `config.json`.

  Returns:
    `config`, or a copy where settings that have the value of older runs in
    `stored` (or are missing there), and today's default in `config`, have that
    older value.
  """
  old = complete(stored)
  pairs = {**_BEFORE, **_REPLACED.get(old['task'], {})}
  then, now = dict(_flat(old)), dict(_flat(config.to_dict()))
  changed = {
    key: older
    for key, (older, newer) in pairs.items()
    if (then.get(key), now.get(key)) == (older, newer)
  }
  # Runs from before `random_streams` may have split by their seed.
  split_seed = old.get('data', {}).get('split_seed')
  if changed.get('random_streams') and split_seed is not None:
    if config.data.get('split_seed') == 0:
      changed['data.split_seed'] = split_seed
  if not changed:
    return config
  older = config.copy_and_resolve_references()
  with older.unlocked():
    older.update_from_flattened_dict(changed)
  return older


def changes(
  config: ml_collections.ConfigDict, adopted: ml_collections.ConfigDict
) -> dict[str, Any]:
  """What `inherit` has changed, by keys like `data.split_seed`."""
  before, after = (dict(_flat(c.to_dict())) for c in (config, adopted))
  return {key: after[key] for key in after if after[key] != before.get(key)}


# What may change when a run is resumed.
_FREE = (
  'log_every',
  'eval_every',
  'checkpoint_every',
  'keep_checkpoints',
  'eval_batch_size',
  'parallel',
  'on_nonfinite',
)


def depends_on_steps(config: Mapping[str, Any]) -> bool:
  """Whether the number of steps enters the training before its end.

  Then it may not change when a run is resumed.

  Args:
    config: a complete configuration as a dictionary.
  """
  return bool(
    config['cooldown']
    or config['optimizer']['schedule'] != 'constant'
    or any(
      '@' in config[name] or config[name].strip().startswith('linear')
      for name in ('iterations_schedule', 'restarts_schedule')
    )
  )


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses impossible values.

  Args:
    config: like `default_config()`, with the task's parts.

  Raises:
    UserError: naming the first setting that is wrong, and its value.
  """
  given = config.to_dict()
  # Numbers have checks of their own.
  kinds = (Mapping, str, list | tuple)
  _check_kinds(_defaults(given.get('task')), given, 'config.', kinds)
  _check_present(default_config().to_dict(), given)
  for name, value in _flat(given):
    if isinstance(value, float) and not math.isfinite(value):
      raise errors.UserError(f'config.{name} must be finite; got {value}.')
    # What is counted on a device is counted in int32.
    if isinstance(value, int) and value >= 2**31 and not name.endswith('seed'):
      raise errors.UserError(f'config.{name} must be below 2**31; got {value}.')
  for name in (
    'batch_size',
    'eval_batch_size',
    'steps',
    'log_every',
    'eval_every',
    'checkpoint_every',
    'keep_checkpoints',
  ):
    checks.integer(config[name], f'config.{name}')
  checks.number(config.learning_rate, 'config.learning_rate', positive=True)
  for name in ('cooldown', 'ema_decay'):
    checks.number(config[name], f'config.{name}', least=0, most=1)
  checks.boolean(config.ema_warmup, 'config.ema_warmup')
  if config.ema_decay == 1:
    raise errors.UserError(
      'config.ema_decay must be below 1, or the average never changes; got 1.'
    )
  checks.integer(config.seed, 'config.seed', least=0)
  if config.seed >= 2**32:
    raise errors.UserError(f'config.seed must be < 2**32; got {config.seed}.')
  checks.choice(config.parallel, 'config.parallel', PARALLEL)
  checks.choice(config.on_nonfinite, 'config.on_nonfinite', ON_NONFINITE)
  if config.random_streams not in (1, 2):
    raise errors.UserError(
      f'config.random_streams must be 1 or 2; got {config.random_streams!r}.'
    )
  _check_optimizer(config)


def _check_optimizer(config):
  own = config.optimizer
  checks.choice(own.name, 'config.optimizer.name', OPTIMIZERS)
  checks.choice(own.schedule, 'config.optimizer.schedule', SCHEDULES)
  checks.integer(own.warmup_steps, 'config.optimizer.warmup_steps', least=0)
  for name in ('weight_decay', 'clip_norm', 'momentum'):
    checks.number(own[name], f'config.optimizer.{name}', least=0)
  if own.momentum >= 1:
    raise errors.UserError(
      f'config.optimizer.momentum must be below 1; got {own.momentum}.'
    )
  if own.momentum and own.name != 'sgd':
    raise errors.UserError(
      f'config.optimizer.momentum is for sgd; {own.name} has its own.'
    )
  checks.number(own.drop_factor, 'config.optimizer.drop_factor', positive=True)
  for share in own.drops:
    checks.number(share, 'config.optimizer.drops', least=0, most=1)
  if config.cooldown and own.schedule != 'constant':
    raise errors.UserError(
      f'config.cooldown={config.cooldown} and config.optimizer.schedule='
      f'{own.schedule!r} both lower the learning rate; set one of them.'
    )


def _flat(tree, prefix=''):
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f'{prefix}{key}.')
    else:
      # JSON has no tuples.
      yield prefix + key, list(value) if isinstance(value, tuple) else value


def differences(
  old: Mapping[str, Any],
  new: Mapping[str, Any],
  free: Sequence[str] | None = None,
  more_free: Sequence[str] = (),
) -> list[str]:
  """Lists settings that differ and may not when a run is resumed.

  Args:
    old: the run's configuration as a dictionary.
    new: the present one.
    free: keys that may differ; by default those that do not change what is
      computed.
    more_free: keys that may differ besides.

  Returns:
    Lines like `model.iterations: 10 -> 20`.
  """
  before, after = dict(_flat(old)), dict(_flat(new))
  if free is None:
    fixed = depends_on_steps(old) or depends_on_steps(new)
    free = _FREE if fixed else ('steps', *_FREE)
  return [
    f'{key}: {before.get(key)!r} -> {after.get(key)!r}'
    for key in sorted({*before, *after})
    if key not in (*free, *more_free) and before.get(key) != after.get(key)
  ]


def parse_arguments(text: str, defaults: dict) -> dict:
  """Parses what follows a config file's colon, like `n=4,d=8`.

  Args:
    text: comma-separated `key=value` pairs, or nothing.
    defaults: the allowed keys; a value takes the type of its default.

  Returns:
    The defaults with the given values in their place.

  Raises:
    UserError: if a key is unknown or a value has the wrong type.
  """
  given, seen = dict(defaults), set()
  for part in filter(None, text.split(',')):
    key, _, value = part.partition('=')
    if key in seen:
      raise errors.UserError(f'Config argument {key} is given twice.')
    seen.add(key)
    if key not in defaults:
      raise errors.UserError(
        f'Unknown config argument {part!r}; known: {", ".join(defaults)}.'
      )
    try:
      given[key] = type(defaults[key])(value)
    except ValueError:
      raise errors.UserError(
        f'Config argument {key} needs {type(defaults[key]).__name__}; got '
        f'{value!r}.'
      ) from None
  return given
