"""The study's rows as CSV files; a table without rows is its header alone."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import csv
import io
import json
from typing import Any

Row = dict[str, Any]

_ABOUT = (
  'model',
  'section',
  'setting',
  'mode',
  'options',
  'iterations',
  'linearize_at',
  'starts',
  'sets',
  'fallbacks',
  'gradient',
)
# By file; what else the rows have comes after these.
COLUMNS = {
  'gradients.csv': _ABOUT,
  'sets.csv': ('model', 'set', 'status', 'residual', 'kink', 'rank'),
  'cost.csv': (
    'model',
    'setting',
    'mode',
    'options',
    'iterations',
    'peak_bytes',
    'seconds',
    'median_seconds',
  ),
  'option_cost.csv': (
    'model',
    'varied',
    'value',
    'setting',
    'mode',
    'options',
    'iterations',
    'starts',
    'peak_bytes',
    'seconds',
    'median_seconds',
  ),
  'training.csv': (
    'model',
    'optimizer',
    'setting',
    'rate',
    'seed',
    'step',
    'loss',
  ),
}


def tables(
  models: Mapping[str, Row],
  cost: Mapping[str, Sequence[Row]],
  option_cost: Mapping[str, Sequence[Row]],
  training: Iterable[Row],
) -> dict[str, str]:
  """The text of every CSV file, by its name.

  Args:
    models: what was measured of every model, by name.
    cost: rows of `gradient_cost.cost_rows`, by model.
    option_cost: rows of `gradient_option_cost.option_rows`, by model.
    training: rows of `gradient_training.train_setting`, each with its `model`.
  """
  rows = {
    'gradients.csv': _gradient_lines(models),
    'sets.csv': (
      {'model': name, 'set': i, **row}
      for name, model in models.items()
      for i, row in enumerate(model['sets'])
    ),
    'cost.csv': _with_model(cost),
    'option_cost.csv': _with_model(option_cost),
    'training.csv': _training_lines(training),
  }
  return {name: _text(own, COLUMNS[name]) for name, own in rows.items()}


def _with_model(rows) -> Iterator[Row]:
  for name, own in rows.items():
    for row in own:
      yield {'model': name, **row}


def _gradient_lines(models) -> Iterator[Row]:
  for name, model in models.items():
    for section, rows in model['sections'].items():
      for row in rows:
        about = {k: row[k] for k in _ABOUT if k in row}
        about.update(model=name, section=section)
        z = {
          f'{measure}_{part}' if part != 'median' else measure: value
          for measure, parts in row['z'].items()
          for part, value in parts.items()
        }
        yield {**about, 'gradient': 'z', **z}
        yield {**about, 'gradient': 'parameters', **row['theta']}
        for leaf, values in row['parameters'].items():
          yield {**about, 'gradient': leaf, **values}


def _training_lines(rows) -> Iterator[Row]:
  for row in rows:
    for seed, losses in zip(row['seeds'], row['loss'], strict=True):
      for k, loss in enumerate(losses):
        yield {
          'model': row['model'],
          'optimizer': row['optimizer'],
          'setting': row['setting'],
          'rate': row['rate'],
          'seed': seed,
          'step': row['steps_per_point'] * (k + 1),
          'loss': loss,
        }


def _text(rows, columns):
  rows = [
    {
      k: json.dumps(v) if isinstance(v, Mapping | list) else v
      for k, v in row.items()
    }
    for row in rows
  ]
  more = (key for row in rows for key in row)
  text = io.StringIO()
  writer = csv.DictWriter(
    text, list(dict.fromkeys((*columns, *more))), lineterminator='\n'
  )
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue()
