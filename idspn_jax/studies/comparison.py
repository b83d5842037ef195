"""Figures that put several runs of one task side by side."""

from collections.abc import Mapping
import os

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.runs import loading
from idspn_jax.runs import scalars

EXAMPLES = 4


def draw(workdirs: Mapping[str, str], directory: str) -> list[str]:
  """Draws learning curves, and every run's predictions for the same sets.

  Args:
    workdirs: directories of finished `random_multisets` runs, by label.
    directory: where the figures go.

  Returns:
    The files written.

  Raises:
    UserError: if a directory holds no run.
  """
  # Here, because only drawing needs matplotlib.
  from idspn_jax.figures import save
  from idspn_jax.figures import sets as set_figures
  from idspn_jax.figures import trajectories

  curves, predictions = {}, {}
  shown = None
  for label, workdir in workdirs.items():
    run = loading.load_run(workdir)
    curves[label] = scalars.read_scalars(workdir, 'train/loss')
    if shown is None:
      shown = jnp.asarray(run.data.examples(EXAMPLES)['input'])
    key = jax.random.key(run.config.seed)
    decoded = run.task.decode(run.variables, shown, key)
    predictions[label] = np.asarray(decoded.set)
  figures = {
    'sets.png': set_figures.draw_random_sets(np.asarray(shown), predictions),
    'learning_curves.png': trajectories.draw_losses(curves),
  }
  return [
    str(save.save_figure(figure, os.path.join(directory, name)))
    for name, figure in figures.items()
  ]
