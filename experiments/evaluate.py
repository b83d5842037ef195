"""Evaluates a trained run at several numbers of inner steps.

    python -m experiments.evaluate --workdir=runs/n4_d4 --iterations=5,10,20,40
    python -m experiments.evaluate --workdir=runs/n4_d4 --restarts=1,2,4,8

Prints a table, saves it as `WORKDIR/evaluation/table.json` (or in --output) and
draws figures beside it. With --restarts every set is decoded from several
starts, and the one of least energy is kept. The configured number of steps is
marked with a star.
Of a run on a data file (own_sets), --data=FILE says where that file is now, or
names another file, all of whose sets are then evaluated, in a table of its own.

    python -m experiments.evaluate --workdir=runs/clevr \
      --clevr_source=CLEVR_v1.0 --num_objects=3..6 --restarts=1,4 \
      --json=scores.json

Of a run on CLEVR pictures, --clevr_source=DIR evaluates on the val pictures of
another unpacked archive, and --num_objects leaves scenes of other numbers of
objects out. --json writes the table to a single file; of CLEVR scenes in
percent.

Of a run with a moving average of its parameters (config.ema_decay), --noema
evaluates the parameters themselves, in a table of their own. --seed=K draws
other random starts than the evaluation of the run does, also in its own table.

With --pretrained=NAME in place of --workdir it evaluates a model that comes
with the package, and saves to runs/pretrained/NAME.
"""

from absl import flags

from experiments import command_line
from experiments import model_flags
from idspn_jax import errors

_ITERATIONS = flags.DEFINE_list(
  'iterations', None, 'Inner steps; default: half, once, twice, four times T.'
)
_RESTARTS = flags.DEFINE_list(
  'restarts', None, 'Numbers of starts; default: the configured number.'
)
_FIGURES = flags.DEFINE_bool('figures', True, 'Draw figures.')
_DATA = flags.DEFINE_string(
  'data', None, 'own_sets: where the data file is now, or another file.'
)
_OUTPUT = flags.DEFINE_string(
  'output', None, 'Directory of table and figures; default: in the run.'
)
_CLEVR_SOURCE = flags.DEFINE_string(
  'clevr_source',
  None,
  'clevr: an unpacked CLEVR_v1.0, or the folder that holds it, on whose val '
  "pictures to evaluate instead of the run's own test pictures.",
)
_NUM_OBJECTS = flags.DEFINE_string(
  'num_objects',
  None,
  'clevr: evaluate scenes of so many objects only, like 3..6; default: what '
  "the run's config says.",
)
_EMA = flags.DEFINE_bool(
  'ema', True, 'Evaluate the moving average of the parameters, if there is one.'
)
_SEED = flags.DEFINE_integer(
  'seed',
  None,
  'Of the random numbers of the evaluation, such as sampled starts; default: '
  "the run's seed.",
  lower_bound=0,
  upper_bound=2**32 - 1,
)
_JSON = flags.DEFINE_string('json', None, 'File to write the table to as well.')

_MOST = 1_000_000
_MOST_RESTARTS = 1_000


def _iterations(run):
  if not run.task.iterates:
    if _ITERATIONS.value is not None:
      raise errors.UserError('This model has no inner steps; no --iterations.')
    return [None]
  if _ITERATIONS.value is None:
    trained_with = run.config.model.iterations
    return sorted({max(1, trained_with * f // 2) for f in (1, 2, 4, 8)})
  return command_line.counts('iterations', _ITERATIONS.value, '5,10,20', _MOST)


def _restarts(run):
  if _RESTARTS.value is None:
    return [None]
  if not run.task.iterates:
    raise errors.UserError('This model has no inner steps; no --restarts.')
  return command_line.counts(
    'restarts', _RESTARTS.value, '1,2,4,8', _MOST_RESTARTS
  )


def _check_pictures():
  """Refuses flags of CLEVR pictures for a run of another task."""
  from idspn_jax.tasks import registry

  given = {'clevr_source': _CLEVR_SOURCE, 'num_objects': _NUM_OBJECTS}
  given = [name for name, flag in given.items() if flag.value is not None]
  if not given:
    return
  if _CLEVR_SOURCE.value == '':
    raise errors.UserError('--clevr_source is empty; give a folder.')
  if _CLEVR_SOURCE.value and _DATA.value:
    raise errors.UserError('Give either --data or --clevr_source, not both.')
  task = model_flags.task()
  if not registry.has_scenes(task):
    raise errors.UserError(
      f'--{given[0]} is for pictures of CLEVR scenes (task clevr); this run '
      f'is of task {task}.'
    )


def main(argv):
  """Evaluates, prints the table, saves it and the figures."""
  del argv
  # Here, so that --help and wrong flags answer at once.
  from idspn_jax.runs import files
  from idspn_jax.studies import evaluations

  model_flags.check('to evaluate')
  chosen = None
  if _NUM_OBJECTS.value is not None:
    chosen = command_line.integer_range(
      'num_objects', _NUM_OBJECTS.value, '3..6'
    )
  json_path = _JSON.value
  if json_path is not None:
    json_path = files.local_path(json_path, '--json')
    evaluations.check_json(json_path)
  _check_pictures()
  run = model_flags.load(
    _CLEVR_SOURCE.value or _DATA.value, chosen, ema=_EMA.value
  )
  counts, restarts = _iterations(run), _restarts(run)
  output = _OUTPUT.value or evaluations.default_output(run, _SEED.value)
  output = files.local_path(output, '--output')
  # Before anything is computed.
  evaluations.check_output(output, given=bool(_OUTPUT.value))
  table = evaluations.evaluate_at(run, counts, restarts, _SEED.value)
  print(evaluations.format_table(table))
  if json_path is not None:
    files.write_json(json_path, evaluations.json_table(run, table))
    print(f'Saved {json_path}')
  for path in evaluations.save(run, table, output, _FIGURES.value):
    print(f'Saved {path}')
  return 0


if __name__ == '__main__':
  command_line.run(main)
