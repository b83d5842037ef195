"""Evaluations of predicted CLEVR scenes: a table to read, and one to quote."""

from collections.abc import Mapping, Sequence
from typing import Any

from idspn_jax.metrics import average_precision
from idspn_jax.metrics import scene_scores

# Settings side by side; more continue below.
_MOST_COLUMNS = 4
_LABEL_WIDTH = 24
_COLUMN_WIDTH = 22
_NAMES = tuple(
  scene_scores.threshold_name(t) for t in average_precision.THRESHOLDS
)
# Names of metrics, of JSON, and headings.
_KINDS = (
  ('ap', 'dataset_ap', 'Average precision over all objects of the data set'),
  ('ap_per_image', 'per_image_ap', "Mean of every image's average precision"),
)
_ACCURACY = '_accuracy'


def has_scores(row: Mapping[str, Any]) -> bool:
  """Whether a row of an evaluation is of CLEVR scenes."""
  return all(f'{kind}_{t}' in row for kind, *_ in _KINDS for t in _NAMES)


def reads_pictures(table: Mapping[str, Any]) -> bool:
  """Whether an evaluation is of pictures of scenes, not of scene files."""
  row = table['rows'][0]
  return has_scores(row) and 'images' in row


def percent_row(row: Mapping[str, Any]) -> dict[str, Any]:
  """One row for a table of results, shares in percent.

  Args:
    row: of `evaluations.evaluate_at`, see `has_scores`.

  Returns:
    `iterations` and `restarts`; `images` if it is known; `dataset_ap` and
    `per_image_ap`, by threshold, and the ends of their 95 % intervals,
    `dataset_ap_low`, …; `accuracy` by what is counted; and the other metrics.
  """
  found = {'iterations': row['iterations'], 'restarts': row['restarts']}
  if 'images' in row:
    found['images'] = int(row['images'])
  taken = {*found}
  for kind, name, _ in _KINDS:
    for end in ('', '_low', '_high'):
      keys = {t: f'{kind}_{t}{end}' for t in _NAMES}
      if keys[_NAMES[0]] in row:
        found[name + end] = {t: _percent(row[key]) for t, key in keys.items()}
      taken |= {*keys.values()}
  rest = {key: value for key, value in row.items() if key not in taken}
  found['accuracy'] = {
    key.removesuffix(_ACCURACY): _percent(rest.pop(key))
    for key in list(rest)
    if key.endswith(_ACCURACY)
  }
  return {**found, **rest}


def _percent(share):
  """JSON has no NaN: a row read back says None."""
  return None if share is None else 100 * share


def format_table(table: dict[str, Any]) -> str:
  """Lays a table of `evaluations.evaluate_at` out as text, in percent."""
  return '\n\n'.join(
    '\n'.join(_block(table, rows)) for rows in _blocks(table['rows'])
  )


def _blocks(rows: Sequence[Mapping[str, Any]]):
  """Rows that stand side by side: of one number of starts, and not too many."""
  steps = {row['iterations'] for row in rows}
  groups: dict[Any, list[Mapping[str, Any]]] = {}
  for row in rows:
    groups.setdefault(row['restarts'] if len(steps) > 1 else None, []).append(
      row
    )
  for group in groups.values():
    for i in range(0, len(group), _MOST_COLUMNS):
      yield group[i : i + _MOST_COLUMNS]


def _block(table, rows):
  def line(label, texts):
    columns = ''.join(f'{text:>{_COLUMN_WIDTH}}' for text in texts)
    return f'{label:{_LABEL_WIDTH}}{columns}'.rstrip()

  lines = [line('inner steps T', [_steps(table, row) for row in rows])]
  if any(row['restarts'] > 1 for row in table['rows']):
    steps = [row['restarts'] * row['iterations'] for row in rows]
    lines.append(line('starts', [f'{row["restarts"]}' for row in rows]))
    lines.append(line('steps of all starts', [f'{total}' for total in steps]))
  known = {'iterations', 'restarts'}
  for kind, _, heading in _KINDS:
    lines.append(f'{heading}, % [95 % interval]')
    for name in _NAMES:
      key = f'{kind}_{name}'
      label = f'  distance < {name.replace("inf", "∞")}'
      lines.append(line(label, [_interval(row, key) for row in rows]))
      known |= {key, f'{key}_low', f'{key}_high'}
  lines.append('Objects and images')
  for name in rows[0]:
    if name not in known:
      label, write = _plain(name)
      lines.append(line(f'  {label}', [write(row[name]) for row in rows]))
  return lines


def _steps(table, row):
  """With a star at the configured number."""
  count = row['iterations']
  if count is None:
    return '–'
  star = '*' if count == table['trained_with_iterations'] else ''
  return f'{count}{star}'


def _interval(row, key):
  text = f'{100 * row[key]:.1f}'
  if f'{key}_low' not in row:
    return text
  low, high = 100 * row[f'{key}_low'], 100 * row[f'{key}_high']
  return f'{text} [{low:.1f}, {high:.1f}]'


def _plain(name):
  """A metric's label, and how its value is written."""
  label = name.removesuffix(_ACCURACY).replace('_', ' ')
  if name.endswith(_ACCURACY):
    return f'{label} right, %', lambda value: f'{100 * value:.1f}'
  if name == 'images':
    return label, lambda value: f'{int(value)}'
  return label, lambda value: f'{value:.4g}'
