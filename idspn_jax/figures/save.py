"""Writing figures to disk."""

import os
import pathlib
import uuid

import matplotlib.figure

from idspn_jax.data import local_paths

# Suffixes, and metadata that would make every file differ.
_FORMATS = {'.png': {}, '.pdf': {'CreationDate': None}}


def save_figure(
  figure: matplotlib.figure.Figure,
  path: str | os.PathLike[str],
  dpi: int = 150,
) -> pathlib.Path:
  """Writes a figure as PNG or PDF, by the path's suffix.

  The file appears complete or not at all: it is written under a temporary name
  beside its place and then renamed. The figure can be used afterwards.

  Args:
    figure: what to write; made without pyplot, so no display is needed.
    path: the file, `.png` or `.pdf`; its directory is created.
    dpi: pixels per inch (PNG).

  Returns:
    The path.

  Raises:
    ValueError: if the suffix is another or the path is remote.
    OSError: if the place cannot be written.
  """
  path = local_paths.local_path(path)
  suffix = path.suffix.lower()
  if suffix not in _FORMATS:
    raise ValueError(
      f'{path}: unknown suffix {suffix!r} of a figure; choose one of '
      f'{", ".join(_FORMATS)}.'
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.tmp')
  try:
    figure.savefig(
      partial,
      format=suffix[1:],
      dpi=dpi,
      facecolor='white',
      metadata=_FORMATS[suffix],
    )
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)
  return path
