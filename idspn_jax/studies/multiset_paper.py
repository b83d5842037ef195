"""The paper's losses on random multisets: Tables 5 and 6 as data."""

from collections.abc import Iterator, Mapping
import csv
import math
import os
from typing import Any

_FOLDER = os.path.join(os.path.dirname(__file__), 'paper_tables')
FILES = {
  5: os.path.join(_FOLDER, 'table5_random_multisets.csv'),
  6: os.path.join(_FOLDER, 'table6_random_multisets_pooling.csv'),
}
# Names of the paper, and of `configs/random_multisets.py`.
MODELS = {
  'iDSPN+mom': 'idspn_momentum',
  'iDSPN': 'idspn',
  'Baseline': 'dspn',
  'iDSPN+mom+Sum': 'idspn_momentum_sum',
  'iDSPN+mom+Mean': 'idspn_momentum_mean',
}
_SETTINGS = {
  ('unrolled', 0.0, 'fs'): 'Baseline',
  ('jacobian_free', 0.0, 'fs'): 'iDSPN',
  ('jacobian_free', 0.9, 'fs'): 'iDSPN+mom',
  ('jacobian_free', 0.9, 'sum'): 'iDSPN+mom+Sum',
  ('jacobian_free', 0.9, 'mean'): 'iDSPN+mom+Mean',
}
Row = tuple[int, int, int, str, float | None, float | None]


def rows(table: int) -> Iterator[Row]:
  """The rows of a table: n, d, T, model, mean and standard deviation.

  Where the paper gives no number there is None.

  Args:
    table: 5 or 6.
  """

  def number(text):
    value = float(text or 'nan')
    return None if math.isnan(value) else value

  with open(FILES[table], encoding='utf-8', newline='') as f:
    for row in csv.DictReader(f):
      n, d, steps = (
        int(row[key]) for key in ('set_size', 'set_dim', 'iterations')
      )
      mean, std = number(row['loss_mean']), number(row['loss_std'])
      yield n, d, steps, row['model'], mean, std


def paper_losses(config: Mapping[str, Any]) -> dict[int, float]:
  """The paper's mean losses of a model on such sets, by inner steps T.

  Args:
    config: of a run, as a dictionary.

  Returns:
    Empty where neither Table 5 nor Table 6 has the sets and the model.
  """
  if config['task'] != 'random_multisets':
    return {}
  data, model = config['data'], config['model']
  momentum, pool = model['momentum'], model['pool']
  label = _SETTINGS.get((model['gradient'], momentum, pool))
  return {
    steps: mean
    for table in FILES
    for n, d, steps, name, mean, _ in rows(table)
    if name == label and mean is not None
    if (n, d) == (data['set_size'], data['set_dim'])
  }
