"""Real and rendered pictures side by side."""

import matplotlib.figure
import numpy as np

# Differences are shown this many times larger, around grey.
GAIN = 4


def draw_renders(
  real: np.ndarray, rendered: np.ndarray, names: list[str]
) -> matplotlib.figure.Figure:
  """Draws a row per picture: real, rendered, and their difference.

  Args:
    real: `(S, height, width, 3)`, uint8.
    rendered: alike.
    names: S titles.

  Returns:
    The figure; differences are four times larger, around grey.

  Raises:
    ValueError: if there is nothing to draw or shapes do not fit.
  """
  if not len(names) or real.shape != rendered.shape:
    raise ValueError(
      f'{len(names)} names for real pictures {real.shape} and rendered ones '
      f'{rendered.shape}; give at least one, and as many of each.'
    )
  count = len(names)
  figure = matplotlib.figure.Figure(
    figsize=(7.5, 2.0 * count + 0.3), layout='constrained'
  )
  grid = figure.subplots(count, 3, squeeze=False)
  for row, a, b, name in zip(grid, real, rendered, names, strict=True):
    apart = b.astype(np.float32) - a
    shown = np.clip(128 + GAIN * apart, 0, 255).astype(np.uint8)
    titles = (
      name,
      'rendered',
      f'difference × {GAIN}; mean {np.mean(np.abs(apart)):.2f}',
    )
    for axes, picture, title in zip(row, (a, b, shown), titles, strict=True):
      # As wide as the 480 × 320 picture that was squashed.
      axes.imshow(picture, extent=(0, 480, 320, 0))
      axes.set_title(title, fontsize=8, parse_math=False)
      axes.set_axis_off()
  return figure
