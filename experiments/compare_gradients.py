"""Compares exact with approximate gradients of the inner argmin.

    python -m experiments.compare_gradients --pretrained=multisets_n4_d4 \
      --curves=results/gradients --out=runs/compare
    python -m experiments.compare_gradients --workdir=runs/n4_d4 --out=DIR
    python -m experiments.compare_gradients \
      --config=configs/random_multisets.py:n=4,d=4 --train_steps=500 --out=DIR

Of a trained model (--pretrained or --workdir) or a fresh one (--config) it
measures, on --sets test sets in float64, every gradient mode against the exact
one: a dense solve with the Hessian of the energy at an optimum that has
converged to rounding errors. Sets without an exact gradient (a singular or
indefinite Hessian, an optimum on a kink, or none found) are counted and left
out. Then it times whole training steps under every mode, and reads off their
memory.

With --config the same model with a smooth encoder, tanh and sum pooling, is
studied beside it (--nosmooth leaves it out), and with --train_steps=N both are
trained under every mode with Adam and SGD: the learning rate of each mode is
tuned on a grid, then --seeds seeds are trained together for N steps. What is in
--out already is not trained again. --curves=DIR takes such curves and trained
models from an earlier study.

Writes report.html, with all tables and figures inside, report.json, CSV files
and the figures to --out.
"""

from absl import flags

from experiments import command_line
from experiments import config_flag
from experiments import model_flags
from idspn_jax import errors

_CONFIG = config_flag.define()
_OUT = flags.DEFINE_string('out', None, 'Where the results go.')
_SETS = flags.DEFINE_integer('sets', 64, 'Test sets.', lower_bound=1)
_ITERATIONS = flags.DEFINE_list(
  'iterations',
  ['1', '2', '5', '10', '20', '50', '100'],
  'Numbers of inner steps.',
)
_SMOOTH = flags.DEFINE_bool(
  'smooth', True, 'With --config: study tanh and sum pooling beside it.'
)
_TRAIN_STEPS = flags.DEFINE_integer(
  'train_steps', 0, 'Training steps of every mode; 0 for none.', lower_bound=0
)
_TUNE_STEPS = flags.DEFINE_integer(
  'tune_steps', 150, 'Training steps for every learning rate.', lower_bound=1
)
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Seeds to train.', lower_bound=1)
_REPEATS = flags.DEFINE_integer(
  'repeats', 5, 'Timed training steps of every mode; 0 measures no cost.', 0
)
_CURVES = flags.DEFINE_string(
  'curves', None, 'Directory of an earlier study with training curves.'
)
_MOST = 10_000


def _check():
  """Refuses flags that do not go together; returns the output directory.

  Raises:
    UserError: naming them.
  """
  from idspn_jax.runs import files
  from idspn_jax.studies import gradient_training

  if _CONFIG.value is None:
    model_flags.check('to study (or --config=FILE for a fresh model)')
    if _TRAIN_STEPS.value:
      raise errors.UserError(
        f'--train_steps={_TRAIN_STEPS.value} trains fresh models; give '
        '--config in place of --workdir or --pretrained.'
      )
  elif flags.FLAGS.workdir or flags.FLAGS.pretrained:
    raise errors.UserError(
      'Give one of --config, --workdir and --pretrained, not two.'
    )
  if _TRAIN_STEPS.value and _CURVES.value:
    raise errors.UserError(
      'Give --train_steps to train, or --curves to read; not both.'
    )
  chunk = gradient_training.CHUNK
  for name, flag in (
    ('train_steps', _TRAIN_STEPS),
    ('tune_steps', _TUNE_STEPS),
  ):
    if flag.value % chunk:
      raise errors.UserError(
        f'--{name}={flag.value} must be a multiple of {chunk}.'
      )
  if not _OUT.value:
    raise errors.UserError('Say where the results go: --out=DIR.')
  out = files.local_path(_OUT.value, '--out')
  files.make_directory(out, '--out')
  return out


def _name(config):
  return f'{config.model.activation}_{config.model.pool}'


def _configs():
  """The configs of --config, by name: its own, and the smooth one."""
  own = _CONFIG.value
  configs = {_name(own): own}
  if _SMOOTH.value:
    smooth = own.copy_and_resolve_references()
    with smooth.unlocked():
      smooth.model.activation, smooth.model.pool = 'tanh', 'sum'
    configs.setdefault(_name(smooth), smooth)
  return configs


def _fresh(config, out):
  import jax

  from idspn_jax.runs import config as config_lib
  from idspn_jax.runs import loading
  from idspn_jax.studies import gradient_problem
  from idspn_jax.tasks import registry

  config_lib.check(config)
  experiment = registry.build(config)
  # Before any training.
  gradient_problem.check(config, experiment.task)
  variables = experiment.task.init(jax.random.key(config.seed))
  data = experiment.data(config.seed)
  return loading.LoadedRun(out, config, experiment.task, data, 0, variables)


def _stored(directory):
  """An earlier study's training curves and trained models."""
  import os

  import ml_collections

  from idspn_jax.runs import files
  from idspn_jax.runs import pretrained
  from idspn_jax.studies import gradient_curves

  directory = files.local_path(directory, '--curves')
  content = gradient_curves.read(directory)
  if content is None:
    path = os.path.join(directory, gradient_curves.FILE)
    raise errors.UserError(f'--curves: there is no {path}.')
  models, configs = {}, {}
  for name, config in content['configs'].items():
    configs[name] = ml_collections.ConfigDict(config)
    path = gradient_curves.trained_path(directory, name)
    if os.path.exists(path):
      models[f'{name}_trained'] = pretrained.read(path, directory)
  return content, models, configs


def _progress(title, text):
  print(f'{title}\n\n{text}\n', flush=True)


def _train(configs, out):
  from idspn_jax.studies import gradient_curves

  def show(row):
    losses = ', '.join(f'{loss:.3g}' for loss in row['test_loss'])
    print(
      f'Trained {row["model"]} by {row["optimizer"]} under {row["setting"]}: '
      f'rate {row["rate"]:g}, test losses {losses}',
      flush=True,
    )

  return gradient_curves.train(
    configs,
    out,
    seeds=_SEEDS.value,
    tune_steps=_TUNE_STEPS.value,
    steps=_TRAIN_STEPS.value,
    progress=show,
  )


def _models(report, out):
  """The models to study, the configs whose costs are measured, and its own.

  Of its own, which are not those of earlier curves, the options are too.
  """
  import os

  models, configs, training = {}, {}, None
  if _CONFIG.value is None:
    run = model_flags.load()
    name = flags.FLAGS.pretrained or os.path.basename(run.workdir.rstrip('/'))
    models[name], configs[name] = run, run.config
  else:
    configs = _configs()
    models = {f'{k}_fresh': _fresh(c, out) for k, c in configs.items()}
  own = set(configs)
  if _TRAIN_STEPS.value:
    training = _train(configs, out)
  directory = out if _TRAIN_STEPS.value else _CURVES.value
  if directory:
    training, trained, more = _stored(directory)
    models.update(trained)
    configs = {**more, **configs}
    report.add_training(training)
  return models, configs, own


def main(argv):
  """Compares, prints, and writes the report."""
  del argv
  out = _check()
  iterations = command_line.counts(
    'iterations', _ITERATIONS.value, '1,10,100', _MOST
  )
  from idspn_jax.studies import gradient_report

  report = gradient_report.Report()
  models, configs, own = _models(report, out)
  for name, run in models.items():
    print(f'# {name}\n', flush=True)
    report.add_model(
      name, run, sets=_SETS.value, iterations=iterations, progress=_progress
    )
    report.save_tables(out)
  if _REPEATS.value:
    for name, config in configs.items():
      table = report.add_cost(name, config, _REPEATS.value)
      _progress(f'Cost of a training step: {name}', table)
      if name in own:
        table = report.add_option_cost(name, config, _REPEATS.value)
        _progress(f'Cost of the modes’ options: {name}', table)
      report.save_tables(out)
  for text in report.answers():
    print(text)
  for path in report.save(out):
    print(f'Saved {path}')
  return 0


if __name__ == '__main__':
  command_line.run(main)
