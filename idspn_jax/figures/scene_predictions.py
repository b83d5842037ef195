"""CLEVR pictures beside what was predicted of them (Tables 9 and 10)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import matplotlib.axes
import matplotlib.colors
import matplotlib.figure
import matplotlib.patches
from matplotlib.path import Path
import numpy as np

from idspn_jax.data import clevr_features
from idspn_jax.figures import matching
from idspn_jax.figures import panels
from idspn_jax.figures import scenes
from idspn_jax.render import camera
from idspn_jax.render import constants

# Distances above it count as wrong, as in the paper; in scene units.
FAR = 0.25
_WRONG = '#e00000'
_EDGE = '#111111'
# Of a panel and of a line of a list, in inches.
_WIDTH, _LINE = 3.0, 0.135
_HEIGHT = _WIDTH * constants.HEIGHT / constants.WIDTH
# Where the columns of a list begin and the last one ends, as shares of its
# width.
_KEYS = {'size': 0.07, 'color': 0.2, 'material': 0.35, 'shape': 0.5}
_END = 0.97
_CAPTION = (
  'Objects stand where a camera without jitter sees their centres; the cameras '
  'of the pictures are moved by up to half a unit each way, so that\ntrue '
  'objects too may be some pixels off. '
  f'Red: a wrong attribute, a distance d above {FAR} scene units from the true '
  'place (+), a missing or\na needless object. Numbers go from left to right; '
  'predictions have the number of the object they are matched with.'
)


def _can():
  """The outline of a cylinder that is seen from above and the side."""
  turn = np.linspace(0, np.pi, 13)
  arc = np.stack([np.cos(turn), np.sin(turn)], axis=-1) * (0.85, 0.25)
  top, bottom = arc + (0, 0.7), arc * (1, -1) - (0, 0.7)
  front = arc * (1, -1) + (0, 0.7)
  # Both parts turn the same way, so that the whole is filled.
  around = np.concatenate([top, bottom[::-1], top[:1], front[::-1]])
  codes = np.full(len(around), Path.LINETO)
  codes[0] = codes[-len(front)] = Path.MOVETO
  return Path(around, codes)


# Of radius 1; rows of the picture count downwards, these upwards.
OUTLINES = {**scenes.OUTLINES, 'cylinder': _can()}


class Compared(NamedTuple):
  """An object beside its prediction; one of them may be missing.

  Attributes:
    truth: the true object, as `clevr_features.objects_of` describes it.
    guess: the predicted one, likewise.
    distance: between their places, in scene units; NaN if one is missing.
    wrong: the attributes that differ.
  """

  truth: dict[str, Any] | None
  guess: dict[str, Any] | None
  distance: float = float('nan')
  wrong: tuple[str, ...] = ()

  @property
  def right(self) -> bool:
    """Whether all attributes are right and the place is near."""
    return not self.wrong and self.distance <= FAR


def compare(prediction: np.ndarray, target: np.ndarray) -> list[Compared]:
  """Compares a predicted set with the true one, matched as the loss does.

  Args:
    prediction: features as in `clevr_features`, `(N, 19)`.
    target: likewise, `(M, 19)`.

  Returns:
    The true objects from left to right in the picture, then predictions that
    are matched with none. Nothing is predicted if a value is not finite.
  """
  guesses, truths = _described(prediction), _described(target)
  pairs = matching.match(prediction, target)
  partner = dict(
    zip(pairs.targets.tolist(), pairs.predictions.tolist(), strict=True)
  )
  found = []
  for row, truth in truths.items():
    guess = guesses.pop(partner.get(row), None)
    if guess is None:
      found.append(Compared(truth, None))
      continue
    apart = np.subtract(guess['3d_coords'], truth['3d_coords'])
    wrong = tuple(k for k in clevr_features.ATTRIBUTES if guess[k] != truth[k])
    found.append(Compared(truth, guess, float(np.linalg.norm(apart)), wrong))
  found.sort(key=lambda one: _project(one.truth)[0])
  if not len(pairs.predictions):
    return found
  return found + [Compared(None, guess) for guess in guesses.values()]


def _described(features):
  """Descriptions of the objects that exist, by row."""
  rows = np.flatnonzero(clevr_features.mask_of(features))
  things = clevr_features.objects_of(features)
  return dict(zip(rows.tolist(), things, strict=True))


def _project(thing):
  """Column and row in the 480 × 320 picture, and depth."""
  position = np.asarray(constants.CAMERA)
  return camera.pixel_coords(np.asarray(thing['3d_coords']), position)


def _show_picture(axes, image, faded):
  view = (0, constants.WIDTH, constants.HEIGHT, 0)
  axes.imshow(image, extent=view, aspect='equal', interpolation='bilinear')
  if faded:
    axes.axhspan(0, constants.HEIGHT, color='white', alpha=0.55, lw=0)
  axes.set_xlim(view[:2])
  axes.set_ylim(view[2:])
  axes.set_xticks([])
  axes.set_yticks([])


def _draw_object(axes, thing, label, wrong=False):
  """Draws an object's outline at its size in the picture; false if outside."""
  x, y, depth = _project(thing)
  inside = 0 <= x <= constants.WIDTH and 0 <= y <= constants.HEIGHT
  if not inside or depth <= 0:
    return False
  radius = constants.FOCAL_PIXELS * scenes.RADII[thing['size']] / depth
  outline = OUTLINES[thing['shape']]
  vertices = outline.vertices * (radius, -radius) + (x, y)
  axes.add_patch(
    matplotlib.patches.PathPatch(
      Path(vertices, outline.codes),
      facecolor=matplotlib.colors.to_rgba(scenes.RGB[thing['color']], 0.75),
      edgecolor=_WRONG if wrong else _EDGE,
      linestyle=scenes.EDGES[thing['material']],
      linewidth=1.8 if wrong else 1.1,
      zorder=3,
    )
  )
  axes.text(
    *(x, y, label),
    ha='center',
    va='center_baseline',
    fontsize=6.5,
    zorder=6,
    bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.6, 'alpha': 0.8},
  )
  return True


def _write(axes, line, x, text, wrong=False, **style):
  axes.text(
    *(x, -line, text),
    fontsize=6.8,
    va='center',
    color=_WRONG if wrong else 'black',
    parse_math=False,
    **style,
  )


def _write_object(axes, line, label, thing, wrong, end, far):
  """Writes a line of a list: a number, attributes, and what is at the end."""
  _write(axes, line, 0.0, label, wrong=set(_KEYS) <= {*wrong})
  for key, x in _KEYS.items():
    _write(axes, line, x, thing[key] or '?', key in wrong)
  _write(axes, line, _END, end, far, ha='right')


def _draw_truth(axes, words, compared):
  count = 0
  for line, one in enumerate(compared):
    if one.truth is not None:
      _draw_object(axes, one.truth, line + 1)
      place = ' '.join(f'{v:.2f}' for v in one.truth['3d_coords'])
      _write_object(words, line, line + 1, one.truth, (), f'({place})', False)
      count += 1
  panels.set_title(axes, 'truth', f'{count} objects')


def _draw_guesses(axes, words, compared, head, finite):
  missing = needless = outside = 0
  for line, one in enumerate(compared):
    if one.guess is None:
      missing += 1
      _write(words, line, 0.0, line + 1, True)
      _write(words, line, _KEYS['size'], 'missing', True)
    elif one.truth is None:
      needless += 1
      _write_object(words, line, '+', one.guess, _KEYS, 'needless', True)
      outside += not _draw_object(axes, one.guess, '+', True)
    else:
      far = one.distance > FAR
      end = f'd = {one.distance:.2f}'
      _write_object(words, line, line + 1, one.guess, one.wrong, end, far)
      outside += not _draw_object(axes, one.guess, line + 1, not one.right)
    if one.truth is not None:
      _mark_place(axes, one)
  right = sum(one.right for one in compared)
  text = f'{right} of {sum(one.truth is not None for one in compared)} right'
  for count, name in ((missing, 'missing'), (needless, 'needless')):
    text += f', {count} {name}' if count else ''
  panels.set_title(axes, head, text if finite else 'not finite')
  panels.note_outside(axes, outside)


def _mark_place(axes, one):
  """A plus at the true place, and a line from a prediction that is far."""
  x, y, _ = _project(one.truth)
  if one.guess is not None and one.distance > FAR:
    a, b, depth = _project(one.guess)
    if depth > 0:
      axes.plot([x, a], [y, b], color=_WRONG, linewidth=1.0, zorder=4)
  if not one.right:
    axes.plot(x, y, '+', color='white', markersize=6, mew=2.4, zorder=4)
    axes.plot(x, y, '+', color=_WRONG, markersize=5, mew=1.0, zorder=5)


def _make_grid(lines, columns):
  """A panel over a list per example and column.

  Args:
    lines: of the lists, by example.
    columns: how many.

  Returns:
    The figure; panels and lists, `(E, columns)` axes each.
  """
  heights = [h for n in lines for h in (_HEIGHT, _LINE * n)]
  figure = matplotlib.figure.Figure(
    figsize=(
      (_WIDTH + 0.1) * columns,
      sum(heights) + 0.45 * len(lines) + 1.0,
    ),
    layout='constrained',
  )
  grid = figure.subplots(
    *(len(heights), columns), squeeze=False, height_ratios=heights
  )
  for axes, count in zip(grid[1::2], lines, strict=True):
    for one in axes:
      one.set_axis_off()
      one.set_xlim(0, 1)
      one.set_ylim(-count + 0.5, 0.5)
  return figure, grid[::2], grid[1::2]


def _legend(figure):
  handles = scenes.legend_handles(OUTLINES, places=False)
  figure.legend(
    handles=handles,
    loc='outside upper center',
    ncols=len(handles),
    frameon=False,
    fontsize=8,
  )
  figure.supxlabel(_CAPTION, fontsize=8)


def draw_predictions(
  images: np.ndarray,
  targets: np.ndarray,
  predictions: Mapping[int | str, np.ndarray],
  *,
  trained_with: int | None = None,
) -> matplotlib.figure.Figure:
  """Draws CLEVR pictures, their objects, and predictions by T.

  A row per picture: the picture; its true objects, drawn on it in their colours
  and listed below; and the predicted ones of every T, with what is wrong in
  red.

  Args:
    images: `(E, H, W, 3)`, uint8, or floats from 0 to 1.
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
  images = np.asarray(images)
  if images.ndim != 4 or images.shape[::3] != (len(targets), 3):
    raise ValueError(
      f'{len(targets)} sets need images ({len(targets)}, H, W, 3); got '
      f'{images.shape}.'
    )
  compared = [
    [compare(sets[e], target) for sets in predictions.values()]
    for e, target in enumerate(targets)
  ]
  lines = [max(1, *map(len, row)) for row in compared]
  figure, grid, lists = _make_grid(lines, 2 + len(predictions))
  for e, row in enumerate(compared):
    for i, axes in enumerate(grid[e]):
      _show_picture(axes, images[e], faded=i > 0)
    panels.set_title(grid[e, 0], 'picture', f'example {e + 1}')
    _draw_truth(grid[e, 1], lists[e, 1], row[0])
    for axes, words, (steps, sets), found in zip(
      grid[e, 2:], lists[e, 2:], predictions.items(), row, strict=True
    ):
      head = panels.column_label(steps, trained_with)
      finite = bool(np.all(np.isfinite(sets[e])))
      _draw_guesses(axes, words, found, head, finite)
  _legend(figure)
  return figure
