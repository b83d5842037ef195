"""The study of gradient modes as a whole: sections, tables, files, figures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import json
import os
from typing import Any

import jax
import ml_collections
import numpy as np

from idspn_jax.runs import files
from idspn_jax.runs import loading
from idspn_jax.runs import provenance
from idspn_jax.studies import gradient_answers
from idspn_jax.studies import gradient_comparison
from idspn_jax.studies import gradient_cost
from idspn_jax.studies import gradient_csv
from idspn_jax.studies import gradient_option_cost
from idspn_jax.studies import gradient_page
from idspn_jax.studies import gradient_problem
from idspn_jax.studies import gradient_quality
from idspn_jax.studies import gradient_reference
from idspn_jax.studies import gradient_settings
from idspn_jax.studies import gradient_sweeps
from idspn_jax.studies import tables

SECTIONS = {
  'modes': 'Every mode, at the optimum and after T steps',
  'iterations': 'Inner steps T and the point of linearisation',
  'gamma': 'γ of regularised CG',
  'cg_iterations': 'Steps of CG',
  'neumann': 'Terms and scale of the Neumann series',
  'starts': 'Numbers of starts',
}
_CAPTIONS = {
  'modes': 'Gradient quality: dots are of the parameters, whiskers the '
  'quartiles of z over sets.',
  'iterations': 'Gradient quality against inner steps; the dotted line is the '
  'T of training.',
  'sweeps': 'Errors at the optimum against γ, CG steps, and Neumann terms.',
  'sets': 'Which sets have an exact gradient: where the inner gradient '
  'vanishes, and not on a kink.',
}

Row = dict[str, Any]


class Report:
  """Collects what is measured, and writes it."""

  def __init__(self) -> None:
    """Starts without anything."""
    self._models: dict[str, dict[str, Any]] = {}
    self._cost: dict[str, list[Row]] = {}
    self._option_cost: dict[str, list[Row]] = {}
    self._training: dict[str, Any] = {'rows': []}

  def add_model(
    self,
    name: str,
    run: loading.LoadedRun,
    *,
    sets: int,
    iterations: Sequence[int],
    settings: Sequence[gradient_settings.Setting] = gradient_settings.SETTINGS,
    progress: Callable[[str, str], None] = lambda title, text: None,
  ) -> None:
    """Measures gradient quality of a model, section by section.

    Args:
      name: what the report calls it.
      run: the model.
      sets: how many test sets.
      iterations: numbers of inner steps.
      settings: the modes.
      progress: called with a heading and a text for every section.

    Raises:
      UserError: if the model is of another kind.
    """
    problem, descent = gradient_problem.of_run(run, sets)
    with jax.enable_x64(True):
      quality = gradient_quality.Quality(
        problem, descent, longest=max(iterations)
      )
      reference = quality.reference
      found: dict[str, Any] = {
        'step': run.step,
        'config': json.loads(run.config.to_json()),
        'trained_with': descent.iterations,
        'left_out': gradient_problem.left_out(run.config),
        'counts': reference.counts,
        'sets': set_rows(reference),
        'residuals': residual_rows(quality),
        'sections': {},
      }
      self._models[name] = found
      text = gradient_answers.exact_sets(reference.counts)
      progress('Sets', '\n'.join([text, *found['left_out']]))
      for section, rows in gradient_sweeps.all_sections(
        quality,
        iterations=iterations,
        settings=settings,
        restart_scale=run.config.model.restart_scale,
        seed=run.config.seed,
      ):
        # As it will be read: not finite is None.
        found['sections'][section] = files.plain(rows)
        progress(SECTIONS[section], section_table(rows))

  def add_cost(
    self, name: str, config: ml_collections.ConfigDict, repeats: int
  ) -> str:
    """Measures what a training step of a model costs; returns a table."""
    rows = gradient_cost.cost_rows(config, repeats)
    self._cost[name] = files.plain(rows)
    return cost_table(self._cost[name])

  def add_option_cost(
    self, name: str, config: ml_collections.ConfigDict, repeats: int
  ) -> str:
    """Measures what the modes' options cost on a model; returns a table."""
    rows = gradient_option_cost.option_rows(config, repeats)
    self._option_cost[name] = files.plain(rows)
    return gradient_option_cost.option_table(self._option_cost[name])

  def add_training(self, content: Mapping[str, Any]) -> None:
    """Takes training curves, the content of `gradient_curves.train`."""
    order = [setting.label for setting in gradient_settings.SETTINGS]

    def place(row):
      label = row['setting']
      return order.index(label) if label in order else len(order)

    # Rows are stored as they were trained.
    rows = sorted(content['rows'], key=place)
    self._training = {**content, 'rows': rows}

  def training_tables(self) -> Iterator[tuple[str, list[Row]]]:
    """A heading and a table per model and optimiser."""
    rows = self._training['rows']
    for model, optimizer in dict.fromkeys(
      (row['model'], row['optimizer']) for row in rows
    ):
      own = [
        row
        for row in rows
        if (row['model'], row['optimizer']) == (model, optimizer)
      ]
      cost = self._cost.get(model, [])
      yield (
        f'{model}, {optimizer}',
        gradient_answers.training_table(own, cost),
      )

  def answers(self) -> list[str]:
    """What the numbers say, in sentences."""
    found = []
    for name, model in self._models.items():
      found.append(f'{name}: {gradient_answers.exact_sets(model["counts"])}')
      own = gradient_answers.closest(model['sections'].get('modes', []))
      found += [f'{name}: {text}' for text in (*model['left_out'], *own)]
    for title, table in self.training_tables():
      own = gradient_answers.trains_best(table)
      found.append(f'Training, {title}: {" ".join(own)}')
    for name, rows in self._cost.items():
      found.append(f'{name}: {gradient_answers.memory_growth(rows)}')
    return found

  def save_tables(self, directory: str) -> list[str]:
    """Writes JSON and CSV of what there is so far; returns the files.

    Raises:
      UserError: if the directory cannot be written to.
    """
    content = {
      'answers': self.answers(),
      'models': self._models,
      'cost': self._cost,
      'option_cost': self._option_cost,
      'training': self._training,
      **provenance.provenance(),
    }
    path = os.path.join(directory, 'report.json')
    files.write_json(path, content)
    paths = [path]
    tables_by_file = gradient_csv.tables(
      self._models, self._cost, self._option_cost, self._training['rows']
    )
    for name, text in tables_by_file.items():
      paths.append(os.path.join(directory, name))
      files.write_atomically(paths[-1], text)
    return paths

  def save(self, directory: str) -> list[str]:
    """Writes JSON, CSV, figures and the HTML report; returns the files.

    Raises:
      UserError: if the directory cannot be written to.
    """
    paths = self.save_tables(directory)
    figures = self._figures(directory)
    page = os.path.join(directory, 'report.html')
    files.write_atomically(page, self._page(figures))
    return [*paths, *figures.values(), page]

  def _figures(self, directory):
    # Here, because only drawing needs matplotlib.
    from idspn_jax.figures import gradient_training as training_figures
    from idspn_jax.figures import gradients as figures
    from idspn_jax.figures import save

    drawn = {}
    for name, model in self._models.items():
      rows = model['sections']
      title = f'{name}: {model["counts"]["exact"]} of {len(model["sets"])} sets'
      if not model['counts']['exact']:
        rows = {}  # Nothing is compared.
      # A study that was cut off lacks sections.
      if 'modes' in rows:
        drawn[f'{name}_modes'] = figures.draw_modes(rows['modes'], title)
      if 'iterations' in rows:
        drawn[f'{name}_iterations'] = figures.draw_iterations(
          rows['iterations'], model['residuals'], model['trained_with'], title
        )
      if 'neumann' in rows:
        drawn[f'{name}_sweeps'] = figures.draw_sweeps(
          rows['gamma'], rows['cg_iterations'], rows['neumann'], title
        )
      drawn[f'{name}_sets'] = figures.draw_sets(model['sets'], name)
    for name, rows in self._cost.items():
      drawn[f'{name}_cost'] = training_figures.draw_cost(rows, name)
    for name in dict.fromkeys(r['model'] for r in self._training['rows']):
      own = [row for row in self._training['rows'] if row['model'] == name]
      seconds = gradient_answers.seconds_per_step(self._cost.get(name, []))
      drawn[f'{name}_training'] = training_figures.draw_training(
        own, seconds, name
      )
    return {
      name: str(
        save.save_figure(figure, os.path.join(directory, f'{name}.png'))
      )
      for name, figure in drawn.items()
    }

  def _page(self, figures):
    """The HTML report: answers, then every model, cost and training."""
    page = gradient_page.Page('Exact against approximate gradients')
    page.heading('Answers')
    page.items(self.answers())
    for name, model in self._models.items():
      page.heading(f'Gradient quality: {name}')
      for kind, caption in _CAPTIONS.items():
        if f'{name}_{kind}' in figures:
          page.figure(figures[f'{name}_{kind}'], caption)
      for section, rows in model['sections'].items():
        page.table(SECTIONS[section], gradient_comparison.table(rows))
      every = [row for rows in model['sections'].values() for row in rows]
      if note := gradient_comparison.fell_back(every):
        page.items([note])
    for name, rows in self._cost.items():
      page.heading(f'Cost of a training step: {name}')
      page.figure(
        figures[f'{name}_cost'],
        'Whole training steps timed in turn; memory by the compiler’s count.',
      )
      page.table('Every mode', cost_table(rows))
      if name in self._option_cost:
        page.table(
          'Options, inner steps and starts',
          gradient_option_cost.option_table(self._option_cost[name]),
        )
    if self._training['rows']:
      page.heading('Training')
      for name in dict.fromkeys(r['model'] for r in self._training['rows']):
        page.figure(
          figures[f'{name}_training'],
          'Training loss: mean, least and largest over seeds. Time is steps '
          'times the time of a step of one seed.',
        )
      for title, table in self.training_tables():
        page.table(title, rows_table(table))
    page.heading('Where and when')
    page.preformatted(
      json.dumps(files.plain(provenance.provenance()), indent=2)
    )
    return page.html()


def section_table(rows: Sequence[Row]) -> str:
  """Rows of a section as Markdown, and what the fall backs are."""
  parts = gradient_comparison.table(rows), gradient_comparison.fell_back(rows)
  return '\n\n'.join(part for part in parts if part)


def set_rows(reference: gradient_reference.Reference) -> list[Row]:
  """What the report says of every set, as JSON has it."""
  values = reference.eigenvalues
  return files.plain(
    [
      {
        'status': str(reference.status[i]),
        'residual': reference.residual[i],
        'kink': reference.kink[i],
        'rank': int(reference.rank[i]),
        'smallest': values[i, 0],
        'largest': values[i, -1],
      }
      for i in range(len(values))
    ]
  )


def residual_rows(quality: gradient_quality.Quality) -> list[Row]:
  """Quartiles of the residual over all sets, after every inner step."""
  quartiles = np.nanpercentile(quality.residuals, (25, 50, 75), axis=1)
  return [
    {'iterations': t, 'q25': low, 'median': middle, 'q75': high}
    for t, (low, middle, high) in enumerate(quartiles.T.tolist())
    if t
  ]


def cost_table(rows: Sequence[Row]) -> str:
  """Rows of `gradient_cost.cost_rows` as Markdown, a line per mode."""
  counts = sorted({row['iterations'] for row in rows})
  lines = [
    ['mode', f'ms a step, T = {counts[0]}']
    + [f'MiB, T = {count}' for count in counts]
  ]
  for name in dict.fromkeys(row['setting'] for row in rows):
    own = {r['iterations']: r for r in rows if r['setting'] == name}
    seconds = own[counts[0]]['median_seconds']
    peaks = [f'{own[c]["peak_bytes"] / 2**20:.1f}' for c in counts]
    lines.append([name, f'{1e3 * seconds:.1f}', *peaks])
  return tables.markdown(lines)


def rows_table(rows: Sequence[Row]) -> str:
  """Rows of equal keys as Markdown, numbers with three digits."""

  def text(value):
    if isinstance(value, bool):
      return 'yes' if value else ''
    if value is None or isinstance(value, float):
      return gradient_comparison.number(value)
    return str(value)

  head = list(rows[0])
  return tables.markdown([head, *([text(v) for v in r.values()] for r in rows)])
