"""Images with the places and the classes of their elements."""

from matplotlib.backends import backend_agg
import numpy as np
import pytest

from idspn_jax.data import set_layout
from idspn_jax.figures import image_sets
from idspn_jax.figures import save


@pytest.mark.parametrize('columns', [(10,), (10, 20), (10, 20, 40)])
def test_classes_have_room_below_the_images(columns, tmp_path):
  layout = set_layout.Layout(
    ('x', 'y'), (set_layout.Category('colour', ('blue', 'red')),)
  )
  sets = set_layout.Elements(
    np.full((4, 3, 2), 0.5),
    {'colour': np.zeros((4, 3), int)},
    np.ones((4, 3)),
  )
  figure = image_sets.draw_images(
    np.zeros((4, 8, 8, 3), np.uint8),
    sets,
    dict.fromkeys(columns, sets),
    layout,
    (0, 1),
  )
  save.save_figure(figure, tmp_path / 'a.png')
  renderer = backend_agg.FigureCanvasAgg(figure).get_renderer()
  for axes in figure.axes:
    axes.apply_aspect()
    assert axes.get_xlabel() == 'true: 3 blue\npredicted: 3 blue'
  for upper, lower in zip(
    figure.axes, figure.axes[len(columns) :], strict=False
  ):
    label = upper.xaxis.get_tightbbox(renderer)
    assert label.y0 > lower.title.get_window_extent(renderer).y1
  assert figure.axes[-1].xaxis.get_tightbbox(renderer).y0 > 0
