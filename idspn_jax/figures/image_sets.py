"""Images with true and predicted elements at their places."""

from collections.abc import Mapping

import matplotlib.figure
import matplotlib.lines
import numpy as np

from idspn_jax.data import set_layout
from idspn_jax.figures import panels

_TRUE = '#1f4e8c'
_GUESS = '#d9480f'
_MOST_LABELS = 6
# Of the lists below an image, in inches.
_LISTS = 0.3


def draw_images(
  images: np.ndarray,
  truth: set_layout.Elements,
  predictions: Mapping[int | str, set_layout.Elements],
  layout: set_layout.Layout,
  axes: tuple[int, int] | None,
  extents: np.ndarray | None = None,
  *,
  trained_with: int | None = None,
) -> matplotlib.figure.Figure:
  """Draws images, one row each, one column per T (or label).

  Circles are true elements, crosses predicted ones with a presence above one
  half. Below every image the classes of both are listed, if there are any.

  Args:
    images: `(E, H, W, 3)`, uint8.
    truth: E true sets, values in the units of their file.
    predictions: E predicted sets each, by number of inner steps, or by label.
    layout: of the sets.
    axes: which continuous features are the place in the image, from its upper
      left corner to the right and down; None draws no places.
    extents: width and height of the images, `(E, 2)`, in the units of the
      places; None for places from 0 to 1.
    trained_with: number of inner steps in training; its column is marked.

  Returns:
    The figure.

  Raises:
    ValueError: if there is nothing to draw or numbers of images differ.
  """
  if not len(images) or not predictions:
    raise ValueError('There are no images or no predictions to draw.')
  for found in (truth, *predictions.values()):
    if len(found.presence) != len(images):
      raise ValueError(
        f'{len(images)} images need as many sets; got {len(found.presence)}.'
      )
  if extents is None:
    extents = np.ones((len(images), 2))
  figure, grid = panels.make_grid(len(images), len(predictions))
  if layout.categories:
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + _LISTS * len(images))
  for e, image in enumerate(images):
    for column, (key, found) in enumerate(predictions.items()):
      place = grid[e, column]
      width, height = (float(v) for v in extents[e])
      place.imshow(image, extent=(0, width, height, 0), aspect='auto')
      place.set_box_aspect(height / width)
      place.set_xticks([])
      place.set_yticks([])
      true, guess = _one(truth, e), _one(found, e)
      if axes is not None:
        _draw_places(place, true, guess, axes, (width, height))
      text = f'{len(guess.presence)} predicted / {len(true.presence)} true'
      panels.set_title(place, panels.column_label(key, trained_with), text)
      if layout.categories:
        label = (
          f'true: {_list(true, layout)}\npredicted: {_list(guess, layout)}'
        )
        place.set_xlabel(label, fontsize=7, parse_math=False)
  if axes is not None:
    _legend(figure)
  return figure


def _one(elements, e):
  """The elements of set e that exist."""
  exists = elements.presence[e] > set_layout.THRESHOLD
  return set_layout.Elements(
    elements.values[e][exists],
    {name: c[e][exists] for name, c in elements.classes.items()},
    elements.presence[e][exists],
  )


def _draw_places(place, true, guess, axes, extent):
  for found, style in (
    (true, {'marker': 'o', 's': 70, 'facecolors': 'none', 'edgecolors': _TRUE}),
    (guess, {'marker': 'x', 's': 30, 'color': _GUESS}),
  ):
    # White below, to be seen on any image.
    for color, width in (('white', 3.0), (None, 1.3)):
      own = dict(style)
      if color:
        own['edgecolors' if 'edgecolors' in own else 'color'] = color
      place.scatter(*found.values[:, list(axes)].T, linewidths=width, **own)
  x, y = guess.values[:, list(axes)].T
  inside = (x >= 0) & (x <= extent[0]) & (y >= 0) & (y <= extent[1])
  place.set_xlim(0, extent[0])
  place.set_ylim(extent[1], 0)
  panels.note_outside(place, int(np.sum(~inside)))


def _list(elements, layout):
  """Elements by their classes, the most frequent first."""
  counts: dict[str, int] = {}
  for n in range(len(elements.presence)):
    words = [
      classes[k] if (k := elements.classes[name][n]) >= 0 else '?'
      for name, classes in layout.categories
    ]
    label = ' '.join(words)
    counts[label] = counts.get(label, 0) + 1
  ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
  parts = [f'{count} {label}' for label, count in ranked[:_MOST_LABELS]]
  if len(ranked) > _MOST_LABELS:
    parts.append('…')
  return ', '.join(parts) or 'none'


def _legend(figure):
  def mark(label, **style):
    return matplotlib.lines.Line2D([], [], ls='', label=label, **style)

  figure.legend(
    handles=[
      mark('true element', marker='o', mfc='none', mec=_TRUE),
      mark('prediction', marker='x', color=_GUESS),
    ],
    loc='outside upper center',
    ncols=2,
    frameon=False,
    fontsize=8,
  )
