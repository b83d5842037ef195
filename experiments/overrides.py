"""Changes of configurations from the command line."""

from collections.abc import Sequence
import json
import math

import ml_collections

from idspn_jax import errors


def apply(
  config: ml_collections.ConfigDict,
  overrides: Sequence[str],
  fixed: Sequence[str] = (),
) -> None:
  """Sets keys from texts like `model.hidden_dim=32`.

  Args:
    config: is changed.
    overrides: the texts, values as in JSON.
    fixed: keys that may not be set.

  Raises:
    UserError: if a key is unknown or fixed, or the value is of another type.
  """
  known = config.to_dict()
  for text in overrides:
    key, _, value = text.partition('=')
    present = known
    for part in key.split('.'):
      present = present.get(part) if isinstance(present, dict) else None
    if not isinstance(present, bool | int | float | str):
      raise errors.UserError(
        f'--override={text}: {key!r} is no key of the config; write KEY=VALUE '
        'like model.hidden_dim=32.'
      )
    if key in fixed:
      raise errors.UserError(
        f'--override={text}: --cells and --seeds say what {key} is.'
      )
    config.update_from_flattened_dict({key: _parse(text, value, present)})


def _parse(text, value, present):
  """The value of an override, of the type that the config has."""
  kind = type(present)
  if kind is str:
    return value
  try:
    found = json.loads(value)
  except ValueError:
    found = None
  if kind is float and type(found) is int:
    found = float(found)
  if type(found) is not kind or (kind is float and not math.isfinite(found)):
    raise errors.UserError(
      f'--override={text}: needs a value like {json.dumps(present)}.'
    )
  return found
