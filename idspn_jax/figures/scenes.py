"""CLEVR objects seen from above: the truth beside what was predicted."""

from collections.abc import Mapping
import os
import pathlib

import matplotlib.colors
import matplotlib.figure
import matplotlib.lines
import matplotlib.patches
from matplotlib.path import Path
import numpy as np

from idspn_jax.data import clevr_scenes
from idspn_jax.figures import matching
from idspn_jax.figures import save

# The generator's own colours.
RGB = {
  'cyan': '#29d0d0',
  'blue': '#2a4bd7',
  'yellow': '#ffee33',
  'purple': '#8126c0',
  'red': '#ad2323',
  'green': '#1d6914',
  'gray': '#575757',
  'brown': '#814a19',
}
# Outlines of radius 1, drawn at the objects' true radii in scene units.
OUTLINES = {
  'sphere': Path.unit_circle(),
  'cube': Path([(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9), (-0.9, -0.9)]),
  'cylinder': Path([(0, 1.1), (-1.05, -0.75), (1.05, -0.75), (0, 1.1)]),
}
RADII = {'large': 0.7, 'small': 0.35}
EDGES = {'metal': '-', 'rubber': (0, (1.5, 1.2))}
_EDGE = '#111111'
_LIMIT = 4.0
_THRESHOLD = 0.5


def _draw_object(axes, thing):
  alpha = float(np.clip(thing['presence'], 0.0, 1.0))
  x, y, _ = thing['3d_coords']
  outline = OUTLINES[thing['shape']]
  path = Path(outline.vertices * RADII[thing['size']] + (x, y), outline.codes)
  filled = thing['presence'] > _THRESHOLD
  color = RGB[thing['color']]
  axes.add_patch(
    matplotlib.patches.PathPatch(
      path,
      facecolor=matplotlib.colors.to_rgba(color, alpha) if filled else 'none',
      edgecolor=matplotlib.colors.to_rgba(_EDGE if filled else color, alpha),
      linestyle=EDGES[thing['material']],
      linewidth=1.3,
    )
  )


def _draw_set(axes, features):
  """Draws one set, large objects first; returns how many count."""
  finite = np.all(np.isfinite(features), axis=-1)
  objects = clevr_scenes.objects_of(features[finite], threshold=0.0)
  for thing in sorted(objects, key=lambda o: -RADII[o['size']]):
    _draw_object(axes, thing)
  return sum(o['presence'] > _THRESHOLD for o in objects), np.sum(~finite)


def _dress(axes, e, column, num_rows):
  axes.set_xlim(-_LIMIT, _LIMIT)
  axes.set_ylim(-_LIMIT, _LIMIT)
  axes.set_aspect('equal')
  axes.set_xticks([-3, 0, 3])
  axes.set_yticks([-3, 0, 3])
  axes.tick_params(labelsize=7, length=2.5)
  axes.set_axisbelow(True)
  axes.grid(alpha=0.25, linewidth=0.6)
  if column == 0:
    axes.set_ylabel(f'scene {e + 1}\ny', fontsize=8)
  else:
    axes.tick_params(labelleft=False)
  if e == num_rows - 1:
    axes.set_xlabel('x', fontsize=8)
  else:
    axes.tick_params(labelbottom=False)


def _legend(figure):
  def mark(label, marker, size=9.0, color='#cfcfcf', **style):
    style = {'mfc': color, 'mec': _EDGE, 'mew': 1.0} | style
    return matplotlib.lines.Line2D(
      [], [], ls='', marker=marker, markersize=size, label=label, **style
    )

  handles = [mark(k, v) for k, v in OUTLINES.items()]
  handles += [mark('large', 'o', 10.0), mark('small', 'o', 5.0)]
  figure.legend(
    handles=handles,
    loc='outside upper center',
    ncols=5,
    frameon=False,
    fontsize=8,
  )


def draw_scenes(
  targets: np.ndarray,
  predictions: Mapping[int, np.ndarray],
  path: str | os.PathLike[str],
) -> pathlib.Path:
  """Draws CLEVR scenes from above: the truth, then predictions by T.

  Args:
    targets: `(E, M, 19)`, features as `clevr_scenes` has them.
    predictions: sets `(E, N, 19)` by number of inner steps.
    path: of the PNG file.

  Returns:
    The path.

  Raises:
    ValueError: if there is nothing to draw or shapes do not fit.
  """
  return save.save_png(None, path)
