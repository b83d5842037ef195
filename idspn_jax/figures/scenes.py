"""CLEVR objects seen from above: the truth beside what was predicted."""

from collections.abc import Mapping

import matplotlib.artist
import matplotlib.colors
import matplotlib.figure
import matplotlib.lines
import matplotlib.patches
from matplotlib.path import Path
import numpy as np

from idspn_jax.data import clevr_features
from idspn_jax.figures import panels

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
  'cube': Path(
    [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9), (-0.9, -0.9)]
  ),
  'cylinder': Path([(0, 1.1), (-1.05, -0.75), (1.05, -0.75), (0, 1.1)]),
}
RADII = {'large': 0.7, 'small': 0.35}
EDGES = {'metal': '-', 'rubber': (0, (1.5, 1.2))}
_EDGE = '#111111'
LIMIT = 4.0
_THRESHOLD = clevr_features.THRESHOLD


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


def _draw_set(axes, features, truth=None):
  """Draws one set, large objects first; returns its title's second line."""
  finite = np.all(np.isfinite(features), axis=-1)
  objects = clevr_features.objects_of(features[finite], threshold=0.0)
  for thing in sorted(objects, key=lambda o: -RADII[o['size']]):
    _draw_object(axes, thing)
  counted = [o for o in objects if o['presence'] > _THRESHOLD]
  if truth is None:
    return f'{len(counted)} objects'
  true = [o['3d_coords'] for o in clevr_features.objects_of(truth)]
  for x, y, _ in true:
    axes.plot(x, y, '+', color='white', markersize=6, mew=2.4, zorder=4)
    axes.plot(x, y, '+', color='black', markersize=5, mew=0.9, zorder=5)
  far = [max(map(abs, o['3d_coords'][:2])) > LIMIT for o in counted]
  panels.note_outside(axes, sum(far))
  title = f'{len(counted)} predicted / {len(true)} true'
  return title if finite.all() else f'{title}, {np.sum(~finite)} non-finite'


def _dress(axes, e, column, num_rows):
  """Scales, and labels at the left and lower edge of the grid only."""
  axes.set_xlim(-LIMIT, LIMIT)
  axes.set_ylim(-LIMIT, LIMIT)
  axes.set_aspect('equal')
  axes.set_xticks([-3, 0, 3])
  axes.set_yticks([-3, 0, 3])
  axes.tick_params(labelsize=7, length=2.5)
  axes.grid(alpha=0.25, linewidth=0.6)
  axes.set_axisbelow(True)
  if column == 0:
    axes.set_ylabel(f'scene {e + 1}\ny', fontsize=8)
  else:
    axes.tick_params(labelleft=False)
  if e == num_rows - 1:
    axes.set_xlabel('x', fontsize=8)
  else:
    axes.tick_params(labelbottom=False)


def legend_handles(
  outlines: Mapping[str, Path], places: bool = True
) -> list[matplotlib.artist.Artist]:
  """What a legend explains: shapes and materials.

  Args:
    outlines: of the shapes.
    places: explain the marks of absent objects and of true places too.
  """

  def mark(label, marker, size=9.0, **style):
    style = {'mfc': '#d5d5d5', 'mec': _EDGE, 'mew': 1.0} | style
    return matplotlib.lines.Line2D(
      [], [], ls='', marker=marker, markersize=size, label=label, **style
    )

  handles = [mark(shape, path) for shape, path in outlines.items()]
  handles += [
    matplotlib.patches.Patch(
      facecolor='#d5d5d5', edgecolor=_EDGE, linestyle=style, label=material
    )
    for material, style in EDGES.items()
  ]
  if not places:
    return handles
  return handles + [
    mark('absent (presence ≤ 0.5)', 'o', mfc='none', mec='#aaaaaa'),
    mark('true place', '+', 6.0, mec='black'),
  ]


def _legend(figure):
  handles = legend_handles(OUTLINES)
  figure.legend(
    handles=handles,
    loc='outside upper center',
    ncols=len(handles) if figure.get_figwidth() > 8.0 else 4,
    frameon=False,
    fontsize=8,
    handletextpad=0.4,
    columnspacing=1.2,
  )


def draw_scenes(
  targets: np.ndarray,
  predictions: Mapping[int | str, np.ndarray],
  *,
  trained_with: int | None = None,
) -> matplotlib.figure.Figure:
  """Draws CLEVR scenes from above: the truth, then predictions by T.

  Objects have their true radii and colours, in scene units; the camera looks
  from the lower right. A prediction is as opaque as it is present; up to a
  presence of 0.5 it is an outline only and does not count.

  Args:
    targets: `(E, M, 19)`, features as in `clevr_features`.
    predictions: sets `(E, N, 19)` by number of inner steps, or by label.
    trained_with: number of inner steps in training; its column is marked.

  Returns:
    The figure.

  Raises:
    ValueError: if there is nothing to draw or shapes do not fit.
  """
  targets, predictions = panels.check_panels(
    targets, predictions, clevr_features.NUM_FEATURES
  )
  figure, grid = panels.make_grid(len(targets), 1 + len(predictions))
  for e, truth in enumerate(targets):
    text = _draw_set(grid[e, 0], truth)
    panels.set_title(grid[e, 0], 'truth', text)
    for axes, (steps, sets) in zip(
      grid[e, 1:], predictions.items(), strict=True
    ):
      text = _draw_set(axes, sets[e], truth)
      panels.set_title(axes, panels.column_label(steps, trained_with), text)
    for column, axes in enumerate(grid[e]):
      _dress(axes, e, column, len(targets))
  _legend(figure)
  return figure
