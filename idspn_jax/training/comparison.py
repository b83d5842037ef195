"""Figures that put several runs of one task side by side."""

from collections.abc import Mapping
import os

import jax
import jax.numpy as jnp
import numpy as np

from idspn_jax.training import reports

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
  from idspn_jax.figures import sets as set_figures
  from idspn_jax.figures import trajectories

  curves, predictions = {}, {}
  shown = None
  for label, workdir in workdirs.items():
    run = reports.load_run(workdir)
    curves[label] = reports.read_scalars(workdir, 'train/loss')
    if shown is None:
      shown = jnp.asarray(run.task.test[:EXAMPLES])
    key = jax.random.key(run.config.seed)
    decoded = run.task.reconstruct(run.params, shown, key)
    predictions[label] = np.asarray(decoded)
  return [
    str(
      set_figures.draw_random_sets(
        np.asarray(shown), predictions, os.path.join(directory, 'sets.png')
      )
    ),
    str(
      trajectories.draw_losses(
        curves, os.path.join(directory, 'learning_curves.png')
      )
    ),
  ]
