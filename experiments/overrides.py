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
    overrides: the texts, values as in JSON, several of a key as a list.
    fixed: keys that may not be set.

  Raises:
    UserError: if a key is unknown, fixed or given twice, or the value is of
      another type.
  """
  seen = set()
  for text in overrides:
    key, _, value = text.partition('=')
    if key in seen:
      raise errors.UserError(
        f'--override={text}: {key} is given twice; leave one of them out.'
      )
    seen.add(key)
    *groups, name = key.split('.')
    node = config
    for part in groups:
      node = node.get(part) if _is_group(node) else None
    if not _is_group(node) or name not in node or _is_group(node[name]):
      raise errors.UserError(
        f'--override={text}: {key!r} is no key of the config; write KEY=VALUE '
        'like model.hidden_dim=32.'
      )
    if key in fixed:
      raise errors.UserError(
        f'--override={text}: --cells and --seeds say what {key} is.'
      )
    # Settings that are None know the type that they may have.
    kind = node.get_type(name)
    example = _EXAMPLES.get(kind) if node[name] is None else node[name]
    found = _parse(text, value, kind, example)
    config.update_from_flattened_dict({key: found})


def _is_group(node):
  return isinstance(node, ml_collections.ConfigDict)


# For settings that are None by default.
_EXAMPLES = {bool: True, int: 3, float: 0.5}


def _parse(text, value, kind, example):
  """The value of an override, of the type that the config has."""
  if kind is str:
    return value
  try:
    found = json.loads(value)
    if kind is float and type(found) is int:
      found = float(found)
  except (ValueError, OverflowError, RecursionError):
    found = None
  if kind is tuple and type(found) is list:
    found = tuple(found)
  if type(found) is not kind or (kind is float and not math.isfinite(found)):
    raise errors.UserError(
      f'--override={text}: needs a value like {json.dumps(example)}.'
    )
  return found
