"""The settings that every run has, and their checks."""

from collections.abc import Sequence

import ml_collections

from idspn_jax import errors


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
      'log_every': 100,
      'eval_every': 2_000,
      'checkpoint_every': 1_000,
      'keep_checkpoints': 2,
    }
  )


def with_defaults(stored: dict) -> dict:
  """Completes a stored configuration by settings that came after it."""
  return {**default_config().to_dict(), **stored}


# What may change when a run is resumed; the steps only without a cooldown.
_FREE = (
  'steps',
  'log_every',
  'eval_every',
  'checkpoint_every',
  'keep_checkpoints',
  'eval_batch_size',
)


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses impossible values.

  Args:
    config: like `default_config()`, with the task's parts.

  Raises:
    UserError: naming the first setting that is wrong, and its value.
  """
  for name in (
    'batch_size',
    'eval_batch_size',
    'steps',
    'log_every',
    'eval_every',
    'checkpoint_every',
    'keep_checkpoints',
  ):
    value = config[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
      raise errors.UserError(
        f'config.{name} must be a positive integer; got {value!r}.'
      )
  if not config.learning_rate > 0:
    raise errors.UserError(
      f'config.learning_rate must be positive; got {config.learning_rate}.'
    )
  if not 0 <= config.cooldown <= 1:
    raise errors.UserError(
      'config.cooldown is a share of the steps, between 0 and 1; got '
      f'{config.cooldown}.'
    )
  if not 0 <= config.seed < 2**32:
    raise errors.UserError(
      f'config.seed must be between 0 and 2**32 - 1; got {config.seed}.'
    )


def _flat(tree, prefix=''):
  for key, value in tree.items():
    if isinstance(value, dict):
      yield from _flat(value, f'{prefix}{key}.')
    else:
      yield prefix + key, value


def differences(old: dict, new: dict, free: Sequence[str] = _FREE) -> list[str]:
  """Lists settings that differ and may not when a run is resumed.

  Args:
    old: the run's configuration as a dictionary.
    new: the present one.
    free: keys that may differ.

  Returns:
    Lines like `model.iterations: 10 -> 20`.
  """
  before, after = dict(_flat(old)), dict(_flat(new))
  if before.get('cooldown') or after.get('cooldown'):
    free = [key for key in free if key != 'steps']
  return [
    f'{key}: {before.get(key)!r} -> {after.get(key)!r}'
    for key in sorted({*before, *after})
    if key not in free and before.get(key) != after.get(key)
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
  given = dict(defaults)
  for part in filter(None, text.split(',')):
    key, _, value = part.partition('=')
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
