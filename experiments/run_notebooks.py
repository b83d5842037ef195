"""Executes the notebooks and stores them with their outputs.

    python -m experiments.run_notebooks            all of experiments/notebooks
    python -m experiments.run_notebooks 02 04      those whose names begin so

Each script (jupytext's percent format) becomes the `.ipynb` beside it. What a
cell writes to stderr (progress bars, warnings) is not stored.
"""

import os
import pathlib
import sys
import time

import jupytext
import nbclient

FOLDER = pathlib.Path(__file__).with_name('notebooks')
_SECONDS = 1_800  # Most for a cell.


def _worth_storing(outputs):
  """Without stderr and what figures return; printed text as one output."""
  kept = []
  for out in outputs:
    text = out.get('data', {}).get('text/plain', '')
    shown = set(out.get('data', {})) - {'text/plain'}
    if out.get('name') == 'stderr':
      continue
    if text.startswith(('<matplotlib', 'Text(')) and not shown:
      continue
    if kept and out.output_type == kept[-1].output_type == 'stream':
      kept[-1].text += out.text
    else:
      kept.append(out)
  return kept


def run(script: pathlib.Path) -> pathlib.Path:
  """Executes a script's cells in a kernel of this Python; returns the file.

  Args:
    script: the notebook as a script.

  Raises:
    nbclient.exceptions.CellExecutionError: if a cell fails.
  """
  notebook = jupytext.read(script)
  client = nbclient.NotebookClient(
    notebook,
    timeout=_SECONDS,
    kernel_name='python3',
    record_timing=False,
    resources={'metadata': {'path': str(FOLDER)}},
  )
  # Another backend than the kernel's own would leave all figures out.
  env = {k: v for k, v in os.environ.items() if k != 'MPLBACKEND'}
  client.execute(env=env)
  for number, cell in enumerate(notebook.cells):
    # Random ids would change with every execution.
    cell['id'] = f'cell-{number}'
    if cell.cell_type == 'code':
      cell.outputs = _worth_storing(cell.outputs)
  # The rest of it depends on the machine.
  notebook.metadata['language_info'] = {'name': 'python'}
  path = script.with_suffix('.ipynb')
  jupytext.write(notebook, path)
  return path


def main(names: list[str]) -> None:
  """Executes the notebooks whose names begin with one of `names`, or all."""
  scripts = sorted(FOLDER.glob('[0-9]*.py'))
  chosen = [
    path for path in scripts if not names or path.name.startswith(tuple(names))
  ]
  if not chosen:
    known = ', '.join(path.stem for path in scripts)
    sys.exit(
      f'No notebook begins with {" or ".join(names)}; there are {known}.'
    )
  for script in chosen:
    start = time.monotonic()
    path = run(script)
    seconds, size = time.monotonic() - start, path.stat().st_size
    print(f'{path.name}: {seconds:.0f} s, {size / 1e3:.0f} kB', flush=True)


if __name__ == '__main__':
  main(sys.argv[1:])
