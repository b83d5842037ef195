"""The paper's average precisions on CLEVR: Tables 3 and 7 as data."""

import csv
import os
from typing import NamedTuple

_FILE = os.path.join(
  os.path.dirname(__file__), 'paper_tables', 'table3_table7_clevr.csv'
)
TABLES = (3, 7)
# Names of Table 3, and of `configs/clevr.py`; None for a model that it lacks.
_TABLE_3 = {
  'Slot MLP': 'slot_mlp',
  'DSPN (10 train 30 eval iterations)': None,
  'Slot Attention': 'slot_attention',
  'Slot Attention (coordinates in [-1;1])': 'slot_attention_symmetric',
  'Slot Attention (coordinates in [-3;3])': 'slot_attention_scene',
  'iDSPN': 'idspn',
}
# Likewise of Table 7, by model, pooling and momentum.
_TABLE_7 = {
  ('iDSPN', 'Mean', '0.9'): 'idspn_mean',
  ('iDSPN', 'Sum', '0.9'): 'idspn_sum',
  ('iDSPN', 'FSPool', '0.9'): 'idspn',
  ('DSPN', 'FSPool', '0.9'): 'dspn_momentum_high',
  ('iDSPN', 'FSPool', '0.5'): 'idspn_momentum_half',
  ('DSPN', 'FSPool', '0.5'): 'dspn_momentum',
}


class Row(NamedTuple):
  """A model of a table.

  Attributes:
    label: how the table calls it.
    model: its name in `configs/clevr.py`; None if there is none.
    image_size: edge length of the pictures.
    values: average precision in percent: threshold as text, mean and standard
      deviation.
  """

  label: str
  model: str | None
  image_size: int
  values: tuple[tuple[str, float, float], ...]


def rows(table: int) -> list[Row]:
  """The models of a table, in order.

  Args:
    table: 3 or 7.
  """
  found: dict[tuple[str, ...], Row] = {}
  with open(_FILE, encoding='utf-8', newline='') as f:
    for line in csv.DictReader(f):
      if int(line['table']) != table:
        continue
      name, size = line['model'], line['image_size']
      setting = (name, line['pooling'], line['momentum'])
      if table == 3:
        label, model = name, _TABLE_3[name]
        if name == 'iDSPN':
          label = f'{name}, {size} × {size}'
      else:
        label = f'{name}, {line["pooling"]}, momentum {line["momentum"]}'
        model = _TABLE_7[setting]
      key = (*setting, size)
      before = found.get(key, Row(label, model, int(size), ()))
      value = (
        line['threshold'],
        float(line['ap_mean']),
        float(line['ap_std']),
      )
      found[key] = before._replace(values=(*before.values, value))
  return list(found.values())
