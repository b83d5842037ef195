"""Studies several starts on a trained run: what they bring, how to draw them.

    python -m experiments.study_restarts --workdir=runs/n4_d4 --sets=2560

Needs a run of random_multisets with a learned initial set;
--pretrained=multisets_n4_d4 in place of --workdir takes the one that comes with
the package. Prints and saves in --output, by default `WORKDIR/restart_study`:
`study.json` with the losses for numbers of starts, the median energies of the
targets beside those of the kept sets, the losses for noise scales, ways to draw
starts, ways to spend the same number of inner steps, and cheaper searches;
`losses.png`, the distribution of losses before and after; and `stuck_set.png`,
a set that one start does not solve. Every number is a mean over the first test
sets, unless it says otherwise. --sections=judge measures only whether the
energy leads to the targets, and the numbers of starts.
"""

import os

from absl import flags

from experiments import command_line
from experiments import model_flags

_SETS = flags.DEFINE_integer('sets', 2560, 'Test sets.', lower_bound=128)
_SECTIONS = flags.DEFINE_list(
  'sections', None, 'Parts of study.json to measure; default: all.'
)
_OUTPUT = flags.DEFINE_string('output', None, 'Where the results go.')


def main(argv):
  """Runs the study, prints it, saves it with its figures."""
  del argv
  model_flags.check('to study')
  # Here, so that --help and wrong flags answer at once.
  from idspn_jax.runs import files
  from idspn_jax.studies import restart_report

  run = model_flags.load()
  output = _OUTPUT.value or os.path.join(run.workdir, 'restart_study')
  output = files.local_path(output, '--output')
  files.make_directory(output, '--output')
  report = restart_report.Report(run, _SETS.value)
  for title, rows in report.sections(_SECTIONS.value):
    print(f'{title}\n\n{rows}\n', flush=True)
  for path in report.save(output):
    print(f'Saved {path}')
  return 0


if __name__ == '__main__':
  command_line.run(main)
