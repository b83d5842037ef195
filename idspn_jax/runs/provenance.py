"""Device, versions and date, to stand beside every number."""

import datetime
import importlib.metadata
import os
import platform
from typing import Any

import jax

_PACKAGES = (
  'idspn-jax',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'jaxopt',
  'numpy',
  'scipy',
  'orbax-checkpoint',
)


def versions() -> dict[str, str]:
  """Versions of Python and of the packages that numbers depend on."""
  found = {'python': platform.python_version()}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def device() -> dict[str, Any]:
  """What the numbers were computed on."""
  first = jax.devices()[0]
  return {
    'platform': first.platform,
    'kind': first.device_kind,
    'count': jax.device_count(),
    'cpu_count': os.cpu_count(),
    'machine': platform.machine(),
  }


def provenance() -> dict[str, Any]:
  """Device, versions and date, to stand beside every number."""
  return {
    'device': device(),
    'versions': versions(),
    'date': datetime.datetime.now(datetime.UTC).date().isoformat(),
  }
