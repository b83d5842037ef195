"""Writing figures to disk."""

import os
import pathlib
import uuid

import matplotlib.figure


def save_png(
  figure: matplotlib.figure.Figure,
  path: str | os.PathLike[str],
  dpi: int = 150,
) -> pathlib.Path:
  """Writes a figure as PNG and clears it.

  The file appears complete or not at all: it is written under a temporary name
  beside its place and then renamed.

  Args:
    figure: what to write; made without pyplot, so no display is needed.
    path: the file; its directory is created.
    dpi: pixels per inch.

  Returns:
    The path.

  Raises:
    OSError: if the place cannot be written.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.tmp')
  try:
    figure.savefig(partial, format='png', dpi=dpi, facecolor='white')
    os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)
    figure.clear()
  return path
